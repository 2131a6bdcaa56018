"""SipHash-2-4 with 128 bits, of rows of texts.

By the paper and the reference of Aumasson and Bernstein (https://github.com/veorq/SipHash): who
does not know the key cannot choose two messages that collide.
"""

from typing import Any

import numba as nb
import numpy as np

from pipelines.text_columns import Texts

_WORD = 8


@nb.njit(nogil=True)
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


@nb.njit("UniTuple(u8, 2)(u8[::1], i8, u8, u8)", cache=True, nogil=True)
def siphash(words: Any, size: int, low_key: Any, high_key: Any) -> Any:
    """Return the hash of a message as two numbers, little-endian as all here.

    `words` holds the message's `size` bytes, then zeros to the end of a word that they do not fill.
    """
    v0 = np.uint64(0x736F6D6570736575) ^ low_key
    v1 = np.uint64(0x646F72616E646F6D) ^ high_key ^ np.uint64(0xEE)
    v2 = np.uint64(0x6C7967656E657261) ^ low_key
    v3 = np.uint64(0x7465646279746573) ^ high_key
    full = size // _WORD
    for place in range(full):
        word = words[place]
        v3 ^= word
        v0, v1, v2, v3 = _rounds(v0, v1, v2, v3, 2)
        v0 ^= word
    last = np.uint64(size) << np.uint64(56)
    if size % _WORD:
        last |= words[full]
    v3 ^= last
    v0, v1, v2, v3 = _rounds(v0, v1, v2, v3, 2)
    v0 ^= last
    v2 ^= np.uint64(0xEE)
    v0, v1, v2, v3 = _rounds(v0, v1, v2, v3, 4)
    low = v0 ^ v1 ^ v2 ^ v3
    v1 ^= np.uint64(0xDD)
    v0, v1, v2, v3 = _rounds(v0, v1, v2, v3, 4)
    return low, v0 ^ v1 ^ v2 ^ v3


@nb.njit(nogil=True)
def _copy(source: Any, first: Any, target: Any, place: Any, size: Any) -> None:
    """Copy bytes; numbers without a sign spare a look at whether they count from the end."""
    at, to = np.uint64(first), np.uint64(place)
    for offset in range(np.uint64(size)):
        target[to + offset] = source[at + offset]


_COLUMNS = [nb.types.UniTuple(Texts, count) for count in (1, 3, 4)]  # type: ignore[no-untyped-call]


@nb.njit(
    [nb.uint64[:, ::1](texts, nb.int64[::1], nb.uint64, nb.uint64) for texts in _COLUMNS],
    cache=True,
    nogil=True,
)
def row_hashes(columns: Any, numbers: Any, low_key: Any, high_key: Any) -> Any:
    """Return the hash of each row, as two numbers.

    A row's message is its number, the size of each of its texts (four bytes), and the texts: no two
    rows that differ have one message. `numbers` has one for each row.
    """
    rows = len(numbers)
    head = _WORD + 4 * len(columns)
    head += head % _WORD
    size_max = 0
    for row in range(rows):
        size = head
        for starts, _ in columns:
            size += starts[row + 1] - starts[row]
        size_max = max(size_max, size)
    words = np.zeros(size_max // _WORD + 1, np.uint64)
    message = words.view(np.uint8)
    sizes = words.view(np.int32)
    hashes = np.empty((rows, 2), np.uint64)
    for row in range(rows):
        words[0] = np.uint64(numbers[row])
        size, place = head, 2
        for starts, texts in columns:
            length = starts[row + 1] - starts[row]
            sizes[place] = length
            place += 1
            _copy(texts, starts[row], message, size, length)
            size += length
        for offset in range(size, (size + _WORD - 1) // _WORD * _WORD):
            message[offset] = 0
        hashes[row, 0], hashes[row, 1] = siphash(words, size, low_key, high_key)
    return hashes
