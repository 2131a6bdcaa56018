"""Row numbers by key, for many keys at once.

A dictionary costs Python per key; sorting anew costs what is held. Here a batch costs what it
touches: an open-addressing table of 64-bit keys, probed by columns.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

_EMPTY = np.iinfo(np.int64).min
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_CAPACITY = 1024


@dataclass(slots=True)
class RowByKey:
    """Numbers 64-bit keys in the order of their first batch; the least int64 is no key."""

    count: int = 0
    _keys: Any = field(default_factory=lambda: np.full(_CAPACITY, _EMPTY, np.int64))
    _rows: Any = field(default_factory=lambda: np.zeros(_CAPACITY, np.int64))

    def rows(self, keys: Any) -> Any:
        """Return the row of each key; the keys of a batch are distinct, new ones get new rows."""
        if 2 * (self.count + len(keys)) > len(self._keys):
            self._grow(self.count + len(keys))
        found = np.zeros(len(keys), np.int64)
        waiting, slots = np.arange(len(keys)), self._home(keys)
        while len(waiting):
            wanted = keys[waiting]
            held = self._keys[slots]
            is_free = held == _EMPTY
            # Of several keys that want one free slot, the last stays there; the others go on.
            self._keys[slots[is_free]] = wanted[is_free]
            is_new = is_free & (self._keys[slots] == wanted)
            fresh = slots[is_new]
            self._rows[fresh] = np.arange(self.count, self.count + len(fresh))
            self.count += len(fresh)
            is_done = is_new | (held == wanted)
            found[waiting[is_done]] = self._rows[slots[is_done]]
            waiting = waiting[~is_done]
            slots = (slots[~is_done] + 1) & (len(self._keys) - 1)
        return found

    def codes(self, values: Any) -> Any:
        """Return the row of each of many numbers, which may repeat."""
        encoded = pa.array(values).dictionary_encode()
        return self.rows(encoded.dictionary.to_numpy())[encoded.indices.to_numpy()]

    def _home(self, keys: Any) -> Any:
        bits = np.uint64(64 - (len(self._keys).bit_length() - 1))
        return ((keys.astype(np.uint64) * _SPREAD) >> bits).astype(np.int64)

    def _grow(self, count: int) -> None:
        is_held = self._keys != _EMPTY
        keys, rows = self._keys[is_held], self._rows[is_held]
        capacity = 1 << (4 * count - 1).bit_length()
        self._keys = np.full(capacity, _EMPTY, np.int64)
        self._rows = np.zeros(capacity, np.int64)
        self.count = 0
        again = self.rows(keys)
        # Probing numbers keys by round; the rows that they had are what stays.
        had = np.zeros(len(keys), np.int64)
        had[again] = rows
        is_held = self._keys != _EMPTY
        self._rows[is_held] = had[self._rows[is_held]]
