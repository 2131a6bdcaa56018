"""The dataflow of one worker: source, one stateful step that owns order, sink.

One process, one Bytewax worker: partitions are spread over processes, never over a cluster.
Nothing is recovered from Bytewax: the state is rebuilt from the log.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from ingest.topic import ARROW_CONTENT_TYPE
from pipelines.clickhouse_writer import ClickHouseWriter
from pipelines.kafka_source import KafkaSource
from pipelines.outage import TransientError
from pipelines.partition import Flush, PartitionLog
from pipelines.position import LogPartition
from pipelines.record import Record, decode

FLUSH_SECONDS = 0.5
FLUSH_ROWS = 100_000
BEHIND_SECONDS = 3.0
"""A record so old was waited for already: what follows it is written in larger, cheaper pieces."""
BEHIND_FACTOR = 4
FEED_BYTES = 16 * 1024 * 1024
"""Records are counted together, once per write; this many bytes of them do not wait for it."""
QUIET_BYTES = 64 * 1024
"""Where no more comes than this at a time, there is nothing to gain by waiting for more."""
RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 5.0

Flushed = Callable[[Sequence[Flush], dict[str, int], float], None]
"""Called with what was written, the rows per table, and the seconds it took."""
Delayed = Callable[[TransientError, float], None]
"""Called with why a write did not happen, and the seconds until it is tried again."""


@dataclass(slots=True)
class Worker:
    """What the steps of one worker's dataflow share."""

    source: KafkaSource
    writer: ClickHouseWriter
    flushed: Flushed
    delayed: Delayed
    logs: dict[LogPartition, PartitionLog] = field(default_factory=dict)
    is_stopping: bool = False
    is_sound: bool = True
    """False where what was read last may not be what the log holds: it is not written."""
    turned_at: float = field(default_factory=time.monotonic)
    """When it last began to read or write, by the monotonic clock: one that hangs does neither."""
    outbox: list[Flush] = field(default_factory=list)
    """What was taken to be written, in order."""

    def settle(self, flush: Flush) -> None:
        """Write a flush and all before it; see `pipelines.partition.Desk`."""
        self.outbox.append(flush)
        self.write()

    def write(self) -> None:
        """Write all that was taken."""
        flushes, self.outbox = self.outbox, []
        if not flushes:
            return
        started = time.monotonic()
        rows = self._write_patiently(flushes)
        for flush in flushes:
            self.logs[flush.at].judge.archived_to(flush.next_offset)
        self.flushed(flushes, rows, time.monotonic() - started)

    def _write_patiently(self, flushes: Sequence[Flush]) -> dict[str, int]:
        """Write, again and again while ClickHouse is away or too busy; nothing is read meanwhile.

        Raises:
            TransientError: the worker is told to stop before it could write.
        """
        pause = RETRY_SECONDS_MIN
        while True:
            self.turned_at = time.monotonic()
            try:
                return self.writer.write(flushes)
            except TransientError as error:
                if self.is_stopping:
                    raise
                self.delayed(error, pause)
            time.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)


class _Source(StatelessSourcePartition[list[Record]]):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def next_batch(self) -> list[list[Record]]:
        if self._worker.is_stopping:
            raise StopIteration
        self._worker.turned_at = time.monotonic()
        return [self._worker.source.poll()]

    def close(self) -> None:
        self._worker.source.close()


class _Records(DynamicSource[list[Record]]):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Source:
        del step_id, worker_index
        assert worker_count == 1  # noqa: S101 - one process, one worker
        return _Source(self._worker)


@dataclass
class MeterLogic(StatefulBatchLogic[list[Record], None, None]):
    """Feeds the partitions in order, and says when to write what is in the worker's outbox."""

    worker: Worker
    flushed_at: float = field(default_factory=time.monotonic)
    waiting: dict[LogPartition, list[Record]] = field(default_factory=dict)
    waiting_bytes: int = 0
    waits_since_ms: int | None = None
    """Append time of the oldest record that no write covers yet."""

    def on_batch(self, values: list[list[Record]]) -> tuple[list[None], bool]:
        """Take polled records; emit something where there is something to be written."""
        is_urgent = False
        for records in values:
            for record in records:
                self.waiting.setdefault(record.at, []).append(record)
                self.waiting_bytes += len(record.value)
                is_urgent = is_urgent or record.content_type != ARROW_CONTENT_TYPE
            if records and self.waits_since_ms is None:
                self.waits_since_ms = records[0].append_ms
        is_due = time.monotonic() - self.flushed_at >= FLUSH_SECONDS * self._factor()
        if is_urgent or is_due or not QUIET_BYTES < self.waiting_bytes < FEED_BYTES:
            is_urgent = self._feed()
        return self._emit(now=is_urgent or is_due or bool(self.worker.outbox)), False

    def on_eof(self) -> tuple[list[None], bool]:
        """Emit everything that is left."""
        if not self.worker.is_sound:
            return [], True
        self._feed()
        return self._emit(now=True), True

    def snapshot(self) -> None:
        """Nothing to keep: the state is rebuilt from the log."""

    def _feed(self) -> bool:
        """Count the records that wait; tell whether somebody waits for one of them."""
        is_awaited = False
        waiting, self.waiting, self.waiting_bytes = self.waiting, {}, 0
        for at, records in waiting.items():
            decoded = [decode(record) for record in records]
            is_awaited = is_awaited or any(item.is_awaited for item in decoded)
            # One by one: a correction further on writes all that was taken before it.
            for flush in self.worker.logs[at].feed(decoded):
                self.worker.outbox.append(flush)
        return is_awaited

    def _emit(self, *, now: bool) -> list[None]:
        logs = self.worker.logs.values()
        if now or sum(log.pending_rows for log in logs) >= FLUSH_ROWS * self._factor():
            self.worker.outbox += [log.take_flush() for log in logs if log.is_behind]
            self.flushed_at = time.monotonic()
            self.waits_since_ms = None
        return [None] if self.worker.outbox else []

    def _factor(self) -> int:
        is_behind = (
            self.waits_since_ms is not None
            and time.time() - self.waits_since_ms / 1000 > BEHIND_SECONDS
        )
        return BEHIND_FACTOR if is_behind else 1


class _Sink(StatelessSinkPartition[tuple[str, None]]):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def write_batch(self, items: list[tuple[str, None]]) -> None:
        del items  # they say only that there is something in the outbox
        self._worker.write()


class _Tables(DynamicSink[tuple[str, None]]):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Sink:
        del step_id, worker_index, worker_count
        return _Sink(self._worker)


def build_dataflow(worker: Worker) -> Dataflow:
    """Return the dataflow of one worker. Step ids are fixed for life."""
    flow = Dataflow("usage")
    records: Any = op.input("records", flow, _Records(worker))
    keyed: Any = op.key_on("worker", records, lambda _: "worker")
    flushes: Any = op.stateful_batch("meter", keyed, lambda _: MeterLogic(worker))
    op.output("tables", flushes, _Tables(worker))
    return flow
