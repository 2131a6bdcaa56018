"""Row numbers by key, for many keys at once.

An open-addressing table of 64-bit keys: a batch costs what it touches, not what is held. Its loops
compile as this module is imported.
"""

from dataclasses import dataclass, field
from typing import Any

import numba as nb
import numpy as np

_CAPACITY = 1024
_GROWTH = 4
# Who does not know the multiplier cannot choose keys that meet: it is made of Python's own secret.
_SPREAD = np.uint64((hash("spread of keys") << 1 | 1) & ((1 << 64) - 1))


@dataclass(slots=True)
class RowByKey:
    """Numbers 64-bit keys in the order in which they first come."""

    count: int = 0
    _keys: Any = field(default_factory=lambda: np.zeros(_CAPACITY // 2, np.int64))
    """By row."""
    _slots: Any = field(default_factory=lambda: np.zeros(_CAPACITY, np.int32))
    """A row's number plus one where its key's hash says, or at the next place that was free."""

    @property
    def keys(self) -> Any:
        """The key of each row."""
        return self._keys[: self.count]

    def rows(self, keys: Any) -> Any:
        """Return the row of each key; keys may repeat, new ones get new rows."""
        found = np.empty(len(keys), np.int64)
        done = 0
        while True:
            done, self.count = _number(
                keys, found, done, self._keys, self._slots, self.count, _SPREAD
            )
            if done == len(keys):
                return found
            self._grow()

    def _grow(self) -> None:
        held, self.count = self.keys, 0
        self._slots = np.zeros(_GROWTH * len(self._slots), np.int32)
        self._keys = np.zeros(len(self._slots) // 2, np.int64)
        self.rows(held)


@nb.njit(
    nb.types.UniTuple(nb.int64, 2)(  # type: ignore[no-untyped-call]
        nb.types.Array(nb.int64, 1, "C", readonly=True),
        nb.int64[::1],
        nb.int64,
        nb.int64[::1],
        nb.int32[::1],
        nb.int64,
        nb.uint64,
    ),
    cache=True,
    nogil=True,
)
def _number(
    wanted: Any, found: Any, done: Any, keys: Any, slots: Any, count: Any, spread: Any
) -> Any:
    """Find or number keys from `done` on, until one finds no room; return where, and how many."""
    last, bits = np.uint64(len(slots) - 1), np.uint64(64)
    for place in range(62):
        if len(slots) >> place == 1:
            bits -= np.uint64(place)
    for place in range(done, len(wanted)):
        key = wanted[place]
        slot = (np.uint64(key) * spread) >> bits
        while slots[slot] and keys[slots[slot] - 1] != key:
            slot = (slot + np.uint64(1)) & last
        if not slots[slot]:
            if count == len(keys):
                return place, count
            keys[count] = key
            count += 1
            slots[slot] = count
        found[place] = slots[slot] - 1
    return len(wanted), count
