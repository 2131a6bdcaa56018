"""Reads the events that a replacement takes back or lets count, and where it was closed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.clickhouse_clauses import ARROW_SETTINGS
from pipelines.clickhouse_corrections import (
    ClickHouseCorrections,
    corrected_before,
    corrected_rows,
)
from pipelines.clickhouse_dead_letters import rows_of
from pipelines.correcting import TARGET_SCHEMA, Row, Target
from pipelines.outage import TransientError
from pipelines.position import LogPartition
from pipelines.replacement import Replacement
from pipelines.replacing import Scope

_PIECE_ROWS = 50_000
_PLACE = "log, partition, offset, index"
_AT = "at_log, at_partition, at_offset, at_index"


@dataclass(slots=True)
class ClickHouseReplacements:
    """A `ReplacementTables` over usage_events, usage_corrections and usage_replacements."""

    client: Any
    corrections: ClickHouseCorrections

    def plain(self, replacement: Replacement, scope: Scope) -> Iterator[Any]:
        """Yield events in the range that were never corrected; see `ReplacementTables`."""
        return self._events(replacement, scope, "replacement = ''")

    def held(self, replacement: Replacement, scope: Scope) -> Iterator[Any]:
        """Yield events sent for it that were never corrected; see `ReplacementTables`."""
        return self._events(replacement, scope, "replacement = {replacement:String}")

    def corrected(self, replacement: Replacement, scope: Scope) -> Iterator[Target]:
        """Yield events in the range that were corrected; see `ReplacementTables`."""
        before = corrected_before(scope.at, scope.below)
        sql = (
            "SELECT DISTINCT hex(identity) FROM usage_corrections"
            f" WHERE {_in_range(replacement)} AND {_own(scope)} AND {before}"
        )
        hashes = [row[0] for row in rows_of(self.client, sql, _values(replacement))]
        identities = [bytes.fromhex(text) for text in hashes]
        found = self.corrections.of_identities(replacement.tenant, identities, before)
        for place, target in sorted(found.items()):
            if place.at == scope.at or place.at.log < scope.at.log:
                yield target

    def replaced(self, replacement: Replacement, scope: Scope) -> Iterator[list[Row]]:
        """Yield, in pieces, what this replacement did last; see `ReplacementTables`."""
        before = corrected_before(scope.at, scope.below)
        mine = (
            f"request = {{replacement:String}} AND kind = 'replace' AND {_own(scope)}"
            f" AND {before} AND ({_PLACE}, revision) IN (SELECT {_PLACE}, max(revision)"
            f" FROM usage_corrections WHERE tenant = {{tenant:String}} AND {before}"
            f" GROUP BY {_PLACE})"
        )
        rows = corrected_rows(self.client, mine, f"{_PLACE}, {_AT}", _values(replacement))
        for first in range(0, len(rows), _PIECE_ROWS):
            yield rows[first : first + _PIECE_ROWS]

    def is_closed(self, replacement: Replacement, at: LogPartition, below: int) -> bool:
        """Tell whether a record below `below` of a partition closed it there."""
        found = rows_of(
            self.client,
            "SELECT 1 FROM usage_replacements WHERE tenant = {tenant:String}"
            " AND replacement = {replacement:String}"
            f" AND log = {at.log} AND partition = {at.partition} AND offset < {below} LIMIT 1",
            _values(replacement),
        )
        return bool(found)

    def _events(self, replacement: Replacement, scope: Scope, which: str) -> Iterator[Any]:
        before = corrected_before(scope.at, scope.below)
        sql = (
            f"SELECT {', '.join(TARGET_SCHEMA.names)} FROM usage_events FINAL"
            f" WHERE {_in_range(replacement)} AND {which} AND {_own(scope)}"
            f" AND ({_PLACE}) NOT IN (SELECT {_PLACE} FROM usage_corrections"
            f"  WHERE tenant = {{tenant:String}} AND {before}) ORDER BY {_PLACE}"
        )
        try:
            with self.client.query_arrow_stream(
                sql,
                parameters=_values(replacement),
                settings=ARROW_SETTINGS,
                use_strings=True,
            ) as batches:
                for batch in batches:
                    table = pa.Table.from_batches([batch]).cast(TARGET_SCHEMA)
                    if table.num_rows:
                        yield table.combine_chunks()
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error


def _values(replacement: Replacement) -> dict[str, Any]:
    return {
        "tenant": replacement.tenant,
        "replacement": replacement.name,
        "subject": replacement.subject or "",
        "source": replacement.source or "",
        "type": replacement.type or "",
    }


def _in_range(replacement: Replacement) -> str:
    start_us, end_us = replacement.interval_us
    clauses = [
        "tenant = {tenant:String}",
        f"time >= fromUnixTimestamp64Micro({start_us}, 'UTC')",
        f"time < fromUnixTimestamp64Micro({end_us}, 'UTC')",
    ]
    named: Mapping[str, str | None] = {
        "subject": replacement.subject,
        "source": replacement.source,
        "type": replacement.type,
    }
    clauses += [f"{name} = {{{name}:String}}" for name, value in named.items() if value is not None]
    return " AND ".join(clauses)


SPREAD = """arrayMap(m -> bitXor(m, bitShiftRight(m, 13)), arrayMap(
    h -> bitAnd(bitXor(h, bitShiftRight(h, 15)) * 0x2C1B3C6D, 0xFFFFFFFF), [arrayFold(
        (h, i) -> bitAnd(bitXor(h, toUInt64(reinterpretAsUInt8(
            substring(concat(tenant, unhex('FF'), subject), i, 1)))) * 0x01000193, 0xFFFFFFFF),
        range(1, length(tenant) + length(subject) + 2), toUInt64(0x811C9DC5))]))[1]"""
"""What `ingest.topic.spread` says of the columns tenant and subject."""


def _own(scope: Scope) -> str:
    """Say that an event is the scope's to answer for, by where it stands."""
    at = scope.at
    return (
        f"((log = {at.log} AND partition = {at.partition} AND offset < {scope.below})"
        f" OR (log < {at.log} AND {SPREAD} % {scope.partitions} = {at.partition}))"
    )
