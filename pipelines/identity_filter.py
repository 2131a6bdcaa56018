"""Tells of most identities that they were never seen, without asking anybody."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

_BITS_PER_IDENTITY = 16
"""With two bits set per identity, one in 70 of a full filter's answers is a needless maybe."""
_BITS_MIN = 1 << 10
_MASKS = np.left_shift(1, np.arange(8)).astype(np.uint8)


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
        places, masks = (each.ravel() for each in self._places(words))
        # Of several marks that go into one byte, one stays; the others are made again. Rounds
        # over all at once are quicker than numpy's `at`, which goes one by one.
        while len(places):
            self._marks[places] |= masks
            is_lost = (self._marks[places] & masks) == 0
            places, masks = places[is_lost], masks[is_lost]

    def may_hold(self, words: Any) -> Any:
        """Return per identity whether it may have been added; False is certain."""
        places, masks = self._places(words)
        return ((self._marks[places] & masks) != 0).all(axis=1)

    def _places(self, words: Any) -> tuple[Any, Any]:
        bits = words & np.uint32(8 * len(self._marks) - 1)
        # numpy takes its quick ways only with places of its own kind.
        places = (bits >> np.uint32(3)).astype(np.intp)
        return places, _MASKS[bits & np.uint32(7)]
