"""Reads numbers without exponents out of texts as exact limbs of `pipelines.decimals`.

Its loops compile as this module is imported.
"""

from typing import Any

import numba as nb
import numpy as np

from compiled.memory import byte_at, inlined
from pipelines.text_columns import BYTES, PLACES

_MINUS, _POINT, _ZERO, _NINE = (ord(each) for each in "-.09")
_WHOLE_DIGITS, _DECIMALS = 18, 12
_HALF = np.uint64(0xFFFFFFFF)
_HALF_BITS = np.uint64(32)
_SCALE = np.uint64(10**_DECIMALS)


@inlined
def _natural(text: Any, at: Any, end: Any, digits_max: int) -> Any:
    """Return the number that digits are, and where they end; -1 for none or more than so many."""
    number, first = np.uint64(0), at
    while at < end and _ZERO <= byte_at(text, at) <= _NINE:
        if at - first == digits_max:
            return number, -1
        number = number * np.uint64(10) + np.uint64(byte_at(text, at) - _ZERO)
        at += 1
    return number, at if at > first else -1


@inlined
def _parsed(text: Any, at: Any, end: Any) -> Any:
    """Return a number's digits before the point and behind it, and whether it is plain."""
    behind, decimals = np.uint64(0), 0
    whole, at = _natural(text, at, end, _WHOLE_DIGITS)
    if 0 <= at < end and byte_at(text, at) == _POINT:
        first = at + 1
        behind, at = _natural(text, first, end, _DECIMALS)
        decimals = at - first
    if at != end:
        return whole, behind, False
    for _ in range(_DECIMALS - decimals):
        behind *= np.uint64(10)
    return whole, behind, True


@nb.njit(
    nb.types.Tuple((nb.uint64[:, ::1], nb.boolean))(BYTES, PLACES, PLACES, nb.boolean[::1]),  # type: ignore[no-untyped-call]
    cache=True,
    nogil=True,
)
def exact_limbs(data: Any, starts: Any, sizes: Any, has_value: Any) -> Any:
    """Return numbers as limbs of 12 decimals, zero where there is none; and whether all are plain.

    They are so many bytes each from some places. A number that stands in quotes counts as one.
    """
    limbs = np.zeros((len(starts), 2), np.uint64)
    text = np.int64(data.ctypes.data)
    for row in range(len(starts)):
        if not has_value[row]:
            continue
        at = np.int64(starts[row])
        end = at + sizes[row]
        is_negative = at < end and byte_at(text, at) == _MINUS
        whole, behind, is_plain = _parsed(text, at + 1 if is_negative else at, end)
        if not is_plain:
            return limbs, False
        # Times ten to the twelfth, in halves of a word.
        first = (whole & _HALF) * (_SCALE & _HALF)
        middle = (whole & _HALF) * (_SCALE >> _HALF_BITS) + (whole >> _HALF_BITS) * (_SCALE & _HALF)
        middle += first >> _HALF_BITS
        low = (middle << _HALF_BITS) | (first & _HALF)
        high = (whole >> _HALF_BITS) * (_SCALE >> _HALF_BITS) + (middle >> _HALF_BITS)
        low += behind
        high += np.uint64(low < behind)
        if is_negative:
            low = ~low + np.uint64(1)
            high = ~high + np.uint64(low == np.uint64(0))
        limbs[row, 0], limbs[row, 1] = low, high
    return limbs, True
