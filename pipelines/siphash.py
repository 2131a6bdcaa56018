"""SipHash-2-4 with 128 bits, of rows of texts.

By the paper and the reference of Aumasson and Bernstein (https://github.com/veorq/SipHash): who
does not know the key cannot choose two messages that collide.
"""

from typing import Any

import numba as nb
import numpy as np

from compiled.memory import WORD_BYTES, inlined, number_at, word_before
from pipelines.text_columns import Texts, placed

_HALF_BITS = np.uint64(32)


@inlined
def _rounds(v0: Any, v1: Any, v2: Any, v3: Any, count: int) -> Any:
    for _ in range(count):
        v0 += v1
        v2 += v3
        v1 = ((v1 << np.uint64(13)) | (v1 >> np.uint64(51))) ^ v0
        v3 = ((v3 << np.uint64(16)) | (v3 >> np.uint64(48))) ^ v2
        v0 = (v0 << np.uint64(32)) | (v0 >> np.uint64(32))
        v2 += v1
        v0 += v3
        v1 = ((v1 << np.uint64(17)) | (v1 >> np.uint64(47))) ^ v2
        v3 = ((v3 << np.uint64(21)) | (v3 >> np.uint64(43))) ^ v0
        v2 = (v2 << np.uint64(32)) | (v2 >> np.uint64(32))
    return v0, v1, v2, v3


@inlined
def _begun(low_key: Any, high_key: Any) -> Any:
    return (
        np.uint64(0x736F6D6570736575) ^ low_key,
        np.uint64(0x646F72616E646F6D) ^ high_key ^ np.uint64(0xEE),
        np.uint64(0x6C7967656E657261) ^ low_key,
        np.uint64(0x7465646279746573) ^ high_key,
    )


@inlined
def _with_word(state: Any, word: Any) -> Any:
    v0, v1, v2, v3 = state
    v0, v1, v2, v3 = _rounds(v0, v1, v2, v3 ^ word, 2)
    return v0 ^ word, v1, v2, v3


@inlined
def _ended(state: Any, size: int, rest: Any) -> Any:
    """Return the hash of a message of so many bytes, those beyond its full words last."""
    v0, v1, v2, v3 = _with_word(state, (np.uint64(size) << np.uint64(56)) | rest)
    v0, v1, v2, v3 = _rounds(v0, v1, v2 ^ np.uint64(0xEE), v3, 4)
    low = v0 ^ v1 ^ v2 ^ v3
    v0, v1, v2, v3 = _rounds(v0, v1 ^ np.uint64(0xDD), v2, v3, 4)
    return low, v0 ^ v1 ^ v2 ^ v3


@nb.njit("UniTuple(u8, 2)(u8[::1], i8, u8, u8)", cache=True, nogil=True)
def siphash(words: Any, size: int, low_key: Any, high_key: Any) -> Any:
    """Return the hash of a message as two numbers, little-endian as all here.

    `words` holds the message's `size` bytes, then zeros to the end of a word that they do not fill.
    """
    state = _begun(low_key, high_key)
    full = size // WORD_BYTES
    for place in range(full):
        state = _with_word(state, words[place])
    return _ended(state, size, words[full] if size % WORD_BYTES else np.uint64(0))


@inlined
def _size(column: Any, row: int) -> Any:
    starts, _, _ = column
    return np.uint64(number_at(starts, row + 1) - number_at(starts, row))


@nb.njit(
    nb.uint64[:, ::1](nb.types.UniTuple(Texts, 3), nb.uint64, nb.uint64),  # type: ignore[no-untyped-call]
    cache=True,
    nogil=True,
)
def row_hashes(texts: Any, low_key: Any, high_key: Any) -> Any:
    """Return the hash of each row of three columns, as two numbers.

    A row's message is the size of each of its texts (four bytes; none of a fourth), and the texts,
    each with zeros to the end of a word: no two rows that differ have one message.
    """
    rows = len(texts[0][0]) - 1
    columns = (placed(texts[0]), placed(texts[1]), placed(texts[2]))
    hashes = np.empty((rows, 2), np.uint64)
    for row in range(rows):
        words = 2
        state = _begun(low_key, high_key)
        state = _with_word(state, _size(columns[0], row) | _size(columns[1], row) << _HALF_BITS)
        state = _with_word(state, _size(columns[2], row))
        for starts, text, limit in columns:
            at, end = number_at(starts, row), number_at(starts, row + 1)
            while at < end:
                state = _with_word(state, word_before(text, at, end, limit))
                at += WORD_BYTES
                words += 1
        hashes[row, 0], hashes[row, 1] = _ended(state, WORD_BYTES * words, np.uint64(0))
    return hashes
