"""Gathers the columns of many requests and cuts them into records, one per partition.

A few milliseconds of requests become one Arrow batch, ordered by partition in one operation;
an event's order among those of its subject is the order in which requests were complete.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from ingest.columns import Columns
from ingest.topic import EVENT_SCHEMA, encode_record, partition_of

_MICROSECONDS = pa.timestamp("us", tz="UTC")
_SUBJECTS_MAX = 200_000


class _PartitionBySubject(dict[str, int]):
    """Remembers one tenant's partitions; works out what it does not know."""

    def __init__(self, tenant: str, partitions: int, on_miss: Callable[[], None]) -> None:
        super().__init__()
        self._tenant = tenant
        self._partitions = partitions
        self._on_miss = on_miss

    def __missing__(self, subject: str) -> int:
        partition = partition_of(self._tenant, subject, self._partitions)
        self[subject] = partition
        self._on_miss()
        return partition


class Batches:
    """The events waiting for the next flush."""

    def __init__(self, partitions: int, record_bytes_max: int) -> None:
        self._partitions = partitions
        self._record_bytes_max = record_bytes_max
        self._known: dict[str, _PartitionBySubject] = {}
        self._known_count = 0
        self._waiting: list[Columns] = []
        self.events = 0
        self.size = 0

    def spread_over(self, partitions: int) -> None:
        """Spread what comes over so many partitions; nothing may wait."""
        assert not self._waiting  # noqa: S101 - flushed by the caller
        self._partitions = partitions
        self._known = {}
        self._known_count = 0

    def add(self, columns: Columns) -> None:
        """Take one request's events."""
        self._waiting.append(columns)
        self.events += len(columns)
        self.size += columns.size

    def take_records(self) -> list[tuple[int, bytes]]:
        """Return all waiting events as records, each with its partition, and wait for others."""
        if not self._waiting:
            return []
        partitions = np.array(self._partitions_of_waiting(), dtype=np.int32)
        batch = _to_batch(self._waiting)
        is_small = self.size <= self._record_bytes_max // 2
        self._waiting = []
        self.events = self.size = 0
        return list(self._records(batch, partitions, is_small=is_small))

    def _partitions_of_waiting(self) -> list[int]:
        found: list[int] = []
        for columns in self._waiting:
            known = self._known.get(columns.tenant)
            if known is None:
                known = _PartitionBySubject(columns.tenant, self._partitions, self._count_miss)
                self._known[columns.tenant] = known
            found += [known[subject] for subject in columns.subjects]
        if self._known_count > _SUBJECTS_MAX:
            self._known = {}
            self._known_count = 0
        return found

    def _count_miss(self) -> None:
        self._known_count += 1

    def _records(
        self, batch: Any, partitions: Any, *, is_small: bool
    ) -> Iterator[tuple[int, bytes]]:
        counts = np.bincount(partitions, minlength=self._partitions)
        if np.count_nonzero(counts) > 1:
            batch = batch.take(pa.array(np.argsort(partitions, kind="stable")))
        start = 0
        for partition, count in enumerate(counts.tolist()):
            if count:
                part = batch.slice(start, count)
                for piece in [part] if is_small else self._pieces(part):
                    yield partition, encode_record(piece)
                start += count

    def _pieces(self, batch: Any) -> Iterator[Any]:
        """Yield a batch in pieces that each fit a record."""
        if batch.num_rows == 1 or batch.nbytes <= self._record_bytes_max:
            yield batch
            return
        half = batch.num_rows // 2
        yield from self._pieces(batch.slice(0, half))
        yield from self._pieces(batch.slice(half))


def _to_batch(waiting: list[Columns]) -> Any:
    """Return the events of several requests as one `pa.RecordBatch` of `EVENT_SCHEMA`."""
    if len(waiting) == 1:
        merged = waiting[0]
        tenants = pa.repeat(merged.tenant, len(merged))
    else:
        merged = Columns("", [], [], [], [], [], [], [], [], 0)
        names: list[str] = []
        for columns in waiting:
            names += [columns.tenant] * len(columns)
            merged.ids += columns.ids
            merged.sources += columns.sources
            merged.types += columns.types
            merged.subjects += columns.subjects
            merged.times_us += columns.times_us
            merged.stamped += columns.stamped
            merged.data += columns.data
            merged.extensions += columns.extensions
        tenants = pa.array(names, pa.string())
    return pa.RecordBatch.from_arrays(
        [
            tenants,
            pa.array(merged.ids, pa.string()),
            pa.array(merged.sources, pa.string()),
            pa.array(merged.types, pa.string()),
            pa.array(merged.subjects, pa.string()),
            pa.array(merged.times_us, pa.int64()).cast(_MICROSECONDS),
            pa.array(merged.stamped, pa.bool_()),
            pa.array(merged.data, pa.binary()),
            pa.array(merged.extensions, pa.binary()),
        ],
        schema=EVENT_SCHEMA,
    )
