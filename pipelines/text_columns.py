"""Columns of texts as arrays, for compiled functions.

`Texts` is what a compiled function takes for one column: where each text starts (one number more
than there are rows), and the bytes of all. Both are Arrow's own memory, which was checked where it
was read: no text lies outside.
"""

from typing import Any

import numba as nb
import numpy as np
import pyarrow as pa

from compiled.memory import WORD_BYTES, folded_product, inlined, word_before

PLACES = nb.types.Array(nb.int32, 1, "C", readonly=True)
BYTES = nb.types.Array(nb.uint8, 1, "C", readonly=True)
Texts = nb.types.Tuple((PLACES, BYTES))  # type: ignore[no-untyped-call]
"""As a numba type."""


def texts_of(column: Any) -> tuple[Any, Any]:
    """Return a column of texts or bytes, without gaps, as `Texts`."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    assert column.null_count == 0  # noqa: S101 - all our columns are without gaps
    _, starts, data = column.buffers()
    rows = len(column)
    if not rows:
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    starts = np.frombuffer(starts, np.int32, rows + 1, 4 * column.offset)
    # A buffer may be missing where every text is empty.
    return starts, np.frombuffer(data or b"", np.uint8)


@inlined
def placed(texts: Any) -> Any:
    """Return the addresses of a column's starts and of its bytes, and how many bytes there are."""
    starts, data = texts
    return np.int64(starts.ctypes.data), np.int64(data.ctypes.data), len(data)


@inlined
def mixed(hashed: Any, text: Any, at: Any, end: Any, limit: Any, secrets: Any) -> Any:
    """Return a quick hash of a text of a column, after what it was before; see `placed`.

    Products of what is read with what the secrets and all before have come to: who does not know
    the secrets cannot choose texts that meet.
    """
    secret, other = secrets
    hashed = folded_product(np.uint64(end - at) ^ secret, hashed ^ other)
    while at < end:
        word = word_before(text, at, end, limit)
        at += WORD_BYTES
        more = word_before(text, at, end, limit) if at < end else np.uint64(0)
        at += WORD_BYTES
        hashed = folded_product(word ^ secret, more ^ hashed)
    return hashed
