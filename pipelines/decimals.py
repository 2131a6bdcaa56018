"""Columns of `VALUE_TYPE` as two 64-bit limbs, so that state can be added to in place."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.values import VALUE_TYPE

_HALF_BITS = np.uint64(32)
_HALF = np.uint64((1 << 32) - 1)


def limbs_of(column: Any) -> Any:
    """Return an Arrow column of `VALUE_TYPE` as an array of (low, high) limbs."""
    assert column.type == VALUE_TYPE  # noqa: S101 - the layout below is this type's
    assert column.null_count == 0  # noqa: S101
    data = np.frombuffer(column.buffers()[1], np.uint64)
    return data.reshape(-1, 2)[column.offset : column.offset + len(column)]


def column_of(limbs: Any) -> Any:
    """Return limbs as an Arrow column of `VALUE_TYPE`."""
    data = pa.py_buffer(np.ascontiguousarray(limbs).tobytes())
    return pa.Array.from_buffers(VALUE_TYPE, len(limbs), [None, data])


def added(left: Any, right: Any) -> Any:
    """Return the sums, row by row; two's complement takes care of signs."""
    low = left[:, 0] + right[:, 0]
    carry = (low < left[:, 0]).astype(np.uint64)
    return np.stack([low, left[:, 1] + right[:, 1] + carry], axis=1)


def summed(limbs: Any, groups: Any, count: int) -> Any:
    """Return the sum of each group, as limbs; `groups` are numbers below `count`, one a row."""
    halves = [limbs[:, 0] & _HALF, limbs[:, 0] >> _HALF_BITS, limbs[:, 1]]
    totals = np.zeros((3, count), np.uint64)
    for total, half in zip(totals, halves, strict=True):
        np.add.at(total, groups, half)
    # Two's complement: carries that leave the upper limb are those of signs.
    middle = totals[1] + (totals[0] >> _HALF_BITS)
    low = (totals[0] & _HALF) | (middle << _HALF_BITS)
    return np.stack([low, totals[2] + (middle >> _HALF_BITS)], axis=1)
