"""SipHash by its published vectors, and of rows beside a naive one."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.siphash import row_hashes, siphash
from pipelines.text_columns import texts_of

KEY = bytes(range(16))
PUBLISHED = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    2: "8177228da4a45dc7fca38bdef60affe4",
    3: "9c70b60c5267a94e5f33b6b02985ed51",
}
"""Of the messages 00 01 02 ... of so many bytes, under the key 00 01 ... 0f."""
MASK = (1 << 64) - 1


def turned(number: int, bits: int) -> int:
    return ((number << bits) | (number >> (64 - bits))) & MASK


def mixed(v: list[int], rounds: int) -> None:
    for _ in range(rounds):
        v[0] = (v[0] + v[1]) & MASK
        v[1] = turned(v[1], 13) ^ v[0]
        v[0] = turned(v[0], 32)
        v[2] = (v[2] + v[3]) & MASK
        v[3] = turned(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & MASK
        v[3] = turned(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & MASK
        v[1] = turned(v[1], 17) ^ v[2]
        v[2] = turned(v[2], 32)


def naive(message: bytes, key: bytes) -> bytes:
    """SipHash-2-4 with 128 bits, as the paper's and the reference's words go."""
    low, high = (int.from_bytes(part, "little") for part in (key[:8], key[8:]))
    text = b"somepseudorandomlygeneratedbytes"
    v = [int.from_bytes(text[at : at + 8], "big") for at in range(0, 32, 8)]
    v = [word ^ part for word, part in zip(v, (low, high ^ 0xEE, low, high), strict=True)]
    padded = message + bytes(-(len(message) + 1) % 8) + bytes([len(message) % 256])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        mixed(v, 2)
        v[0] ^= word
    v[2] ^= 0xEE
    mixed(v, 4)
    low = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    mixed(v, 4)
    return low.to_bytes(8, "little") + (v[0] ^ v[1] ^ v[2] ^ v[3]).to_bytes(8, "little")


def words_of(message: bytes) -> Any:
    return np.frombuffer(message + bytes(8 - len(message) % 8), np.uint64).copy()


def as_bytes(words: Any) -> bytes:
    return np.array(words, np.uint64).tobytes()


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_messages_have_their_published_hashes(size: int) -> None:
    message, (low, high) = bytes(range(size)), np.frombuffer(KEY, np.uint64)
    assert as_bytes(siphash(words_of(message), size, low, high)).hex() == PUBLISHED[size]
    assert naive(message, KEY).hex() == PUBLISHED[size]


texts = st.text(max_size=40)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(texts, texts, texts), max_size=8),
    key=st.binary(min_size=16, max_size=16),
    skipped=st.integers(0, 3),
)
def test_a_row_is_hashed_as_the_sizes_of_its_texts_and_the_texts(
    rows: list[tuple[str, str, str]], key: bytes, skipped: int
) -> None:
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(3)]
    found = row_hashes(
        tuple(texts_of(column[skipped:]) for column in columns), *np.frombuffer(key, np.uint64)
    )
    wanted = []
    for row in rows[skipped:]:
        encoded = [part.encode() for part in row]
        sizes = b"".join(len(part).to_bytes(4, "little") for part in encoded).ljust(16, b"\0")
        padded = b"".join(part + bytes(-len(part) % 8) for part in encoded)
        wanted.append(naive(sizes + padded, key))
    assert [row.tobytes() for row in found] == wanted
