"""Content codings, both ways, streamed: memory is bounded whatever the input claims to hold."""

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import lz4.frame
from backports import zstd

from infra.embedded.gateway.errors import GatewayError

_PIECE_BYTES = 1024 * 1024

# In the order in which the gateway prefers them.
CODINGS = ("lz4", "zstd", "gzip", "deflate")


class Compressor(Protocol):
    """A running content coding of one answer."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """Returns what is ready to be sent."""

    def flush(self) -> bytes:
        """Returns the rest, and ends the coding."""


class _Decompressor(Protocol):
    """The interface that the codings of Python share (lzma's); one per frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Inflater:
    """Gives zlib the shared interface."""

    def __init__(self, window_bits: int) -> None:
        self._zlib = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


class _Lz4Compressor:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: bytes | memoryview, /) -> bytes:
        head = b"" if self._begun else bytes(self._frame.begin())
        self._begun = True
        return head + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        return self.compress(b"") + bytes(self._frame.flush())


# name: how to open a frame, ClickHouse's error for bytes that are not one
_DECODERS: dict[str, tuple[Callable[[], _Decompressor], int, str]] = {
    "gzip": (lambda: _Inflater(31), 354, "ZLIB_INFLATE_FAILED"),
    "x-gzip": (lambda: _Inflater(31), 354, "ZLIB_INFLATE_FAILED"),
    "deflate": (lambda: _Inflater(15), 354, "ZLIB_INFLATE_FAILED"),
    "lz4": (lz4.frame.LZ4FrameDecompressor, 618, "LZ4_DECODER_FAILED"),
    "zstd": (zstd.ZstdDecompressor, 561, "ZSTD_DECODER_FAILED"),
}


def choose_coding(accept_encoding: str) -> str | None:
    """Returns the coding to answer in, or None for plain bytes."""
    offered: set[str] = set()
    for part in accept_encoding.lower().split(","):
        name, _, weight = part.partition(";")
        if weight.strip().rstrip("0") not in ("q=", "q=0."):
            offered.add(name.strip())
    return next((name for name in CODINGS if name in offered), None)


def make_compressor(coding: str) -> Compressor:
    """Returns a fresh compressor of a coding named in CODINGS."""
    if coding == "lz4":
        return _Lz4Compressor()
    if coding == "zstd":
        return zstd.ZstdCompressor(level=1)
    return zlib.compressobj(1, zlib.DEFLATED, 31 if coding == "gzip" else 15)


def decompress(coding: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Returns the plain bytes of a coded body, in pieces of at most a mebibyte.

    Several frames or members in a row count as one body, as clients send them.

    Raises:
        GatewayError: The bytes are not in that coding, end early, or the coding is unknown.
    """
    name = coding.strip().lower()
    if name in ("", "identity"):
        return chunks
    if name not in _DECODERS:
        message = f"Content-Encoding {coding!r} is not known here"
        raise GatewayError(48, "NOT_IMPLEMENTED", message, status=415)
    return _decode(chunks, *_DECODERS[name])


def _decode(
    chunks: Iterator[bytes], open_frame: Callable[[], _Decompressor], code: int, name: str
) -> Iterator[bytes]:
    frame: _Decompressor | None = None
    try:
        for chunk in chunks:
            data = chunk
            while data or (frame is not None and not frame.needs_input):
                frame = frame or open_frame()
                piece = frame.decompress(data, _PIECE_BYTES)
                data = b""
                if piece:
                    yield piece
                if frame.eof:
                    data = frame.unused_data or b""
                    frame = None
    except (zlib.error, zstd.ZstdError, RuntimeError, EOFError) as error:
        raise GatewayError(code, name, f"The body is not valid: {error}", status=400) from error
    if frame is not None:
        raise GatewayError(code, name, "The compressed body ends early", status=400)
