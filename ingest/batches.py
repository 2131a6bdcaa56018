"""Gathers the columns of many requests and cuts them into records, one per partition.

A few milliseconds of requests become one record per partition; an event's order among those of
its subject is the order in which requests were complete.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np

from ingest.columns import Columns
from ingest.packing import pack
from ingest.topic import partition_of

_SUBJECTS_MAX = 200_000
_texts = attrgetter("data", "extensions", "tenants", "ids", "sources", "types", "subjects")
"""Of columns, in the order that `pack` wants."""


class Batches:
    """The events waiting for the next flush."""

    def __init__(self, partitions: int, record_bytes_max: int) -> None:
        self._partitions = partitions
        self._record_bytes_max = record_bytes_max
        self._known: dict[str, dict[str, int]] = {}
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
        waiting, self._waiting = self._waiting, []
        self.events = self.size = 0
        if not waiting:
            return []
        found: list[int] = []
        for columns in waiting:
            found += self._partitions_of(columns)
        partitions = np.array(found, dtype=np.uint16)
        texts = _merged(waiting)
        times = b"".join([columns.times for columns in waiting])
        stamped = b"".join([columns.stamped for columns in waiting])
        counts = np.bincount(partitions).tolist()
        if len(counts) - counts.count(0) > 1:
            order = np.argsort(partitions, kind="stable")
            pick = itemgetter(*order.tolist())
            texts = [pick(values) for values in texts]
            times = np.frombuffer(times, dtype=np.int64)[order].tobytes()
            stamped = bytes(pick(stamped))
        records: list[tuple[int, bytes]] = []
        start = 0
        for partition, count in enumerate(counts):
            if count:
                pieces = self._pieces(texts, times, stamped, start, start + count)
                records += [(partition, value) for value in pieces]
                start += count
        return records

    def _partitions_of(self, columns: Columns) -> Sequence[int]:
        known = self._known.setdefault(columns.tenant, {})
        subjects = columns.subjects
        try:
            return [known[subject] for subject in subjects]
        except KeyError:
            pass
        if self._known_count > _SUBJECTS_MAX:
            self._known = {columns.tenant: (known := {})}
            self._known_count = 0
        for subject in subjects:
            if subject not in known:
                known[subject] = partition_of(columns.tenant, subject, self._partitions)
                self._known_count += 1
        return [known[subject] for subject in subjects]

    def _pieces(
        self, texts: Sequence[Sequence[Any]], times: bytes, stamped: bytes, start: int, end: int
    ) -> Iterator[bytes]:
        """Yield the events from `start` to `end` in pieces that each fit a record."""
        value = pack(
            [values[start:end] for values in texts], times[8 * start : 8 * end], stamped[start:end]
        )
        if end - start == 1 or len(value) <= self._record_bytes_max:
            yield value
            return
        middle = (start + end) // 2
        yield from self._pieces(texts, times, stamped, start, middle)
        yield from self._pieces(texts, times, stamped, middle, end)


def _merged(waiting: list[Columns]) -> list[Sequence[Any]]:
    """Return the texts of several requests, column by column."""
    if len(waiting) == 1:
        return list(_texts(waiting[0]))
    return [list(chain.from_iterable(parts)) for parts in zip(*map(_texts, waiting), strict=True)]
