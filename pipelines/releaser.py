"""Releases quarantined streams: ends the quarantine in the log, then sends again what waits.

What is sent again are ordinary events at new positions, in the order in which they first came.
Verdicts decide as of any event: a copy of one that counts does not count, so that asking again,
after a failure at any point, counts nothing twice.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ingest.topic import EVENT_SCHEMA, RECORD_BYTES_MAX, partition_of
from pipelines.outage import TransientError
from pipelines.position import Log, LogPartition
from pipelines.record import ReleaseRecord

Vector = Mapping[LogPartition, int]
Ranges = Mapping[LogPartition, tuple[int, int]]

_PAUSE_SECONDS = 0.05
_BATCH_BYTES_MAX = RECORD_BYTES_MAX // 2


@dataclass(frozen=True, slots=True)
class Release:
    """One release of a stream; `places` says where its records stand, once they do."""

    tenant: str
    source: str
    number: int
    author: str
    places: Vector | None = None
    sent: int | None = None


class ReleaseStore(Protocol):
    """What was released."""

    def begin(self, tenant: str, source: str, author: str) -> Release:
        """Return the release of a stream that is under way, or a new one."""

    def place(self, release: Release, places: Vector) -> None:
        """Note where the records stand that end the quarantine; below them all is to be sent."""

    def finish(self, release: Release, sent: int) -> None:
        """Note that all was sent again."""

    def released(self, tenant: str, source: str) -> Vector:
        """Return below which offsets all was sent again."""


class AsideTables(Protocol):
    """What was set aside."""

    def events(self, tenant: str, source: str, ranges: Ranges) -> Iterable[Any]:
        """Yield tables of `EVENT_SCHEMA` in the order of positions, each of some thousand rows."""

    def unreadable(self, tenant: str, source: str, ranges: Ranges) -> int:
        """Return how many records without an event were set aside."""


@dataclass(frozen=True, slots=True)
class Released:
    """What a release came to."""

    sent: int
    unreadable: int
    is_counted: bool

    def to_content(self, source: str) -> dict[str, Any]:
        """Return it as JSON content."""
        return {"source": source} | asdict(self)


@dataclass(slots=True)
class Releaser:
    """Carries releases out."""

    store: ReleaseStore
    tables: AsideTables
    logs: Callable[[], Sequence[Log]]
    closed_ends: Callable[[], Vector]
    end: Callable[[Log, Sequence[tuple[int, ReleaseRecord]]], list[int]]
    """Sends records that end a quarantine; returns their offsets."""
    send: Callable[[Log, Sequence[tuple[int, Any]]], list[int]]
    """Sends batches of events; returns the offsets of their records."""
    progress: Callable[[], Vector]
    pause: Callable[[float], None]
    patience_s: float = 60.0

    def release(self, tenant: str, source: str, author: str) -> Released:
        """Release all that is set aside of a stream.

        Raises:
            TimeoutError: the broker has not acknowledged, or a worker does not count; ask again.
        """
        release = self.store.begin(tenant, source, author)
        places = release.places
        if places is None:
            places = self._ended(tenant, source)
            self.store.place(release, places)
        if not self._await_counted(places):
            raise TimeoutError("not every partition is counted up to the end of the quarantine")
        before = self.store.released(tenant, source)
        ranges = {at: (before.get(at, 0), end) for at, end in places.items()}
        sent, ends = self._send_again(self.tables.events(tenant, source, ranges))
        self.store.finish(release, sent)
        unreadable = self.tables.unreadable(tenant, source, ranges)
        return Released(sent, unreadable, self._await_counted(ends))

    def _ended(self, tenant: str, source: str) -> dict[LogPartition, int]:
        """End the quarantine in every partition; return where, and where closed logs end."""
        places = dict(self.closed_ends())
        record = ReleaseRecord(tenant, source)
        for log in self.logs():
            offsets = self.end(log, [(partition, record) for partition in range(log.partitions)])
            for partition, offset in enumerate(offsets):
                places[LogPartition(log.log, partition)] = offset
        return places

    def _send_again(self, tables: Iterable[Any]) -> tuple[int, dict[LogPartition, int]]:
        log = self.logs()[-1]
        sent, ends = 0, {}
        for table in tables:
            batches = list(_batches(table, log.partitions))
            for (partition, _), offset in zip(batches, self.send(log, batches), strict=True):
                ends[LogPartition(log.log, partition)] = offset + 1
            sent += table.num_rows
        return sent, ends

    def _await_counted(self, ends: Vector) -> bool:
        for _ in range(int(self.patience_s / _PAUSE_SECONDS)):
            try:
                progress = self.progress()
            except TransientError:
                progress = {}
            if all(progress.get(at, 0) >= end for at, end in ends.items()):
                return True
            self.pause(_PAUSE_SECONDS)
        return False


def _batches(table: Any, partitions: int) -> Iterator[tuple[int, Any]]:
    """Yield batches of events in order, each with its partition and small enough for a record."""
    named = table.select(["tenant", "subject"]).to_pylist()
    places = np.array([partition_of(each["tenant"], each["subject"], partitions) for each in named])
    for partition in np.unique(places):
        rows = np.flatnonzero(places == partition)
        events = table.take(pa.array(rows)).combine_chunks()
        pieces = -(-events.nbytes // _BATCH_BYTES_MAX)
        size = max(1, events.num_rows // max(1, pieces))
        for batch in events.to_batches(max_chunksize=size):
            assert batch.schema.equals(EVENT_SCHEMA)  # noqa: S101 - what a record holds
            yield int(partition), batch
