"""Writes one answer: held back while its status may still change, then streamed in chunks.

A failure before the first byte left is a plain error; after it, ClickHouse's exception frame goes
into the stream and the connection breaks, so that no reader takes a part for the whole.
"""

import contextlib
import json
import secrets
import socket
import string
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO

from infra.embedded.gateway.compression import Compressor, make_compressor
from infra.embedded.gateway.errors import ClientGoneError, GatewayError

_FRAME_BYTES_MAX = 16 * 1024
_FRAME_SECONDS = 0.5
_SEND_BYTES = 1024 * 1024


@dataclass(slots=True)
class Summary:
    """What a statement read, wrote and returned, as X-ClickHouse-Summary tells it."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    started_ns: int = field(default_factory=time.monotonic_ns)
    hides_reading: bool = False
    """Where what was read is not all of the reader's."""

    def to_header(self) -> str:
        """Returns the header's JSON, numbers as strings as ClickHouse writes them."""
        return json.dumps(
            {
                "read_rows": str(0 if self.hides_reading else self.read_rows),
                "read_bytes": str(0 if self.hides_reading else self.read_bytes),
                "written_rows": str(self.written_rows),
                "written_bytes": str(self.written_bytes),
                "total_rows_to_read": "0",
                "result_rows": str(self.result_rows),
                "result_bytes": str(self.result_bytes),
                "elapsed_ns": str(time.monotonic_ns() - self.started_ns),
            },
            separators=(",", ":"),
        )


@dataclass(slots=True)
class Wire:
    """The connection as an answer sees it."""

    connection: socket.socket
    is_head: bool
    is_chunked: bool
    keep_alive: bool
    is_request_read: Callable[[], bool]
    spool_dir: Path
    held_bytes: int
    sent_bytes: int = 0

    def send(self, data: bytes) -> None:
        """Sends bytes, or raises ClientGoneError."""
        try:
            self.connection.sendall(data)
        except OSError as error:
            self.keep_alive = False
            raise ClientGoneError(str(error)) from error
        self.sent_bytes += len(data)


@dataclass(slots=True)
class Answer:
    """One answer in the making."""

    wire: Wire
    coding: str | None = None
    waits_for_end: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    summary: Summary = field(default_factory=Summary)
    has_begun: bool = False
    _compressor: Compressor | None = None
    _held: IO[bytes] | None = None
    _held_size: int = 0
    _tag: str = ""

    def write(self, data: bytes | memoryview) -> None:
        """Adds bytes of the result; sends them once the status is settled."""
        if not data:
            return
        if self.coding:
            self._compressor = self._compressor or make_compressor(self.coding)
            data = self._compressor.compress(data)
        if self.has_begun:
            self._send_chunk(bytes(data))
            return
        self._hold(data)
        if self._held_size > self.wire.held_bytes and not self.waits_for_end:
            self._begin()

    def finish(self) -> None:
        """Ends a good answer."""
        rest = self._compressor.flush() if self._compressor else b""
        if self.has_begun:
            self._send_chunk(rest)
            if self.wire.is_chunked and not self.wire.is_head:
                self.wire.send(b"0\r\n\r\n")
            return
        self._hold(rest)
        if self._compressor:
            self.headers["Content-Encoding"] = str(self.coding)
        self.headers["X-ClickHouse-Summary"] = self.summary.to_header()
        self._send_head(self._held_size)
        self._send_held()

    def fail(self, error: GatewayError, version: str) -> None:
        """Ends a failed answer with the error, wherever it stands."""
        text = f"{error.text} (version {version})\n"
        if self.has_begun:
            self._break_off(text)
            return
        self._drop_held()
        self.status = error.status
        body = text.encode()
        self.headers.pop("X-ClickHouse-Format", None)
        self.headers["Content-Type"] = "text/plain; charset=UTF-8"
        self.headers["X-ClickHouse-Exception-Code"] = str(error.code)
        self.headers["X-ClickHouse-Summary"] = self.summary.to_header()
        self._send_head(len(body), b"" if self.wire.is_head else body)

    def close(self) -> None:
        """Lets go of what was held; to be called whatever happened."""
        self._drop_held()

    def _hold(self, data: bytes | memoryview) -> None:
        if self._held is None:
            self._held = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by close()
                max_size=2 * self.wire.held_bytes, dir=str(self.wire.spool_dir)
            )
        self._held.write(data)
        self._held_size += len(data)

    def _send_held(self) -> None:
        if self._held is None or self.wire.is_head:
            return
        self._held.seek(0)
        while data := self._held.read(_SEND_BYTES):
            self.wire.send(data)
        self._drop_held()

    def _drop_held(self) -> None:
        if self._held is not None:
            self._held.close()
        self._held, self._held_size = None, 0

    def _begin(self) -> None:
        self._tag = "".join(secrets.choice(string.ascii_lowercase) for _ in range(16))
        self.headers["X-ClickHouse-Exception-Tag"] = self._tag
        self.headers["X-ClickHouse-Summary"] = self.summary.to_header()
        if self.coding:
            self.headers["Content-Encoding"] = self.coding
        self.has_begun = True
        self._send_head(None)
        if self._held is not None:
            self._held.seek(0)
            self._send_chunk(self._held.read())
            self._drop_held()

    def _send_head(self, length: int | None, body: bytes = b"") -> None:
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        if length is not None:
            self.headers["Content-Length"] = str(length)
        elif self.wire.is_chunked:
            self.headers["Transfer-Encoding"] = "chunked"
        else:
            self.wire.keep_alive = False
        if not self.wire.is_request_read():
            self.wire.keep_alive = False
        self.headers["Connection"] = "keep-alive" if self.wire.keep_alive else "close"
        lines.extend(f"{name}: {value}" for name, value in self.headers.items())
        head = "\r\n".join(lines) + "\r\n\r\n"
        self.wire.send(head.encode("latin-1", errors="replace") + body)

    def _send_chunk(self, data: bytes) -> None:
        if not data or self.wire.is_head:
            return
        if self.wire.is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.wire.send(data)

    def _break_off(self, text: str) -> None:
        message = text.rstrip("\n").encode()[: _FRAME_BYTES_MAX - 128]
        tag = self._tag.encode()
        frame = b"\r\n__exception__\r\n%b\r\n%b\n%d %b\r\n__exception__\r\n" % (
            *(tag, message, len(message), tag),
        )
        self.wire.keep_alive = False
        if self._compressor:
            frame = self._compressor.compress(frame) + self._compressor.flush()
        self._send_chunk(frame)
        self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        """Gives the peer time to find the frame; some drop unread bytes when the line breaks."""
        deadline = time.monotonic() + _FRAME_SECONDS
        with contextlib.suppress(OSError):
            while (left := deadline - time.monotonic()) > 0:
                self.wire.connection.settimeout(left)
                if not self.wire.connection.recv(_SEND_BYTES):
                    return
