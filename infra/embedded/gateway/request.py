"""Reads one HTTP request from a socket: strict about framing, bounded in size and time.

llhttp parses. What it doubts, and what is oversized, late or coded in an unknown way, is refused
before any of it reaches a statement.
"""

import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

import httptools

from infra.embedded.gateway.errors import GatewayError, HttpError
from infra.embedded.gateway.limits import Limits

_RECEIVE_BYTES = 256 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(slots=True)
class Request:
    """One request: its head, and its body as an iterator that reads on demand."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Iterator[bytes]
    keep_alive: bool
    is_chunking: bool
    is_read: Callable[[], bool]


@dataclass(slots=True)
class _Head:
    url: bytearray = field(default_factory=bytearray)
    headers: dict[str, str] = field(default_factory=dict)
    method: str = ""
    version: str = ""
    keep_alive: bool = False
    is_complete: bool = False


class RequestReader:
    """Parses one request and hands out its body chunk by chunk."""

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._head = _Head()
        self._chunks: deque[bytes] = deque()
        self._bytes_before_body = 0
        self._headers_count = 0
        self.is_complete = False
        self.is_pipelined = False

    def read(self) -> Request | None:
        """Returns the next request, or None when the peer closed or stayed idle.

        Raises:
            HttpError: What arrived is not a request this gateway takes.
        """
        deadline: float | None = None
        while not self._head.is_complete:
            wait = self._limits.idle_seconds if deadline is None else deadline - time.monotonic()
            data = self._receive(wait) if wait > 0 else b""
            if not data:
                if deadline is None:
                    return None
                raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "The request's head did not arrive")
            if deadline is None:
                deadline = time.monotonic() + self._limits.header_seconds
            self._bytes_before_body += len(data)
            self._feed(data)
            self._check_head_size()
        return self._request()

    def _receive(self, seconds: float) -> bytes | None:
        """Returns what arrived: nothing when the peer closed, None when the time ran out."""
        self._connection.settimeout(max(seconds, 0.01))
        try:
            return self._connection.recv(_RECEIVE_BYTES)
        except TimeoutError:
            return None
        except OSError:
            return b""

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, "Upgrades are not spoken here") from error
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, HttpError):
                raise error.__context__ from None
            raise HttpError(HTTPStatus.BAD_REQUEST, "Malformed HTTP request") from error
        except httptools.HttpParserError as error:
            if self.is_pipelined:
                return
            raise HttpError(HTTPStatus.BAD_REQUEST, f"Malformed HTTP request: {error}") from error

    def _check_head_size(self) -> None:
        if len(self._head.url) > self._limits.url_bytes_max:
            raise HttpError(HTTPStatus.REQUEST_URI_TOO_LONG, "The URL is too long")
        room = self._limits.header_bytes_max + self._limits.url_bytes_max + _RECEIVE_BYTES
        if not self._head.is_complete and self._bytes_before_body > room:
            raise HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large")

    def _request(self) -> Request:
        headers = self._head.headers
        coding = headers.get("transfer-encoding", "chunked").lower()
        if coding != "chunked":
            raise HttpError(HTTPStatus.NOT_IMPLEMENTED, "Transfer-Encoding other than chunked")
        try:
            parts = urlsplit(bytes(self._head.url).decode("ascii"))
            pairs = parse_qsl(parts.query, keep_blank_values=True, errors="strict")
        except ValueError as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, "The URL cannot be read") from error
        return Request(
            method=self._head.method,
            path=unquote(parts.path),
            params=dict(pairs),
            headers=headers,
            body=self._body(),
            keep_alive=self._head.keep_alive,
            is_chunking=self._head.version != "1.0",
            is_read=lambda: self.is_complete and not self.is_pipelined,
        )

    def _body(self) -> Iterator[bytes]:
        if not self.is_complete and self._head.headers.get("expect", "").lower() == "100-continue":
            self._connection.sendall(_CONTINUE)
        while True:
            while self._chunks:
                yield self._chunks.popleft()
            if self.is_complete:
                return
            data = self._receive(self._limits.body_seconds)
            if data is None:
                message = f"No byte of the body came for {self._limits.body_seconds:g} seconds"
                raise GatewayError(209, "SOCKET_TIMEOUT", message, status=408)
            if not data:
                message = "The request's body ended before its declared end"
                raise GatewayError(33, "CANNOT_READ_ALL_DATA", message, status=400)
            self._feed(data)

    def on_message_begin(self) -> None:
        """Notes a second request in the bytes of the first; it is not served."""
        self.is_pipelined = self.is_complete

    def on_url(self, url: bytes) -> None:
        """Collects the request target."""
        if not self.is_complete:
            self._head.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collects one header; repeated ones are joined by commas."""
        if self.is_complete:
            return
        self._headers_count += 1
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip()
        size = sum(map(len, self._head.headers.values())) + len(text)
        if self._headers_count > self._limits.headers_max or size > self._limits.header_bytes_max:
            raise HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large")
        if key in ("content-length", "host", "authorization") and key in self._head.headers:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"The header {key} comes twice")
        known = self._head.headers.get(key)
        self._head.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Ends the head, while the parser still knows what it said."""
        if self._head.is_complete:
            return
        self._head.method = self._parser.get_method().decode("ascii")
        self._head.version = self._parser.get_http_version()
        self._head.keep_alive = self._parser.should_keep_alive()
        self._head.is_complete = True

    def on_body(self, chunk: bytes) -> None:
        """Queues one piece of the body."""
        if not self.is_complete:
            self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        """Ends the request."""
        self.is_complete = True
