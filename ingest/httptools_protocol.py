"""HTTP/1.1 on a connection: httptools parses, this module holds the policy.

Answers leave in the order of their requests. Every wait has a deadline, which the server's
sweep looks at: for the head, the body, the next request, and for a client that does not read.
What llhttp's strict mode doubts is refused and the connection closed.
"""

import asyncio
import logging
from collections import deque
from math import inf
from time import perf_counter
from typing import Any, cast

import httptools

from ingest import answers
from ingest.answers import NO_CONTENT, Answer
from ingest.head import STATUS_PATHS, Head, check_form
from ingest.httptools_server import HttpServer

log = logging.getLogger(__name__)

_SLICE = 16 * 1024
"""Fed at once while heads may be among the bytes, so that pipelining is bounded."""
_DRAINABLE = 64 * 1024
"""A refused body up to this size is read to its end, so that the connection stays usable."""
_LINGER_SECONDS = 2.0
_BAD_REQUEST = answers.refuse(400, "bad-request", "not a valid HTTP/1.1 request")


class _NothingMoreError(Exception):
    """Stops the parser: what follows a refused request is not read."""


class Exchange:
    """One request and its answer."""

    __slots__ = ("answer", "head_only", "keep_alive", "protocol", "started")

    def __init__(
        self, protocol: "HttpProtocol", started: float, *, keep_alive: bool, head_only: bool
    ) -> None:
        self.protocol = protocol
        self.started = started
        self.keep_alive = keep_alive
        self.head_only = head_only
        self.answer: Answer | None = None

    def finish(self, answer: Answer) -> None:
        """Give the answer; it leaves as soon as those before it have."""
        if self.answer is None:
            self.answer = answer
            self.protocol.send_answers()


class HttpProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpRequestParser(self)
        self._exchanges: deque[Exchange] = deque()
        self._unfed = b""
        self._is_feeding = False
        self._is_deaf = False
        """True once nothing more that arrives is read: an error, or the last answer."""
        self._is_lingering = False
        self._has_eof = False
        self._is_write_paused = False
        self._reading = ""
        self._head_bytes = 0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated: list[bytes] = []
        self._head: Head | None = None
        self._exchange: Exchange | None = None
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._is_deadline_stale = False
        self.deadline = inf

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or turn it away where there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        if not self._server.admit(self):
            self._is_deaf = True
            answer = answers.busy("connections", "too many connections")
            self._transport.write(answer.encode(self._server.date, keep_alive=False))
            self._transport.close()
            return
        self.deadline = self._server.now + self._server.limits.head_seconds_max

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; answers that still come for it lead nowhere."""
        del exc
        self._is_deaf = True
        self._release_body()
        unanswered = len(self._exchanges) + (self._reading == "head")
        self._exchanges.clear()
        self._unfed = b""
        self._server.release(self, unanswered)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._is_deaf:
            return
        if self._unfed or self._is_feeding:
            self._unfed += data
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """Answer what was asked before the client stopped sending."""
        self._has_eof = True
        return bool(self._exchanges) and not self._reading and not self._is_lingering

    def pause_writing(self) -> None:
        """Read nothing more from a client that does not read its answers."""
        self._is_write_paused = True
        self._transport.pause_reading()
        self.deadline = self._server.now + self._server.limits.write_seconds_max

    def resume_writing(self) -> None:
        """Go on."""
        self._is_write_paused = False
        self._set_deadline()
        self._go_on()

    # Parsing

    def _feed(self, data: bytes) -> None:
        position, size = 0, len(data)
        view: Any = data if size <= _SLICE else memoryview(data)
        self._is_feeding = True
        try:
            while position < size and not self._is_deaf:
                if len(self._exchanges) > self._server.limits.pipeline_depth_max:
                    self._transport.pause_reading()
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
        self._chunks.append(chunk)
        self._body_bytes += len(chunk)
        self._server.flow.reading_bytes += len(chunk)
        if self._body_bytes > self._server.limits.body_bytes_max:
            exchange.answer = answers.refuse(413, "body-too-large", "the body is too large")
            self._turn_deaf(exchange)
        elif not self._server.flow.has_room(0):
            exchange.answer = answers.busy("queue-full", "too much is waiting; send it again")
            self._turn_deaf(exchange)

    def on_message_complete(self) -> None:
        """Act on a whole request."""
        exchange, head = self._exchange, self._head
        self._reading = ""
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._release_body()
        self._exchange = None
        if exchange is None or head is None:
            return
        if exchange.answer is None:
            try:
                # None leaves what may have been answered while the events were handed over.
                exchange.answer = self._answer(head, body, exchange) or exchange.answer
            except Exception:
                log.exception("ingest failed on a request")
                exchange.answer = answers.refuse(500, "internal", "an error of ours; see the log")
        self._is_deadline_stale = True

    def _answer(self, head: Head, body: bytes, exchange: Exchange) -> Answer | None:
        if head.path in STATUS_PATHS:
            return self._server.intake.status(head, self._server.gauges())
        now = self._server.wall_clock()
        return self._server.intake.receive(head, body, now, exchange.finish)

    # Answering

    def send_answers(self) -> None:
        """Send every answer whose turn it is."""
        if self._is_feeding or not self._exchanges or self._exchanges[0].answer is None:
            return
        server = self._server
        parts: list[bytes] = []
        is_last = False
        while self._exchanges and not is_last:
            exchange = self._exchanges[0]
            answer = exchange.answer
            if answer is None or (exchange is self._exchange and not self._is_deaf):
                break
            self._exchanges.popleft()
            keep_alive = exchange.keep_alive and not server.is_draining
            is_last = not keep_alive
            if answer is NO_CONTENT and keep_alive:
                parts.append(server.no_content)
            else:
                parts.append(
                    answer.encode(server.date, keep_alive=keep_alive, head_only=exchange.head_only)
                )
            elapsed = perf_counter() - exchange.started
            server.counters.note_answer(answer.status, elapsed * 1000)
        if parts:
            self._transport.write(b"".join(parts))
        if is_last:
            self._end()
            return
        if not self._reading:
            self._set_deadline()
        self._go_on()

    def _go_on(self) -> None:
        """Parse what was held back, and read on."""
        if self._is_deaf or self._is_write_paused:
            return
        if self._unfed and len(self._exchanges) <= self._server.limits.pipeline_depth_max:
            data, self._unfed = self._unfed, b""
            self._feed(data)
        if not self._unfed and not self._transport.is_closing():
            self._transport.resume_reading()
        if self._has_eof and not self._exchanges:
            self._transport.close()

    def _refuse_and_close(self, answer: Answer) -> None:
        """Answer a broken request in its turn, and read nothing more."""
        if self._is_deaf:
            return
        exchange = self._exchange
        if exchange is None:
            exchange = Exchange(self, perf_counter(), keep_alive=False, head_only=False)
            self._exchanges.append(exchange)
        if exchange.answer is None:
            exchange.answer = answer
        self._turn_deaf(exchange)

    def _turn_deaf(self, exchange: Exchange) -> None:
        exchange.keep_alive = False
        self._is_deaf = True
        self._is_lingering = True
        self._release_body()
        self._unfed = b""

    def _end(self) -> None:
        """Close after the last answer; one that came early gets time to arrive."""
        self._server.counters.requests_cut += len(self._exchanges)
        self._exchanges.clear()
        self._is_deaf = True
        if self._is_lingering and not self._has_eof and self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
            self.deadline = self._server.now + _LINGER_SECONDS
        else:
            self._transport.close()

    def _release_body(self) -> None:
        self._server.flow.reading_bytes -= self._body_bytes
        self._chunks = []
        self._body_bytes = 0

    # Deadlines and draining

    def _set_deadline(self) -> None:
        limits, now = self._server.limits, self._server.now
        self._is_deadline_stale = False
        if self._is_write_paused or self._is_deaf:
            return
        if self._reading == "head":
            self.deadline = now + limits.head_seconds_max
        elif self._reading == "body":
            self.deadline = now + limits.body_seconds_max
        elif self._exchanges:
            self.deadline = inf
        else:
            self.deadline = now + limits.idle_seconds_max

    def expire(self) -> None:
        """Act on a deadline that has passed."""
        self.deadline = inf
        if self._is_write_paused or self._transport.is_closing():
            self._transport.abort()
        elif self._reading and not self._is_deaf:
            self._server.counters.requests_timed_out += 1
            self._reading = ""
            self._refuse_and_close(
                answers.refuse(408, "timeout", "the request did not arrive in time")
            )
            self.send_answers()
        else:
            self._transport.close()

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is being asked or answered."""
        return not self._exchanges and not self._reading and not self._unfed

    def close(self) -> None:
        """End an idle connection."""
        self._transport.close()

    def abort(self) -> int:
        """End the connection at once; returns how many requests this cuts."""
        cut = len(self._exchanges) or int(bool(self._reading))
        self._transport.abort()
        return cut
