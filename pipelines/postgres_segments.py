"""Where workers agree on segments, and find meters: the tables of 002_pipelines.sql."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pipelines.fold import ActiveMeter
from pipelines.meter import MeterDefinition
from pipelines.partition import SegmentMismatchError
from pipelines.position import LogPartition
from pipelines.quarantine import Streams
from pipelines.segment import Segment, SliceStart

_COLUMNS = (
    "log, partition, sequence, start_offset, started_at_ms, events_before, slice,"
    " horizon_slice, horizon_offset, horizon_at_ms, streams, definitions"
)


@dataclass(slots=True)
class PostgresSegments:
    """A `SegmentBook`; the connection is in autocommit."""

    connection: "psycopg.Connection[Any]"
    _meters: dict[int, ActiveMeter] = field(default_factory=dict)

    def agree(self, segment: Segment) -> Segment:
        """Return the agreed segment; see `SegmentBook.agree`."""
        values = (
            segment.at.log, segment.at.partition, segment.sequence, segment.start_offset,
            segment.started_at_ms, segment.events_before, segment.slice, segment.horizon_slice,
            segment.horizon_offset, segment.horizon_at_ms, Jsonb(segment.streams.to_content()),
        )  # fmt: skip
        self.connection.execute(
            f"INSERT INTO segments ({_COLUMNS}) SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
            " coalesce(array_agg(definition_id ORDER BY definition_id), '{}')"
            " FROM meters WHERE NOT archived"
            " ON CONFLICT DO NOTHING",
            values,
        )
        stored = self._read(segment.at, "sequence = %s", segment.sequence)
        if stored is None or replace(stored, definitions=()) != replace(segment, definitions=()):
            raise SegmentMismatchError(
                segment.at,
                f"computed {segment}, but {stored} is agreed; the log and what was stored of it"
                " no longer belong together",
            )
        return stored

    def resume(
        self, at: LogPartition, next_offset: int
    ) -> tuple[Segment | None, dict[int, SliceStart]]:
        """Return the segment to count again from, and the starts of the slices it looks at."""
        segment = self._read(at, "start_offset <= %s", next_offset)
        if segment is None:
            return None, {}
        rows = self.connection.execute(
            "SELECT slice, min(start_offset), min(started_at_ms), min(events_before) FROM segments"
            " WHERE log = %s AND partition = %s AND sequence <= %s AND slice >= %s GROUP BY slice",
            (at.log, at.partition, segment.sequence, segment.horizon_slice),
        ).fetchall()
        return segment, {number: SliceStart(*start) for number, *start in rows}

    def meters(self, definitions: Sequence[int]) -> list[ActiveMeter]:
        """Return meter definitions by id; see `SegmentBook.meters`."""
        missing = [number for number in definitions if number not in self._meters]
        if missing:
            rows = self.connection.execute(
                "SELECT definition_id, tenant, version, definition FROM meters"
                " WHERE definition_id = ANY(%s)",
                (missing,),
            ).fetchall()
            for number, tenant, version, definition in rows:
                parsed = MeterDefinition.model_validate(definition)
                self._meters[number] = ActiveMeter(number, tenant, version, parsed)
        return [self._meters[number] for number in definitions]

    def of_tenant(self, tenant: str) -> list[ActiveMeter]:
        """Return all versions of a tenant's meters."""
        rows = self.connection.execute(
            "SELECT definition_id FROM meters WHERE tenant = %s AND NOT archived"
            " ORDER BY definition_id",
            (tenant,),
        ).fetchall()
        return self.meters([number for (number,) in rows])

    def deployment(self) -> tuple[int, str]:
        """Return the seed of identity hashes, and a name for this deployment derived from it."""
        row = self.connection.execute("SELECT identity_seed FROM deployment").fetchone()
        if row is None:
            raise LookupError("the database has no deployment; run the migrations")
        seed = bytes(row[0])
        return int.from_bytes(seed, "big"), seed.hex()[:6]

    def _read(self, at: LogPartition, condition: str, value: int) -> Segment | None:
        row = (
            self.connection.cursor(row_factory=dict_row)
            .execute(
                f"SELECT {_COLUMNS} FROM segments WHERE log = %s AND partition = %s"
                f" AND {condition} ORDER BY start_offset DESC LIMIT 1",
                (at.log, at.partition, value),
            )
            .fetchone()
        )
        if row is None:
            return None
        row["at"] = LogPartition(row.pop("log"), row.pop("partition"))
        row["streams"] = Streams.from_content(row["streams"])
        row["definitions"] = tuple(row["definitions"])
        return Segment(**row)
