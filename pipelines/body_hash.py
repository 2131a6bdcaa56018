"""A quick hash of what a client sent of an event, under a secret.

It tells bodies of one identity apart: 64 bits, mixed by products of what was read with what the
secret and all before have come to. Who does not know the secret cannot choose two bodies that
collide; who does could only hide a conflict among their own events.
"""

from typing import Any

import numba as nb
import numpy as np

from compiled.memory import folded_product, number_at
from pipelines.text_columns import Texts, mixed, placed

_NUMBERS = nb.types.Array(nb.int64, 1, "C", readonly=True)


@nb.njit(
    nb.uint64[::1](nb.types.UniTuple(Texts, 4), _NUMBERS, nb.uint64, nb.uint64),  # type: ignore[no-untyped-call]
    cache=True,
    nogil=True,
)
def hashes(columns: Any, numbers: Any, secret: Any, other: Any) -> Any:
    """Return the hash of each row: of its number, of the sizes of its four texts, of the texts."""
    hashed_rows = np.empty(len(numbers), np.uint64)
    first, second, third, fourth = columns
    places = (placed(first), placed(second), placed(third), placed(fourth))
    for row in range(len(numbers)):
        hashed = folded_product(np.uint64(numbers[row]) ^ secret, other)
        for starts, text, limit in places:
            at, end = number_at(starts, row), number_at(starts, row + 1)
            hashed = mixed(hashed, text, at, end, limit, (secret, other))
        hashed_rows[row] = folded_product(hashed ^ secret, other)
    return hashed_rows
