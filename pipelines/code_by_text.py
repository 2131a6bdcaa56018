"""Codes by text, for many texts at once.

An open-addressing table over bytes in one piece: a new text costs a hash and a copy, no object, so
that a million names stay cheap. Its loops compile as this module is imported.
"""

from dataclasses import dataclass, field
from typing import Any

import numba as nb
import numpy as np
import pyarrow as pa

from pipelines.siphash import row_hashes
from pipelines.text_columns import Texts, texts_of

_CAPACITY = 1024
_BYTES = 16 * 1024
_GROWTH = 4
# Who does not know the key cannot choose texts that meet: it is made of Python's own secret.
_KEY = tuple(np.uint64(hash(f"key of texts, {half}") & ((1 << 64) - 1)) for half in range(2))


@dataclass(slots=True)
class CodeByText:
    """Numbers texts in the order in which they first come."""

    count: int = 0
    _hashes: Any = field(default_factory=lambda: np.zeros(_CAPACITY // 2, np.uint64))
    """By code."""
    _starts: Any = field(default_factory=lambda: np.zeros(_CAPACITY // 2 + 1, np.int64))
    """By code, where its text starts; the one before ends there."""
    _bytes: Any = field(default_factory=lambda: np.zeros(_BYTES, np.uint8))
    _slots: Any = field(default_factory=lambda: np.zeros(_CAPACITY, np.int32))
    """A text's code plus one where its hash says, or at the next place that was free."""

    def codes(self, texts: Any) -> Any:
        """Return the code of each text of an Arrow column; new texts get the next code."""
        column = texts_of(texts)
        hashes = row_hashes((column,), np.zeros(len(texts), np.int64), *_KEY)
        found = np.empty(len(texts), np.int64)
        done = 0
        while True:
            held = (self._hashes, self._starts, self._bytes, self._slots)
            done, self.count = _number(column, hashes, found, done, self.count, *held)
            if done == len(texts):
                return found
            self._grow(int(column[0][done + 1] - column[0][done]))

    def column(self, codes: Any) -> Any:
        """Return the texts of codes, as a dictionary of only those that occur."""
        places, starts, data = _gathered(codes, self.count, self._starts, self._bytes)
        texts = pa.StringArray.from_buffers(
            len(starts) - 1, pa.py_buffer(starts), pa.py_buffer(data)
        )
        return pa.DictionaryArray.from_arrays(pa.array(places), texts)

    def _grow(self, size: int) -> None:
        """Make room for one more text of a size, and for many."""
        if self.count == len(self._hashes):
            capacity = _GROWTH * len(self._hashes)
            self._hashes = _longer(self._hashes, capacity)
            self._starts = _longer(self._starts, capacity + 1)
            self._slots = np.zeros(2 * capacity, np.int32)
            _place(self._hashes[: self.count], self._slots)
        needed = int(self._starts[self.count]) + size
        if needed > len(self._bytes):
            self._bytes = _longer(self._bytes, 2 * needed)


def _longer(array: Any, length: int) -> Any:
    longer = np.zeros(length, array.dtype)
    longer[: len(array)] = array
    return longer


@nb.njit(nb.void(nb.uint64[::1], nb.int32[::1]), cache=True, nogil=True)
def _place(hashes: Any, slots: Any) -> None:
    """Place codes by their hashes; there is room for all."""
    last = np.uint64(len(slots) - 1)
    for code in range(len(hashes)):
        slot = hashes[code] & last
        while slots[slot]:
            slot = (slot + np.uint64(1)) & last
        slots[slot] = code + 1


@nb.njit(nogil=True)
def _is_same(left: Any, left_start: Any, right: Any, right_start: Any, size: Any) -> Any:
    place = 0
    while place < size and left[left_start + place] == right[right_start + place]:
        place += 1
    return place == size


@nb.njit(
    nb.types.UniTuple(nb.int64, 2)(  # type: ignore[no-untyped-call]
        Texts,
        nb.uint64[:, ::1],
        nb.int64[::1],
        nb.int64,
        nb.int64,
        nb.uint64[::1],
        nb.int64[::1],
        nb.uint8[::1],
        nb.int32[::1],
    ),
    cache=True,
    nogil=True,
)
def _number(
    wanted: Any,
    wanted_hashes: Any,
    found: Any,
    done: Any,
    count: Any,
    hashes: Any,
    starts: Any,
    held: Any,
    slots: Any,
) -> Any:
    """Find or number texts from `done` on, until one finds no room; return where, and how many."""
    last = np.uint64(len(slots) - 1)
    wanted_starts, wanted_bytes = wanted
    for place in range(done, len(found)):
        first, key = wanted_starts[place], wanted_hashes[place, 0]
        size = wanted_starts[place + 1] - first
        slot = key & last
        while slots[slot]:
            code = slots[slot] - 1
            start = starts[code]
            is_it = hashes[code] == key and starts[code + 1] - start == size
            if is_it and _is_same(held, start, wanted_bytes, first, size):
                break
            slot = (slot + np.uint64(1)) & last
        if not slots[slot]:
            start = starts[count]
            if count == len(hashes) or start + size > len(held):
                return place, count
            held[start : start + size] = wanted_bytes[first : first + size]
            hashes[count] = key
            count += 1
            starts[count] = start + size
            slots[slot] = count
        found[place] = slots[slot] - 1
    return len(found), count


@nb.njit(
    nb.types.Tuple((nb.int32[::1], nb.int32[::1], nb.uint8[::1]))(  # type: ignore[no-untyped-call]
        nb.int64[::1], nb.int64, nb.int64[::1], nb.uint8[::1]
    ),
    cache=True,
    nogil=True,
)
def _gathered(codes: Any, count: Any, starts: Any, held: Any) -> Any:
    """Return each code's place among those that occur; and the texts of these."""
    place_by_code = np.zeros(count, np.int32)
    places = np.empty(len(codes), np.int32)
    firsts = np.empty(min(count, len(codes)), np.int64)
    distinct = size = 0
    for row in range(len(codes)):
        code = codes[row]
        if not place_by_code[code]:
            firsts[distinct] = code
            distinct += 1
            place_by_code[code] = distinct
            size += starts[code + 1] - starts[code]
        places[row] = place_by_code[code] - 1
    own_starts, texts = np.zeros(distinct + 1, np.int32), np.empty(size, np.uint8)
    size = 0
    for place in range(distinct):
        start, end = starts[firsts[place]], starts[firsts[place] + 1]
        texts[size : size + end - start] = held[start:end]
        size += end - start
        own_starts[place + 1] = size
    return places, own_starts, texts
