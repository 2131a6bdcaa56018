"""Requests out of bytes: httptools parses HTTP/1.1, this module holds the policy.

What llhttp's strict mode doubts is refused and the connection closed; bodies are bounded while
they come in; a client that sends ahead of its answers is held back.
"""

import logging
from math import inf
from time import perf_counter
from typing import Any

import httptools

from ingest import answers
from ingest.answers import Answer
from ingest.head import STATUS_PATHS, Head, check_form
from ingest.httptools_server import HttpServer
from ingest.uvloop_connection import Connection, Exchange

log = logging.getLogger(__name__)

_SLICE = 16 * 1024
"""Fed at once while heads may be among the bytes, so that pipelining is bounded."""
_KNOWN_HEAD_BYTES_MAX = 2048
"""Longer heads are parsed each time."""
_DRAINABLE = 64 * 1024
"""A refused body up to this size is read to its end, so that the connection stays usable."""
_BAD_REQUEST = answers.refuse(400, "bad-request", "not a valid HTTP/1.1 request")


class _NothingMoreError(Exception):
    """Stops the parser: what follows a refused request is not read."""


class HttpProtocol(Connection):
    """Reads requests and acts on them."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server)
        self._parser = httptools.HttpRequestParser(self)
        self._is_feeding = False
        self._head_bytes = 0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated: list[bytes] = []
        self._head: Head | None = None
        self._pieces: list[bytes | memoryview] = []
        self._body_bytes = 0
        self._left = 0
        """Bytes to come of a body whose head was known, so that the parser does not see it."""
        self._received_head = b""
        """The bytes of the head being parsed, where they came at once and may be remembered."""

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._is_deaf:
            return
        if self._left:
            self._take_more(data)
        elif self._unfed or self._is_feeding:
            self._unfed += data
        elif self._reading or not self._take_known(data):
            self._feed(data)

    def _take_known(self, data: bytes) -> bool:
        """Take a request under a head that was parsed before, if it is one; its body may follow.

        Between requests the parser keeps nothing, so the same bytes would give the same head.
        """
        server, exchanges = self._server, self._exchanges
        end = data.find(b"\r\n\r\n", 0, _KNOWN_HEAD_BYTES_MAX) + 4
        received = data[:end] if end >= 4 and data.startswith(b"POST ") else b""
        head = server.known_heads.get(received)
        if head is None:
            self._received_head = received
            return False
        left = head.content_length - len(data) + end
        if (
            left < 0
            or server.is_draining
            or self._is_write_paused
            or (exchanges and not exchanges[-1].keep_alive)
            or len(exchanges) > server.limits.pipeline_depth_max
            or server.intake.judge_known_head(head) is not None
        ):
            return False
        exchange = Exchange(self, perf_counter(), keep_alive=True, head_only=False)
        exchanges.append(exchange)
        if left:
            self._exchange, self._head, self._left = exchange, head, left
            self._reading = "body"
            self._set_deadline()
            self._keep(memoryview(data)[end:])
        else:
            self.deadline = inf
            self._conclude(exchange, head, [data[end:]])
            self.send_answers()
        return True

    def _take_more(self, data: bytes) -> None:
        """Take more of a body whose head was known."""
        rest = b""
        if len(data) > self._left:
            data, rest = data[: self._left], data[self._left :]
        self._left -= len(data)
        self._keep(data)
        if self._exchange is None or self._exchange.answer is not None:
            self.send_answers()
        elif not self._left:
            self.on_message_complete()
            self._set_deadline()
            self.send_answers()
            if rest:
                self.data_received(rest)

    def _keep(self, piece: bytes | memoryview) -> None:
        """Keep a piece of a body, unless too much is waiting."""
        self._pieces.append(piece)
        self._body_bytes += len(piece)
        self._server.flow.reading_bytes += len(piece)
        if not self._server.flow.has_room(0) and self._exchange is not None:
            self._exchange.answer = answers.busy("queue-full", "too much is waiting; send it again")
            self._turn_deaf(self._exchange)

    def _feed(self, data: bytes) -> None:
        position, size = 0, len(data)
        view: Any = data if size <= _SLICE else memoryview(data)
        self._is_feeding = True
        try:
            while position < size and not self._is_deaf:
                if len(self._exchanges) > self._server.limits.pipeline_depth_max:
                    self._pause_reading()
                    self._unfed = data[position:] + self._unfed
                    break
                step = max(_SLICE, self._announced() - self._body_bytes)
                if self._reading != "body":
                    self._head_bytes += min(step, size - position)
                piece = view if step >= size and position == 0 else view[position : position + step]
                self._parser.feed_data(piece)
                position += step
                if self._head_bytes > self._server.limits.head_bytes_max + _SLICE:
                    self._refuse_and_close(answers.refuse(431, "head-too-large", "head too large"))
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            self._refuse_and_close(_BAD_REQUEST)
        finally:
            self._is_feeding = False
        # Set once per phase, so that a dripping request does not push it ahead.
        if self._is_deadline_stale:
            self._set_deadline()
        self.send_answers()

    def send_answers(self) -> None:
        """Send every answer whose turn it is; those found while parsing leave together."""
        if not self._is_feeding:
            super().send_answers()

    def _announced(self) -> int:
        if self._reading != "body" or self._head is None:
            return 0
        return self._head.content_length

    def on_message_begin(self) -> None:
        """Begin a request's head."""
        if self._is_deaf:
            raise _NothingMoreError
        self._reading = "head"
        self._target = b""
        self._headers = {}
        self._repeated = []
        self._is_deadline_stale = True

    def on_url(self, url: bytes) -> None:
        """Gather the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Gather a header; what follows a chunked body is not looked at."""
        if self._reading != "head":
            return
        name = name.lower()
        if name in self._headers:
            self._repeated.append(name)
            value = b"%b, %b" % (self._headers[name], value)
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Decide what the head decides, and ask for the body where it is wanted."""
        server, parser = self._server, self._parser
        method, version = parser.get_method(), parser.get_http_version()
        head = Head(method, self._target, version, self._headers, self._repeated)
        received, self._received_head = self._received_head, b""
        keep_alive = version == "1.1" and parser.should_keep_alive() and not server.is_draining
        exchange = Exchange(
            self, perf_counter(), keep_alive=keep_alive, head_only=method == b"HEAD"
        )
        self._head, self._exchange = head, exchange
        self._exchanges.append(exchange)
        self._head_bytes = 0
        self._reading = "body"
        doubt = self._doubt(head)
        if doubt is not None:
            exchange.answer = doubt
            self._turn_deaf(exchange)
            return
        exchange.answer = server.intake.judge_head(head)
        if not head.has_body:
            return
        self._is_deadline_stale = True
        expects = b"expect" in self._headers
        if exchange.answer is None:
            if received and keep_alive and head.content_length and not expects:
                server.remember_head(received, head)
            if expects and len(self._exchanges) == 1:
                self._transport.write(answers.CONTINUE)
        elif expects or b"transfer-encoding" in self._headers or self._announced() > _DRAINABLE:
            self._turn_deaf(exchange)

    def _doubt(self, head: Head) -> Answer | None:
        """Return the answer to a head after which the connection cannot be trusted, or None."""
        if self._parser.should_upgrade():
            return answers.refuse(501, "upgrade", "HTTP/1.1 only: no upgrades, no tunnels")
        if len(self._headers) + len(self._repeated) > self._server.limits.headers_max:
            return answers.refuse(431, "too-many-headers", "too many headers")
        return check_form(head, self._server.limits)

    def on_body(self, chunk: bytes) -> None:
        """Gather the body, up to its limit."""
        exchange = self._exchange
        if exchange is None or exchange.answer is not None:
            return
        self._keep(chunk)
        if self._body_bytes > self._server.limits.body_bytes_max:
            exchange.answer = answers.refuse(413, "body-too-large", "the body is too large")
            self._turn_deaf(exchange)

    def on_message_complete(self) -> None:
        """Act on a whole request."""
        exchange, head, pieces = self._exchange, self._head, self._pieces
        self._reading = ""
        self._release_body()
        self._exchange = None
        if exchange is None or head is None:
            return
        self._conclude(exchange, head, pieces)
        self._is_deadline_stale = True

    def _conclude(self, exchange: Exchange, head: Head, pieces: list[bytes | memoryview]) -> None:
        """Act on a whole request, unless it has its answer."""
        if exchange.answer is not None:
            return
        try:
            # None leaves what may have been answered while the events were handed over.
            exchange.answer = self._answer(head, pieces, exchange) or exchange.answer
        except Exception:
            log.exception("ingest failed on a request")
            exchange.answer = answers.INTERNAL

    def _answer(
        self, head: Head, pieces: list[bytes | memoryview], exchange: Exchange
    ) -> Answer | None:
        if head.path in STATUS_PATHS:
            return self._server.intake.status(head, self._server.gauges())
        now = self._server.wall_clock()
        return self._server.intake.receive(head, pieces, now, exchange.finish)

    def _release_body(self) -> None:
        self._server.flow.reading_bytes -= self._body_bytes
        self._pieces = []
        self._body_bytes = self._left = 0
