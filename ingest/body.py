"""A request's body as it was before compression, never larger than the limit.

A small body may claim to hold gigabytes: decompression stops at the limit, not after it.
"""

import zlib

import zstandard

ENCODINGS = frozenset({b"", b"identity", b"gzip", b"x-gzip", b"zstd"})
ZSTD_WINDOW_MAX = 8 * 1024 * 1024
"""RFC 8878 asks every decoder to support as much; more would be memory for the asking."""
GZIP_MEMBERS_MAX = 64
"""Each member costs a copy of what follows it."""

_GZIP = zlib.MAX_WBITS | 16


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
    if encoding in {b"", b"identity"}:
        return body
    if encoding == b"zstd":
        return _from_zstd(body, bytes_max)
    return _from_gzip(body, bytes_max)


def _from_gzip(body: bytes, bytes_max: int) -> bytes:
    members: list[bytes] = []
    size = 0
    while body:
        if len(members) == GZIP_MEMBERS_MAX:
            raise CorruptBodyError(f"gzip of more than {GZIP_MEMBERS_MAX} members")
        decompressor = zlib.decompressobj(_GZIP)
        try:
            member = decompressor.decompress(body, bytes_max - size + 1)
        except zlib.error as error:
            raise CorruptBodyError(f"not gzip: {error}") from error
        size += len(member)
        if size > bytes_max:
            raise BodyTooLargeError
        if not decompressor.eof:
            raise CorruptBodyError("gzip ends too early")
        members.append(member)
        # Some senders pad a gzip file with zeros.
        body = decompressor.unused_data.lstrip(b"\0")
    return b"".join(members)


def _from_zstd(body: bytes, bytes_max: int) -> bytes:
    if not body:
        return b""
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX)
    try:
        with decompressor.stream_reader(body, read_across_frames=True) as reader:
            plain: bytes = reader.read(bytes_max + 1)
    except zstandard.ZstdError as error:
        raise CorruptBodyError(f"not zstd: {error}") from error
    if len(plain) > bytes_max:
        raise BodyTooLargeError
    return plain
