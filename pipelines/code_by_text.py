"""Codes by text, for many texts at once.

An open-addressing table over bytes in one piece: a new text costs a hash and a copy, no object, so
that a million names stay cheap. Its loops compile as this module is imported.
"""

from dataclasses import dataclass, field
from typing import Any

import numba as nb
import numpy as np
import pyarrow as pa

from compiled.memory import WORD_BYTES, folded_product, inlined, word_before
from pipelines.text_columns import BYTES, PLACES, mixed, texts_of

_CAPACITY = 1024
_BYTES = 16 * 1024
_GROWTH = 4
# Made of Python's own secret.
_SECRETS = tuple(np.uint64(hash(f"secret of texts, {each}") & ((1 << 64) - 1)) for each in range(2))


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
        starts, data = texts_of(texts)
        return self.codes_at(data, starts[:-1], np.diff(starts))

    def codes_at(self, data: Any, starts: Any, sizes: Any) -> Any:
        """Return the code of each text by where it starts among bytes, and its size."""
        found = np.empty(len(starts), np.int64)
        done = 0
        while True:
            held = (self._hashes, self._starts, self._bytes, self._slots)
            wanted = (data, starts, sizes, *_SECRETS)
            done, self.count = _number(wanted, found, done, self.count, *held)
            if done == len(starts):
                return found
            self._grow(int(sizes[done]))

    @property
    def texts(self) -> Any:
        """The text of each code."""
        return self.column(np.arange(self.count)).dictionary

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


@inlined
def _is_same(left: Any, at: Any, limit: Any, right: Any, start: Any, end: Any, size: Any) -> Any:
    """Tell whether so many bytes are the same in two texts by address; neither is left."""
    for done in range(0, size, WORD_BYTES):
        word = word_before(left, at + done, at + size, limit)
        if word != word_before(right, start + done, start + size, end):
            return False
    return True


@nb.njit(
    nb.types.UniTuple(nb.int64, 2)(  # type: ignore[no-untyped-call]
        nb.types.Tuple((BYTES, PLACES, PLACES, nb.uint64, nb.uint64)),  # type: ignore[no-untyped-call]
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
    wanted: Any, found: Any, done: Any, count: Any, hashes: Any, starts: Any, held: Any, slots: Any
) -> Any:
    """Find or number texts from `done` on, until one finds no room; return where, and how many."""
    data, places, sizes, secret, other = wanted
    text, limit = np.int64(data.ctypes.data), len(data)
    known, end = np.int64(held.ctypes.data), len(held)
    last = np.uint64(len(slots) - 1)
    for row in range(done, len(found)):
        at, size = np.int64(places[row]), np.int64(sizes[row])
        key = mixed(other, text, at, at + size, limit, (secret, other))
        key = folded_product(key ^ secret, other)
        slot = key & last
        while slots[slot]:
            code = slots[slot] - 1
            start = starts[code]
            is_it = hashes[code] == key and starts[code + 1] - start == size
            if is_it and _is_same(text, at, limit, known, start, end, size):
                break
            slot = (slot + np.uint64(1)) & last
        if not slots[slot]:
            start = starts[count]
            if count == len(hashes) or start + size > len(held):
                return row, count
            held[start : start + size] = data[at : at + size]
            hashes[count] = key
            count += 1
            starts[count] = start + size
            slots[slot] = count
        found[row] = slots[slot] - 1
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
