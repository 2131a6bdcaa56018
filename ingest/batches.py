"""Gathers the columns of many requests and cuts them into records, one per partition.

A few milliseconds of requests become one record per partition; an event's order among those of
its subject is the order in which requests were complete.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ingest.columns import Columns
from ingest.packing import pack
from ingest.scanning import TIME

_START = np.zeros(1, np.int64)


class Batches:
    """The events waiting for the next flush."""

    def __init__(self, partitions: int, record_bytes_max: int) -> None:
        self._partitions = partitions
        self._record_bytes_max = record_bytes_max
        self._waiting: list[Columns] = []
        self.events = 0
        self.size = 0

    def spread_over(self, partitions: int) -> None:
        """Spread what comes over so many partitions; nothing may wait."""
        assert not self._waiting  # noqa: S101 - flushed by the caller
        self._partitions = partitions

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
        return list(self._records(*_merged(waiting)))

    def _records(self, text: Any, rows: Any) -> Iterator[tuple[int, bytes]]:
        """Yield records, none larger than one may be where it holds more than one event."""
        if len(text) > self._record_bytes_max and len(rows) > 1:
            size = int(rows[:, 1:TIME:2].sum() - rows[:, 0:TIME:2].sum())
            if size > self._record_bytes_max:
                middle = len(rows) // 2
                yield from self._records(text, rows[:middle])
                yield from self._records(text, rows[middle:])
                return
        yield from pack(text, rows, self._partitions)


def _merged(waiting: list[Columns]) -> tuple[Any, Any]:
    """Return one text, and the rows of all events, with the places of their values in it."""
    texts: list[bytes | bytearray] = []
    for columns in waiting:
        texts += (columns.tenant.encode(), columns.text)
    text = np.frombuffer(b"".join(texts), np.uint8)
    rows = np.concatenate([columns.rows for columns in waiting])
    counts = list(map(len, waiting))
    ends = np.cumsum(list(map(len, texts)))
    tenant_ends, text_ends = ends[::2], ends[1::2]
    begins = np.repeat(tenant_ends, counts)
    rows[:, 2:TIME] += begins[:, None]
    rows[:, 0] = np.repeat(np.concatenate([_START, text_ends[:-1]]), counts)
    rows[:, 1] = begins
    return text, rows
