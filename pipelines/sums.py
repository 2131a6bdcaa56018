"""Exact sums of many rows, added up in place by compiled loops, as limbs of `pipelines.decimals`.

They compile as this module is imported.
"""

from typing import Any

import numba as nb
import numpy as np

_LIMBS = nb.types.Array(nb.uint64, 2, "C", readonly=True)
_ROWS = nb.types.Array(nb.int64, 1, "C", readonly=True)


@nb.njit(nogil=True, forceinline=True)
def _add(totals: Any, row: int, limbs: Any, place: int) -> None:
    """Add one number to another; two's complement takes care of signs."""
    low = totals[row, 0] + limbs[place, 0]
    totals[row, 1] += limbs[place, 1] + np.uint64(low < limbs[place, 0])
    totals[row, 0] = low


@nb.njit(nb.uint64[:, ::1](_LIMBS, _ROWS, nb.int64), cache=True, nogil=True)
def summed(limbs: Any, groups: Any, count: Any) -> Any:
    """Return the sum of each group; `groups` are numbers below `count`, one a row."""
    totals = np.zeros((count, 2), np.uint64)
    for place in range(len(groups)):
        _add(totals, groups[place], limbs, place)
    return totals


@nb.njit(
    nb.int64(_ROWS, _ROWS, _LIMBS, nb.int64[::1], nb.uint64[:, ::1], nb.boolean[::1]),
    cache=True,
    nogil=True,
)
def add_up(rows: Any, counts: Any, limbs: Any, all_counts: Any, sums: Any, touched: Any) -> Any:
    """Add counts and numbers, if there are any, to their rows; return how many it touches first."""
    firsts = 0
    for place in range(len(rows)):
        row = rows[place]
        all_counts[row] += counts[place]
        if len(limbs):
            _add(sums, row, limbs, place)
        firsts += not touched[row]
        touched[row] = True
    return firsts
