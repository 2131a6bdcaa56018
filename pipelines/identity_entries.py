"""Claims as the memory of identities keeps them: a bucket each, and entries of one length.

Laid out by compiled loops; they compile as this module is imported.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np

from pipelines.position import POSITION_BYTES, position_from_bytes
from pipelines.verdict import Claims, Seen

FIELD_BYTES = 10
ENTRY_BYTES = 27
"""Of an identity, ten bytes beside those that choose its bucket; position 9, body hash 8."""
_BUCKET_BYTES = 2
_OFFSET_BYTES, _INDEX_BYTES = 6, 3
_HASH_BYTES = 8
_BYTE_BITS = 8
_SCRIPT_ENTRIES = 32_768
"""A script holds Redis up while it runs: some milliseconds. Two bytes hold how many they are."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows' items as a script takes them: each bucket and how many items it has; the items."""

    rows: Any
    heads: bytes
    items: bytes


@dataclass(frozen=True, slots=True)
class Entries:
    """Claims by column: a bucket and an entry each."""

    buckets: Any
    entries: Any
    buckets_count: int

    @classmethod
    def of(cls, claims: Claims, buckets: int) -> "Entries":
        """Return the entries of claims, in so many buckets, a power of two."""
        chosen, entries = _packed(
            np.ascontiguousarray(claims.identities),
            np.ascontiguousarray(claims.body_hashes),
            claims.offsets.astype(np.uint64),
            claims.indexes.astype(np.uint64),
            buckets - 1,
        )
        return cls(chosen, entries, buckets)

    @property
    def words(self) -> Any:
        """What filters go by."""
        return words_of(self.entries)

    def batches(self, rows: Any, size: int) -> Iterator[Batch]:
        """Yield the first `size` bytes of rows' entries by bucket, in order within each."""
        order, items = _by_bucket(self.buckets, self.entries, rows, size, self.buckets_count)
        for first in range(0, len(order), _SCRIPT_ENTRIES):
            part = order[first : first + _SCRIPT_ENTRIES]
            buckets = self.buckets[part]
            starts = np.flatnonzero(np.diff(buckets, prepend=-1))
            heads = np.stack([buckets[starts], np.diff(starts, append=len(part))], axis=1)
            sent = items[first : first + _SCRIPT_ENTRIES].tobytes()
            yield Batch(part, heads.astype(">u2").tobytes(), sent)

    def value(self, row: int) -> bytes:
        """Return position and body hash."""
        return bytes(self.entries[row, FIELD_BYTES:].tobytes())

    def copies(self, is_new: Any) -> Iterator[tuple[int, int]]:
        """Yield the new rows that repeat another one, with the first of that identity."""
        keys = self.words.view(np.uint64).ravel()
        rows = np.flatnonzero(is_new)
        values = np.sort(keys[rows])
        # Nearly always; an order of rows costs far more than one of values.
        if not (values[1:] == values[:-1]).any():
            return
        rows = rows[np.argsort(keys[rows], kind="stable")]
        same = np.flatnonzero(keys[rows][1:] == keys[rows][:-1])
        firsts: dict[tuple[int, bytes], int] = {}
        for row in np.unique(rows[np.concatenate([same, same + 1])]).tolist():
            identity = (int(self.buckets[row]), self.entries[row, :FIELD_BYTES].tobytes())
            first = firsts.setdefault(identity, row)
            if first != row:
                yield row, first


def words_of(entries: Any) -> Any:
    """Return the first eight bytes of entries as two whole numbers."""
    return np.ascontiguousarray(entries[:, :8]).view(np.uint32)


def seen(value: bytes) -> Seen:
    """Return what an entry's value says."""
    return Seen(*position_from_bytes(value[:POSITION_BYTES]), value[POSITION_BYTES:])


_ROWS = nb.types.Array(nb.uint8, 2, "C", readonly=True)
_NUMBERS = nb.types.Array(nb.uint64, 1, "C", readonly=True)


@nb.njit(nogil=True, forceinline=True)
def _put(target: Any, row: int, first: int, size: int, number: Any) -> None:
    """Write a number in so many bytes, the greatest first, so that they sort as numbers do."""
    for place in range(size):
        target[row, first + place] = (number >> np.uint64(_BYTE_BITS * (size - 1 - place))) & 0xFF


@nb.njit(
    nb.types.Tuple((nb.uint16[::1], nb.uint8[:, ::1]))(_ROWS, _ROWS, _NUMBERS, _NUMBERS, nb.int64),  # type: ignore[no-untyped-call]
    cache=True,
    nogil=True,
)
def _packed(identities: Any, body_hashes: Any, offsets: Any, indexes: Any, mask: Any) -> Any:
    """Return bucket and entry of each row."""
    buckets = np.empty(len(offsets), np.uint16)
    entries = np.empty((len(offsets), ENTRY_BYTES), np.uint8)
    for row in range(len(offsets)):
        buckets[row] = ((identities[row, 0] << _BYTE_BITS) | identities[row, 1]) & mask
        for place in range(FIELD_BYTES):
            entries[row, place] = identities[row, _BUCKET_BYTES + place]
        _put(entries, row, FIELD_BYTES, _OFFSET_BYTES, offsets[row])
        _put(entries, row, FIELD_BYTES + _OFFSET_BYTES, _INDEX_BYTES, indexes[row])
        for place in range(_HASH_BYTES):
            entries[row, FIELD_BYTES + POSITION_BYTES + place] = body_hashes[row, place]
    return buckets, entries


@nb.njit(
    nb.types.Tuple((nb.int64[::1], nb.uint8[:, ::1]))(  # type: ignore[no-untyped-call]
        nb.uint16[::1], nb.uint8[:, ::1], nb.int64[::1], nb.int64, nb.int64
    ),
    cache=True,
    nogil=True,
)
def _by_bucket(buckets: Any, entries: Any, rows: Any, size: Any, count: Any) -> Any:
    """Return some rows by bucket, in order within each, and the first bytes of their entries."""
    places = np.zeros(count + 1, np.int64)
    for row in rows:
        places[buckets[row] + 1] += 1
    for bucket in range(count):
        places[bucket + 1] += places[bucket]
    order = np.empty(len(rows), np.int64)
    items = np.empty((len(rows), size), np.uint8)
    for row in rows:
        place = places[buckets[row]]
        places[buckets[row]] = place + 1
        order[place] = row
        for byte in range(size):
            items[place, byte] = entries[row, byte]
    return order, items
