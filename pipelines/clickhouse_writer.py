"""Writes what the partitions of a worker have flushed into ClickHouse.

The order makes a crash harmless: events, identities, copies, dead letters, quarantine, rejections
and corrections; then windows; then progress. Every insert is waited for; one that may not have
happened is made again, which changes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from pipelines.fold import Rejection
from pipelines.outage import TransientError
from pipelines.partition import STORED_SCHEMA, Flush
from pipelines.position import LogPartition
from pipelines.quarantine import QUARANTINED_SCHEMA
from pipelines.record import DeadLetter
from pipelines.window_rows import window_table

_MONTHS_PER_INSERT = 50
"""ClickHouse refuses one insert into over 100 partitions (error 252)."""

# Replacing and summing engines else merge each insert within itself, row by row, which costs as
# much as all the rest; no key comes twice in one write, and readers merge parts anyway.
_SETTINGS = {"optimize_on_insert": 0}

_PASSING = frozenset({3, 159, 202, 209, 210, 241, 242, 252, 319})
"""Errors of a server that is too busy for now: timeouts, memory, too many queries or parts."""

_REASON_CHARS = 300

_PIECE_BYTES = 16 * 1024
"""What is shorter is sent together: a call costs more than to copy so much."""

_EVENT_COLUMNS = [
    "tenant", "type", "subject", "time", "source", "id", "data", "extensions", "time_stamped",
    "ingested_at", "identity", "log", "partition", "offset", "index",
]  # fmt: skip
_IDENTITY_COLUMNS = ["identity", "log", "partition", "offset", "index", "body_hash"]


@dataclass(slots=True)
class ClickHouseWriter:
    """Writes flushes; a flush is stored when `write` returns."""

    client: Any

    def write(self, flushes: Sequence[Flush]) -> dict[str, int]:
        """Write flushes of one worker, one insert per table; return the rows per table.

        Raises:
            TransientError: ClickHouse is away or too busy; the same flushes may be written again.
        """
        try:
            return self._write(flushes)
        except DatabaseError as error:
            code = getattr(error, "code", None)
            if isinstance(error, OperationalError) or code in _PASSING:
                reason = str(error).partition("\n")[0][:_REASON_CHARS]
                raise TransientError(f"ClickHouse does not take rows: {reason}") from error
            raise

    def _write(self, flushes: Sequence[Flush]) -> dict[str, int]:
        rows: dict[str, int] = {}
        self._write_events(flushes, rows)
        self._insert_rows(
            "usage_duplicates", [_duplicate_row(f, d) for f in flushes for d in f.duplicates], rows
        )
        self._insert_rows(
            "usage_dead_letters", [letter_row(d) for f in flushes for d in f.dead_letters], rows
        )
        aside = [_with_place(t, f, QUARANTINED_SCHEMA) for f in flushes for t in f.quarantined]
        if aside:
            self._insert("usage_quarantine", pa.concat_tables(aside).combine_chunks(), rows)
        self._insert_rows(
            "usage_rejections",
            [rejection_row(f.at, r) for f in flushes for r in f.rejections],
            rows,
        )
        for flush in flushes:
            for table in flush.corrections:
                self._insert("usage_corrections", table, rows)
        self._insert_rows(
            "usage_replacements", [_closed_row(f, c) for f in flushes for c in f.closed], rows
        )
        blocks = [block for flush in flushes for block in flush.windows]
        self._insert("usage_windows", window_table(blocks), rows)
        self._insert_rows("usage_progress", [_progress_row(f) for f in flushes], rows)
        return rows

    def _write_events(self, flushes: Sequence[Flush], rows: dict[str, int]) -> None:
        tables = [_with_place(table, f, STORED_SCHEMA) for f in flushes for table in f.events]
        if not tables:
            return
        events = pa.concat_tables(tables)
        for part in _by_months(events.select(_EVENT_COLUMNS)):
            self._insert("usage_events", part, rows)
        self._insert("usage_identities", events.select(_IDENTITY_COLUMNS), rows)

    def _insert(self, table: str, data: Any, rows: dict[str, int]) -> None:
        if data.num_rows:
            body = Body.of(data, self.client.write_compression)
            self.client.raw_insert(
                table,
                data.column_names,
                body,
                settings=_SETTINGS,
                fmt="ArrowStream",
                transport_settings={"Content-Length": str(body.size)},
            )
            rows[table] = rows.get(table, 0) + data.num_rows

    def _insert_rows(self, table: str, data: list[dict[str, Any]], rows: dict[str, int]) -> None:
        if data:
            self._insert(table, pa.Table.from_pylist(data), rows)


@dataclass(slots=True)
class Body:
    """The body of an insert: pieces of Arrow's own memory, which are sent from where they lie.

    To lay them out one behind the other would cost as much as to make them.
    """

    pieces: list[Any] = field(default_factory=list)
    size: int = 0
    closed: bool = False
    """Never so: Arrow asks."""

    @classmethod
    def of(cls, data: Any, compression: str | None) -> "Body":
        """Return a table as a stream, compressed as the client would where Arrow can."""
        body = cls()
        can = compression in {"lz4", "zstd"}
        options = pa.ipc.IpcWriteOptions(compression=compression if can else None)
        with pa.ipc.new_stream(pa.PythonFile(body, "w"), data.schema, options=options) as stream:
            stream.write_table(data)
        return body

    def write(self, piece: Any) -> int:
        """Take what Arrow writes."""
        self.size += len(piece)
        if len(piece) >= _PIECE_BYTES:
            self.pieces.append(piece)
        elif self.pieces and isinstance(self.pieces[-1], bytearray):
            self.pieces[-1] += piece
        else:
            self.pieces.append(bytearray(piece))
        return len(piece)

    def flush(self) -> None:
        """Nothing waits here."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.pieces)


