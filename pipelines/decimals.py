"""Columns of `VALUE_TYPE` as two 64-bit limbs, so that state can be added to in place."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.values import VALUE_TYPE


def limbs_of(column: Any) -> Any:
    """Return an Arrow column of `VALUE_TYPE` as an array of (low, high) limbs."""
    assert column.type == VALUE_TYPE  # noqa: S101 - the layout below is this type's
    assert column.null_count == 0  # noqa: S101
    data = np.frombuffer(column.buffers()[1], np.uint64)
    return data.reshape(-1, 2)[column.offset : column.offset + len(column)]


def column_of(limbs: Any) -> Any:
    """Return limbs as an Arrow column of `VALUE_TYPE`, in the same memory."""
    data = pa.py_buffer(np.ascontiguousarray(limbs))
    return pa.Array.from_buffers(VALUE_TYPE, len(limbs), [None, data])
