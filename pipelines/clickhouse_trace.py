"""Reads what is stored of one event: where it stands, its copies, its rejections."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.clickhouse_corrections import corrected_rows
from pipelines.clickhouse_dead_letters import KEY, ClickHouseDeadLetters, place_of, rows_of
from pipelines.clickhouse_quarantine import ClickHouseQuarantine
from pipelines.correcting import Row
from pipelines.dead_letter import KeptLetter
from pipelines.outage import TransientError
from pipelines.position import LogPartition, Position
from pipelines.record import COUNTED_SCHEMA
from pipelines.releaser import Vector

_POSITIONS_MAX = 100


@dataclass(slots=True)
class ClickHouseTrace:
    """An `EventTables` over the tables usage_*; the client may be shared."""

    client: Any
    released: Callable[[str, str], Vector]
    """Below which offsets all that was set aside of a source was sent again."""

    def positions(self, identity: bytes) -> list[Position]:
        """Return where an identity was first seen; see `EventTables`."""
        rows = rows_of(
            self.client,
            f"SELECT DISTINCT {KEY} FROM usage_identities"
            f" WHERE identity = unhex('{identity.hex()}') ORDER BY {KEY} LIMIT {_POSITIONS_MAX}",
            {},
        )
        return [Position(LogPartition(log, number), *place) for log, number, *place in rows]

    def event(self, tenant: str, identity: bytes, position: Position) -> Any:
        """Return the event as a table; see `EventTables`.

        Without FINAL, so that the indexes by identity and offset are used: rows of one position
        are equal.
        """
        try:
            table = self.client.query_arrow(
                f"SELECT {', '.join(COUNTED_SCHEMA.names)} FROM usage_events"
                f" WHERE tenant = {{tenant:String}} AND identity = unhex('{identity.hex()}')"
                f" AND offset = {position.offset} AND ({KEY}) = {place_of(position)} LIMIT 1",
                parameters={"tenant": tenant},
                settings={"output_format_arrow_low_cardinality_as_dictionary": 0},
                use_strings=True,
            )
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error
        return table.cast(COUNTED_SCHEMA)

    def corrections(self, tenant: str, identity: bytes, position: Position) -> list[Row]:
        """Return signed events of an event's corrections; see `EventTables`."""
        return corrected_rows(
            self.client,
            f"identity = unhex('{identity.hex()}') AND ({KEY}) = {place_of(position)}",
            "revision, sign",
            {"tenant": tenant},
        )

    def survivors(self, tenant: str, identity: bytes) -> dict[Position, Position]:
        """Return which event counts instead of voided copies; see `EventTables`."""
        rows = rows_of(
            self.client,
            f"SELECT {KEY}, survivor_log, survivor_partition, survivor_offset, survivor_index"
            " FROM usage_audit_voids WHERE tenant = {tenant:String}"
            f" AND identity = unhex('{identity.hex()}') AND revision = 0",
            {"tenant": tenant},
        )
        return {
            Position(LogPartition(*row[:2]), *row[2:4]): Position(LogPartition(*row[4:6]), *row[6:])
            for row in rows
        }

    def copies(
        self, tenant: str, source: str, event_id: str, first: Position, limit: int
    ) -> tuple[int, list[Position]]:
        """Return copies of an event; see `EventTables`. A copy lies behind it in its partition."""
        rows = rows_of(
            self.client,
            f"SELECT offset, index, count() OVER () FROM usage_duplicates FINAL"
            f" WHERE tenant = {{tenant:String}} AND log = {first.at.log}"
            f" AND partition = {first.at.partition} AND offset >= {first.offset}"
            f" AND first_offset = {first.offset} AND first_index = {first.index}"
            " AND source = {source:String} AND id = {id:String}"
            f" ORDER BY offset, index LIMIT {limit}",
            {"tenant": tenant, "source": source, "id": event_id},
        )
        copies = [Position(first.at, offset, index) for offset, index, _ in rows]
        return (rows[0][2] if rows else 0), copies

    def letters(self, tenant: str, source: str, event_id: str, limit: int) -> list[KeptLetter]:
        """Return dead letters whose JSON names a source and id; see `EventTables`."""
        return ClickHouseDeadLetters(self.client).of_event(tenant, source, event_id, limit)

    def set_aside(self, tenant: str, source: str, event_id: str, limit: int) -> list[KeptLetter]:
        """Return where an event waits in quarantine; see `EventTables`."""
        released = self.released(tenant, source)
        tables = ClickHouseQuarantine(self.client)
        return tables.of_event(tenant, source, event_id, released, limit)
