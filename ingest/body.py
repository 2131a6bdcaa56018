"""A request's body as it was before compression, never larger than the limit.

A small body may claim to hold gigabytes: decompression stops at the limit, not after it.
"""

import zlib
from collections.abc import Callable
from typing import Any

from backports import zstd

PLAIN = frozenset({b"", b"identity"})
ENCODINGS = PLAIN | {b"gzip", b"x-gzip", b"zstd"}
MEMBERS_MAX = 64
"""Of concatenated gzip members or zstd frames: each costs a copy of what follows it."""

_GZIP = zlib.MAX_WBITS | 16
# RFC 8878 asks every decoder to support windows of 8 MiB; more would be memory for the asking.
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}


class BodyTooLargeError(ValueError):
    """The body is larger than the limit once decompressed."""


class CorruptBodyError(ValueError):
    """The body is not what its Content-Encoding says."""


def decompress(body: bytes, encoding: bytes, bytes_max: int) -> bytes:
    """Return the decompressed body.

    Raises:
        BodyTooLargeError: more than `bytes_max` bytes would come out.
        CorruptBodyError: broken or cut off.
    """
    if encoding in PLAIN:
        return body
    if encoding == b"zstd":
        return _decompress(body, "zstd", _zstd_decompressor, bytes_max)
    return _decompress(body, "gzip", _gzip_decompressor, bytes_max)


def _gzip_decompressor() -> Any:
    return zlib.decompressobj(_GZIP)


def _zstd_decompressor() -> Any:
    return zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)


def _decompress(body: bytes, name: str, make: Callable[[], Any], bytes_max: int) -> bytes:
    members: list[bytes] = []
    room = bytes_max
    while body:
        if len(members) == MEMBERS_MAX:
            raise CorruptBodyError(f"{name} of more than {MEMBERS_MAX} members")
        decompressor = make()
        try:
            member: bytes = decompressor.decompress(body, room + 1)
        except (zlib.error, zstd.ZstdError) as error:
            raise CorruptBodyError(f"not {name}: {error}") from error
        room -= len(member)
        if room < 0:
            raise BodyTooLargeError
        if not decompressor.eof:
            raise CorruptBodyError(f"{name} ends too early")
        members.append(member)
        body = decompressor.unused_data
    return members[0] if len(members) == 1 else b"".join(members)
