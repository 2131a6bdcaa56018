"""Compressed bodies: exact, bounded, and never trusted about their size."""

import gzip
import tracemalloc
import zlib

import pytest
from backports import zstd

from ingest.body import MEMBERS_MAX, BodyTooLargeError, CorruptBodyError, decompress

LIMIT = 1_000_000
TEXT = b'{"a":1}' * 1000


def compress(text: bytes, encoding: bytes) -> bytes:
    return gzip.compress(text) if encoding == b"gzip" else zstd.compress(text)


@pytest.mark.parametrize("encoding", [b"gzip", b"zstd"])
def test_a_body_comes_out_as_it_went_in(encoding: bytes) -> None:
    packed = compress(TEXT, encoding)
    assert decompress(packed, encoding, LIMIT) == TEXT
    assert decompress(packed, encoding, len(TEXT)) == TEXT
    assert decompress(packed + packed, encoding, LIMIT) == TEXT + TEXT


def test_an_uncompressed_body_is_left_alone() -> None:
    assert decompress(TEXT, b"", LIMIT) is TEXT


@pytest.mark.parametrize("encoding", [b"gzip", b"zstd"])
def test_a_bomb_is_refused_before_it_fills_memory(encoding: bytes) -> None:
    bomb = compress(bytes(40_000_000), encoding)
    tracemalloc.start()
    with pytest.raises(BodyTooLargeError):
        decompress(bomb, encoding, LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * LIMIT


@pytest.mark.parametrize("encoding", [b"gzip", b"zstd"])
def test_one_byte_over_the_limit_is_too_large(encoding: bytes) -> None:
    with pytest.raises(BodyTooLargeError):
        decompress(compress(TEXT, encoding), encoding, len(TEXT) - 1)


@pytest.mark.parametrize("encoding", [b"gzip", b"zstd"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "trailing", "other"])
def test_a_damaged_body_is_refused(encoding: bytes, damage: str) -> None:
    packed = compress(TEXT, encoding)
    damaged = {
        "cut": packed[:-5],
        "garbage": b"not compressed",
        "trailing": packed + b"x",
        "other": zlib.compress(TEXT),
    }[damage]
    with pytest.raises(CorruptBodyError):
        decompress(damaged, encoding, LIMIT)


def test_a_gzip_body_of_countless_members_is_refused() -> None:
    with pytest.raises(CorruptBodyError):
        decompress(gzip.compress(b"") * (MEMBERS_MAX + 1), b"gzip", LIMIT)
