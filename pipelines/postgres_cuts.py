"""Cuts, and what they are laid over: the chain in Postgres, segments, meters by their key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from pipelines.cut import AsOf, EffectiveMeter
from pipelines.fold import ActiveMeter
from pipelines.meter import MeterDefinition
from pipelines.position import Log, LogPartition
from pipelines.usage import Cut

_FOREVER_US = 1 << 62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class PostgresCuts:
    """The chain of cuts per tenant; the connection is in autocommit."""

    connection: "psycopg.Connection[Any]"

    @contextmanager
    def chain_locked(self, tenant: str) -> Iterator[None]:
        """Hold the tenant's chain: one cut is fixed at a time, whoever asks."""
        with self.connection.transaction():
            self.connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('cuts:' || %s, 0))", (tenant,)
            )
            yield

    def cuts_at_asking(self, tenant: str) -> bool:
        """Tell whether the tenant is on a virtual clock; raises LookupError for no such tenant."""
        row = self.connection.execute(
            "SELECT virtual_clock FROM tenants WHERE tenant = %s", (tenant,)
        ).fetchone()
        if row is None:
            raise LookupError(f"no tenant {tenant}")
        return bool(row[0])

    def current_log(self) -> Log:
        """Return the log that producers write to."""
        row = self.connection.execute(
            "SELECT log, topic, topic_id, partitions FROM logs ORDER BY log DESC LIMIT 1"
        ).fetchone()
        if row is None:
            raise LookupError("no log is open; run `tollbook up`")
        return Log(*row)

    def latest(self, tenant: str) -> Cut | None:
        """Return the last fixed cut of a tenant."""
        return self._cut("tenant = %s ORDER BY number DESC LIMIT 1", (tenant,))

    def by_number(self, tenant: str, number: int) -> Cut | None:
        """Return a fixed cut."""
        return self._cut("tenant = %s AND number = %s", (tenant, number))

    def offsets(self, cut: Cut) -> dict[LogPartition, int]:
        """Return the next offset per partition at a cut."""
        rows = self.connection.execute(
            "SELECT log, partition, next_offset FROM cut_offsets"
            " WHERE tenant = %s AND number = %s ORDER BY log, partition",
            (cut.tenant, cut.number),
        ).fetchall()
        return {LogPartition(log, partition): offset for log, partition, offset in rows}

    def fix(self, tenant: str, at: datetime, offsets: Mapping[LogPartition, int]) -> Cut:
        """Append a cut to the chain; called with the chain locked."""
        previous = self.latest(tenant)
        number = previous.number + 1 if previous is not None else 1
        if previous is not None:
            behind = self.offsets(previous)
            assert all(offsets[p] >= end for p, end in behind.items())  # noqa: S101
        revision = self.connection.execute(
            "SELECT revision FROM fact_revisions WHERE tenant = %s FOR UPDATE", (tenant,)
        ).fetchone()
        row = self.connection.execute(
            "INSERT INTO cuts (tenant, number, at, facts_revision) VALUES (%s, %s, %s, %s)"
            " RETURNING facts_revision",
            (tenant, number, at, revision[0] if revision else 0),
        ).fetchone()
        assert row is not None  # noqa: S101 - RETURNING
        with self.connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO cut_offsets VALUES (%s, %s, %s, %s, %s)",
                [(tenant, number, p.log, p.partition, end) for p, end in offsets.items()],
            )
        return Cut(tenant, number, at, row[0])

    def as_of(self, offsets: Mapping[LogPartition, int]) -> AsOf:
        """Lay offsets over the segments; see `AsOf`."""
        whole_below = {}
        for at, end in offsets.items():
            row = self.connection.execute(
                "SELECT s.start_offset, (SELECT min(n.start_offset) FROM segments n WHERE"
                "   n.log = s.log AND n.partition = s.partition"
                "   AND n.start_offset > s.start_offset)"
                " FROM segments s WHERE s.log = %s AND s.partition = %s AND s.start_offset < %s"
                " ORDER BY s.start_offset DESC LIMIT 1",
                (at.log, at.partition, end),
            ).fetchone()
            start, stop = row or (0, end)
            whole_below[at] = end if stop is not None and stop <= end else start
        return AsOf(dict(offsets), whole_below)

    def meter_versions(self, tenant: str, key: str) -> list[EffectiveMeter]:
        """Return the versions of a meter with the intervals they are in force for.

        Raises:
            LookupError: the tenant has no such meter.
        """
        rows = self.connection.execute(
            "SELECT definition_id, version, definition, CASE WHEN isfinite(effective_at)"
            " THEN effective_at END FROM meters WHERE tenant = %s AND key = %s ORDER BY version",
            (tenant, key),
        ).fetchall()
        if not rows:
            raise LookupError(f"no meter {key}; `tollbook apply` creates meters from YAML")
        starts = [-_FOREVER_US if at is None else _microseconds(at) for *_, at in rows]
        ends = [*starts[1:], _FOREVER_US]
        return [
            EffectiveMeter(
                ActiveMeter(number, tenant, version, MeterDefinition.model_validate(definition)),
                start,
                end,
            )
            for (number, version, definition, _), start, end in zip(rows, starts, ends, strict=True)
        ]

    def activated_at(
        self, versions: Sequence[EffectiveMeter], places: Iterable[LogPartition]
    ) -> dict[LogPartition, int]:
        """Return per partition the offset from which a meter counts; none where it never did."""
        definitions = [version.meter.definition_id for version in versions]
        found = {}
        for at in places:
            row = self.connection.execute(
                "SELECT start_offset FROM segments WHERE log = %s AND partition = %s"
                " AND definitions && %s::bigint[] ORDER BY sequence LIMIT 1",
                (at.log, at.partition, definitions),
            ).fetchone()
            if row is not None:
                found[at] = int(row[0])
        return found

    def lacking_activation(self, tenant: str) -> list[LogPartition]:
        """Return the partitions whose last segment does not yet count every meter of a tenant."""
        rows = self.connection.execute(
            "SELECT l.log, p.partition FROM (SELECT * FROM logs ORDER BY log DESC LIMIT 1) l,"
            " LATERAL generate_series(0, l.partitions - 1) AS p(partition)"
            " WHERE NOT coalesce((SELECT s.definitions @> (SELECT coalesce("
            "     array_agg(definition_id), '{}') FROM meters WHERE tenant = %s)"
            "   FROM segments s WHERE s.log = l.log AND s.partition = p.partition"
            "   ORDER BY sequence DESC LIMIT 1), false) ORDER BY 1, 2",
            (tenant,),
        ).fetchall()
        return [LogPartition(log, partition) for log, partition in rows]

    def _cut(self, condition: str, values: tuple[Any, ...]) -> Cut | None:
        row = self.connection.execute(
            f"SELECT tenant, number, at, facts_revision FROM cuts WHERE {condition}", values
        ).fetchone()
        return Cut(row[0], row[1], row[2].astimezone(UTC), row[3]) if row else None


def _microseconds(moment: datetime) -> int:
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