def _by_months(events: Any) -> Iterator[Any]:
    """Yield events of so few months that one insert may hold them."""
    bounds = pc.min_max(events.column("time")).as_py()
    if bounds["max"] - bounds["min"] < timedelta(days=28 * (_MONTHS_PER_INSERT - 1)):
        yield events
        return
    months = pc.floor_temporal(events.column("time"), unit="month")
    distinct = pc.unique(months).sort()
    for first in range(0, len(distinct), _MONTHS_PER_INSERT):
        yield events.filter(pc.is_in(months, value_set=distinct.slice(first, _MONTHS_PER_INSERT)))


def _with_place(table: Any, flush: Flush, schema: Any) -> Any:
    assert table.schema.equals(schema)  # noqa: S101 - written by PartitionLog
    for name, value in (("log", flush.at.log), ("partition", flush.at.partition)):
        table = table.append_column(name, pa.repeat(pa.scalar(value, pa.uint16()), table.num_rows))
    return table


def _closed_row(flush: Flush, closed: Any) -> dict[str, Any]:
    return {
        "tenant": closed.replacement.tenant,
        "replacement": closed.replacement.name,
        "action": closed.action,
        "log": flush.at.log,
        "partition": flush.at.partition,
        "offset": closed.offset,
    }


def _duplicate_row(flush: Flush, duplicate: Any) -> dict[str, Any]:
    return {
        "tenant": duplicate.tenant,
        "source": duplicate.source,
        "id": duplicate.id,
        "log": flush.at.log,
        "partition": flush.at.partition,
        "offset": duplicate.offset,
        "index": duplicate.index,
        "first_offset": duplicate.first.offset,
        "first_index": duplicate.first.index,
    }


def letter_row(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as a row of usage_dead_letters."""
    return {
        "tenant": letter.tenant,
        "log": letter.at.log,
        "partition": letter.at.partition,
        "offset": letter.offset,
        "index": letter.index,
        "kind": letter.kind,
        "reason": letter.reason,
        "body": letter.body,
        "ingested_at": pa.scalar(letter.ingested_at_ms, pa.timestamp("ms", tz="UTC")).as_py(),
    }


def rejection_row(at: LogPartition, rejection: Rejection) -> dict[str, Any]:
    """Return a rejection as a row of usage_rejections."""
    return {
        "tenant": rejection.meter.tenant,
        "meter": rejection.meter.definition.key,
        "meter_version": rejection.meter.version,
        "log": at.log,
        "partition": at.partition,
        "offset": rejection.offset,
        "index": rejection.index,
        "reason": rejection.reason,
    }


def _progress_row(flush: Flush) -> dict[str, Any]:
    return {
        "log": flush.at.log,
        "partition": flush.at.partition,
        "next_offset": flush.next_offset,
        "max_time": pa.scalar(flush.time_max_us, pa.timestamp("us", tz="UTC")).as_py(),
    }
