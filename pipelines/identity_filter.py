"""Tells of most identities that they were never seen, without asking anybody.

Its loops compile as this module is imported.
"""

from dataclasses import dataclass, field
from typing import Any

import numba as nb
import numpy as np

_BITS_PER_IDENTITY = 16
"""With two bits set per identity, one in 70 of a full filter's answers is a needless maybe."""
_BITS_MIN = 1 << 10


@dataclass(slots=True)
class IdentityFilter:
    """A Bloom filter over identities, which are hashes already: two of their words are its hashes.

    `words` are arrays of whole numbers of 32 bits, two a row.
    """

    identities: int
    """For so many; more make it say maybe more often."""
    _marks: Any = field(init=False)

    def __post_init__(self) -> None:
        bits = max(_BITS_MIN, 1 << (_BITS_PER_IDENTITY * self.identities - 1).bit_length())
        self._marks = np.zeros(bits // 8, np.uint8)

    def add(self, words: Any) -> None:
        """Note identities."""
        _mark(self._marks, words)

    def may_hold(self, words: Any) -> Any:
        """Return per identity whether it may have been added; False is certain."""
        return _marked(self._marks, words)


_WORDS = nb.types.Array(nb.uint32, 2, "C", readonly=True)


@nb.njit(nb.void(nb.uint8[::1], _WORDS), cache=True, nogil=True)
def _mark(marks: Any, words: Any) -> None:
    last = np.uint32(8 * len(marks) - 1)
    for row in range(len(words)):
        for part in range(2):
            bit = words[row, part] & last
            marks[bit >> 3] |= np.uint8(1 << (bit & 7))


@nb.njit(nb.boolean[::1](nb.uint8[::1], _WORDS), cache=True, nogil=True)
def _marked(marks: Any, words: Any) -> Any:
    last = np.uint32(8 * len(marks) - 1)
    held = np.ones(len(words), np.bool_)
    for row in range(len(words)):
        for part in range(2):
            bit = words[row, part] & last
            held[row] &= (marks[bit >> 3] >> (bit & 7)) & 1
    return held
