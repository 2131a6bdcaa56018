"""Finds copies in the tables, and writes what an audit takes back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.audit import VOID_SCHEMA, Copy, Vector
from pipelines.clickhouse_clauses import ARROW_SETTINGS, within
from pipelines.clickhouse_dead_letters import KEY, rows_of
from pipelines.clickhouse_writer import letter_row
from pipelines.correcting import CONTRIBUTION_SCHEMA, TARGET_SCHEMA, Row
from pipelines.cut import Proposal, Ranges
from pipelines.outage import TransientError
from pipelines.position import LogPartition, Position
from pipelines.record import DeadLetter

_PART = 1_000
"""Identities are looked at so many at a time: a query lists them."""
_FEW_PART = 50
"""New identities are looked up one by one where they are less than one in so many."""


@dataclass(slots=True)
class ClickHouseAudit:
    """An `AuditTables` over the tables usage_*."""

    client: Any

    def suspects(self, proposal: Proposal, behind: Vector) -> Iterator[list[bytes]]:
        """Yield identities to look at; see `AuditTables`."""
        new = _between(behind, proposal.offsets)
        found = sorted({*self._repeated(proposal, new), *self._corrected(proposal, new)})
        for first in range(0, len(found), _PART):
            yield found[first : first + _PART]

    def copies(self, proposal: Proposal, identities: Sequence[bytes]) -> Iterator[Copy]:
        """Yield where identities stand; see `AuditTables`."""
        rows = self._rows(
            f"SELECT DISTINCT hex(identity), {KEY}, hex(body_hash) FROM usage_identities"
            f" WHERE {_among(identities)} AND ({_below(proposal)}) ORDER BY ALL",
            {},
        )
        for identity, *place, body_hash in rows:
            yield Copy(bytes.fromhex(identity), _position(*place), bytes.fromhex(body_hash))

    def voided(self, proposal: Proposal, identities: Sequence[bytes]) -> set[Position]:
        """Return the positions that earlier audits voided; see `AuditTables`."""
        rows = self._rows(
            f"SELECT DISTINCT {KEY} FROM usage_audit_voids WHERE tenant = {{tenant:String}}"
            f" AND {_among(identities)} AND audit < {proposal.number} AND revision = 0",
            {"tenant": proposal.tenant},
        )
        return {_position(*row) for row in rows}

    def contributions(self, proposal: Proposal, identities: Sequence[bytes]) -> Iterator[Row]:
        """Yield stored events and the signed events of their corrections; see `AuditTables`."""
        names, among = ", ".join(TARGET_SCHEMA.names), _among(identities)
        sql = (
            f"SELECT {names}, toInt8(1) AS sign, toUInt32(0) AS revision, log AS at_log,"
            " partition AS at_partition, offset AS at_offset, index AS at_index"
            f" FROM usage_events FINAL WHERE tenant = {{tenant:String}} AND {among}"
            f" AND ({_below(proposal)})"
            f" UNION ALL SELECT {', '.join(CONTRIBUTION_SCHEMA.names)}"
            f" FROM usage_corrections FINAL WHERE tenant = {{tenant:String}} AND {among}"
            f" AND ({within(_between({}, proposal.offsets), 'offset', 'at_')})"
            f" AND ({_below(proposal)})"
        )
        try:
            table = self.client.query_arrow(
                f"SELECT * FROM ({sql}) ORDER BY {KEY}, revision, sign",
                parameters={"tenant": proposal.tenant},
                settings=ARROW_SETTINGS | _LONG,
                use_strings=True,
            )
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error
        yield from table.cast(CONTRIBUTION_SCHEMA).to_pylist()

    def write_voids(self, voids: Any, letters: Sequence[DeadLetter]) -> None:
        """Write what is taken back, and conflicts; see `AuditTables`."""
        assert voids.schema.equals(VOID_SCHEMA)  # noqa: S101 - made by the audit
        if letters:
            rows = pa.Table.from_pylist([letter_row(letter) for letter in letters])
            self._insert("usage_dead_letters", rows)
        self._insert("usage_audit_voids", voids)

    def write_windows(self, windows: Any) -> None:
        """Write rows of windows; see `AuditTables`."""
        self._insert("usage_windows", windows)

    def found(self, tenant: str, audit: int, limit: int) -> dict[str, Any]:
        """Return what an audit voided, JSON-ready: how many copies, and the first of them."""
        rows = self._rows(
            f"SELECT {KEY}, source, id, survivor_log, survivor_partition, survivor_offset,"
            " survivor_index, is_conflict, count() OVER (), sum(is_conflict) OVER ()"
            " FROM usage_audit_voids FINAL WHERE tenant = {tenant:String}"
            f" AND audit = {audit} AND revision = 0 ORDER BY {KEY} LIMIT {limit}",
            {"tenant": tenant},
        )
        return {
            "voided": rows[0][11] if rows else 0,
            "conflicts": rows[0][12] if rows else 0,
            "copies": [
                {
                    "position": str(_position(*row[:4])),
                    "source": row[4],
                    "id": row[5],
                    "duplicate_of": str(_position(*row[6:10])),
                    "is_conflict": row[10],
                }
                for row in rows
            ],
        }

    def _repeated(self, proposal: Proposal, new: Ranges) -> Iterator[bytes]:
        """Yield the identities that stand at several positions, one of them new."""
        places = within(new, "offset")
        if not places:
            return
        values = {"tenant": proposal.tenant}
        among = f"tenant = {{tenant:String}} AND ({places})"
        [(added,)] = self._rows(f"SELECT count() FROM usage_events WHERE {among}", values)
        [(every,)] = self._rows("SELECT count() FROM usage_identities", {})
        is_new = "true"
        if added * _FEW_PART < every:
            is_new = f"identity IN (SELECT identity FROM usage_events WHERE {among})"
        # In the order of the table's key each row is compared with the one before: no state grows.
        columns = ["identity", *KEY.split(", ")]
        before = ", ".join(f"lagInFrame({name}) OVER near AS was_{name}" for name in columns)
        sql = (
            f"SELECT DISTINCT hex(identity) FROM (SELECT {', '.join(columns)}, {before}"
            f" FROM usage_identities WHERE ({_below(proposal)}) AND {is_new} WINDOW near AS"
            f" (ORDER BY identity, {KEY} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW))"
            " WHERE identity = was_identity"
            f" AND ({KEY}) != ({', '.join(f'was_{name}' for name in columns[1:])})"
            f" AND (({places}) OR ({within(new, 'offset', 'was_')}))"
        )
        for (identity,) in self._rows(sql, values):
            yield bytes.fromhex(identity)

    def _corrected(self, proposal: Proposal, new: Ranges) -> Iterator[bytes]:
        """Yield the identities of voided copies that were corrected since."""
        places = within(new, "offset", "at_")
        if not places:
            return
        sql = (
            "SELECT DISTINCT hex(identity) FROM usage_corrections"
            f" WHERE tenant = {{tenant:String}} AND ({places}) AND identity IN"
            " (SELECT identity FROM usage_audit_voids WHERE tenant = {tenant:String})"
        )
        for (identity,) in self._rows(sql, {"tenant": proposal.tenant}):
            yield bytes.fromhex(identity)

    def _insert(self, table: str, rows: Any) -> None:
        try:
            self.client.insert_arrow(table, rows)
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error

    def _rows(self, sql: str, values: dict[str, Any]) -> Any:
        return rows_of(self.client, sql, values, _LONG)


_LONG = {"max_query_size": 4_000_000}


def _between(behind: Vector, ends: Vector) -> Ranges:
    return {at: (behind.get(at, 0), end) for at, end in ends.items()}


def _below(proposal: Proposal) -> str:
    return within(_between({}, proposal.offsets), "offset") or "false"


def _among(identities: Sequence[bytes]) -> str:
    return f"identity IN ({','.join(f'unhex({each.hex()!r})' for each in identities)})"


def _position(log: int, partition: int, offset: int, index: int) -> Position:
    return Position(LogPartition(log, partition), offset, index)
