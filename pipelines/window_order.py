"""Puts rows of windows in the order of their table's key, and lays them out once, by column.

A row's key is two words: of what tells rows apart, ranks of so many bits each. So texts are
compared once each, and rows never. Its loops compile as this module is imported.
"""

from typing import Any

import numba as nb
import numpy as np

_DIGIT_BITS = 11
_CODES = nb.types.Array(nb.int32, 1, "C", readonly=True)
_NUMBERS = nb.types.Array(nb.int64, 1, "C", readonly=True)


@nb.njit(
    nb.types.UniTuple(nb.int64[::1], 2)(  # type: ignore[no-untyped-call]
        nb.types.UniTuple(nb.int64, 2),  # type: ignore[no-untyped-call]
        nb.types.UniTuple(_CODES, 4),  # type: ignore[no-untyped-call]
        nb.types.UniTuple(_NUMBERS, 4),  # type: ignore[no-untyped-call]
    ),
    cache=True,
    nogil=True,
)
def keys_of(base: Any, codes: Any, parts: Any) -> Any:
    """Return the keys of rows, by word.

    They are `base`, and parts by the codes of subject, start, dimensions and item.
    """
    subjects, starts, dimensions, items = codes
    of_subject, of_start, of_dimensions, of_item = parts
    highs, lows = np.empty(len(starts), np.int64), np.empty(len(starts), np.int64)
    for row in range(len(starts)):
        highs[row] = base[0] | of_subject[subjects[row]] | of_start[starts[row]]
        lows[row] = base[1] | of_dimensions[dimensions[row]] | of_item[items[row]]
    return highs, lows


@nb.njit(
    nb.int64[::1](_NUMBERS, nb.int64, nb.int64[::1]),
    cache=True,
    nogil=True,
)
def order_of(word: Any, bits: Any, order: Any) -> Any:
    """Return rows in the order of one word of their keys, of so many bits; else in their order."""
    other, mask = np.empty(len(order), np.int64), (1 << _DIGIT_BITS) - 1
    for shift in range(0, bits, _DIGIT_BITS):
        places = np.zeros((1 << _DIGIT_BITS) + 1, np.int64)
        for row in range(len(word)):
            places[((word[row] >> shift) & mask) + 1] += 1
        for digit in range(1 << _DIGIT_BITS):
            places[digit + 1] += places[digit]
        order, other = other, order
        for place in range(len(other)):
            row = other[place]
            digit = (word[row] >> shift) & mask
            order[places[digit]] = row
            places[digit] += 1
    return order


_INT, _LONG, _LIMB = nb.int32, nb.int64, nb.uint64
_SHARED = nb.types.Tuple((_INT[:, ::1], _LONG[:, ::1], _LIMB[:, ::1]))  # type: ignore[no-untyped-call]
_LAID = nb.types.Tuple(  # type: ignore[no-untyped-call]
    (_INT[:, ::1], nb.uint16[:, ::1], _LONG[:, ::1], _LIMB[::1], _LIMB[:, ::1])
)


@nb.njit(
    _LAID(_NUMBERS, _NUMBERS, _LONG[:, ::1], _SHARED, _NUMBERS),
    cache=True,
    nogil=True,
)
def laid_out(highs: Any, lows: Any, parts: Any, shared: Any, starts: Any) -> Any:
    """Return what the keys of rows say, by column; see `pipelines.window_rows`.

    `parts` are shift and mask of subject and start in the first word of a key, of dimensions, item
    and block in the second; `shared` is what the rows of each block have in common; `starts` are
    those of windows by rank.
    """
    rows = len(highs)
    codes, shorts = np.empty((7, rows), np.int32), np.empty((2, rows), np.uint16)
    times, segments = np.empty((3, rows), np.int64), np.empty(rows, np.uint64)
    versions = np.empty((rows, 2), np.uint64)
    names, numbers, marks = shared
    # Few columns at a time: more would put each other out of the processor's nearest cache.
    for row in range(rows):
        codes[3, row] = (highs[row] >> parts[0, 0]) & parts[0, 1]
        codes[4, row] = (lows[row] >> parts[2, 0]) & parts[2, 1]
        codes[5, row] = (lows[row] >> parts[3, 0]) & parts[3, 1]
    for row in range(rows):
        block, start = lows[row] & parts[4, 1], starts[(highs[row] >> parts[1, 0]) & parts[1, 1]]
        times[0, row], times[1, row] = start, start + numbers[block, 0]
        times[2, row] = numbers[block, 1]
    for row in range(rows):
        block = lows[row] & parts[4, 1]
        codes[0, row], codes[1, row] = names[block, 0], names[block, 1]
        codes[2, row], codes[6, row] = names[block, 2], names[block, 3]
    for row in range(rows):
        block = lows[row] & parts[4, 1]
        shorts[0, row], shorts[1, row] = numbers[block, 2], numbers[block, 3]
        segments[row] = marks[block, 0]
        versions[row, 0], versions[row, 1] = marks[block, 1], marks[block, 2]
    return codes, shorts, times, segments, versions
