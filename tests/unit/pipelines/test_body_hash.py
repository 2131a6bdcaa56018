"""The hash of bodies beside a naive one, and that it sees each bit."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.body_hash import hashes
from pipelines.text_columns import texts_of

MASK = (1 << 64) - 1
SECRET, OTHER = 0x243F6A8885A308D3, 0x13198A2E03707344


def folded(left: int, right: int) -> int:
    return (left * right & MASK) ^ (left * right >> 64)


def naive(number: int, texts: tuple[bytes, ...], secret: int, other: int) -> int:
    hashed = folded(number & MASK ^ secret, other)
    for text in texts:
        hashed = folded(len(text) ^ secret, hashed ^ other)
        for at in range(0, len(text), 16):
            word, more = (int.from_bytes(text[a : a + 8], "little") for a in (at, at + 8))
            hashed = folded(word ^ secret, more ^ hashed)
    return folded(hashed ^ secret, other)


def hashed(rows: Sequence[tuple[int, tuple[bytes, ...]]], secret: int, other: int) -> list[int]:
    columns: Any = [
        pa.array([texts[place] for _, texts in rows], pa.binary()) for place in range(4)
    ]
    numbers = np.array([number for number, _ in rows], np.int64)
    of = tuple(map(texts_of, columns))
    return list(map(int, hashes(of, numbers, np.uint64(secret), np.uint64(other))))


texts = st.binary(max_size=40)
words = st.integers(0, MASK)
rows = st.lists(
    st.tuples(st.integers(-(2**63), 2**63 - 1), st.tuples(texts, texts, texts, texts)), max_size=8
)


@settings(deadline=None)
@given(rows, words, words)
def test_rows_are_hashed_as_the_naive_way_hashes_each(
    rows: list[tuple[int, tuple[bytes, ...]]], secret: int, other: int
) -> None:
    assert hashed(rows, secret, other) == [naive(*row, secret, other) for row in rows]


def test_whichever_bit_of_a_body_changes_its_hash_changes_in_about_half_of_its_bits() -> None:
    body = bytes(range(97, 97 + 24))
    rows = [(1, (b"type", b"subject", body, b""))]
    for bit in range(8 * len(body)):
        changed = int.from_bytes(body, "little") ^ (1 << bit)
        rows.append((1, (b"type", b"subject", changed.to_bytes(len(body), "little"), b"")))
    found = hashed(rows, SECRET, OTHER)
    changes = [(found[0] ^ other).bit_count() for other in found[1:]]
    assert min(changes) > 12
    assert 28 < sum(changes) / len(changes) < 36


def test_texts_that_end_elsewhere_have_other_hashes() -> None:
    whole = b"abcdefghijklmnopqrstuvwxyz"
    cuts = [(0, (whole[:at], whole[at:], b"", b"")) for at in range(len(whole) + 1)]
    padded = [(0, (b"\0" * size, b"", b"", b"")) for size in range(40)]
    found = hashed(cuts + padded, SECRET, OTHER)
    assert all(left != right for left, right in pairwise(sorted(found)))
