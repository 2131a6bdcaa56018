"""A connection that owes answers: in the order of their requests, each wait with a deadline.

What is read and how belongs to `ingest.httptools_protocol`; this is when answers leave, and when
and how a connection ends. The server's sweep looks at `deadline`.
"""

import asyncio
from collections import deque
from math import inf
from time import perf_counter
from typing import cast

from ingest import answers
from ingest.answers import NO_CONTENT, Answer
from ingest.httptools_server import HttpServer

_LINGER_SECONDS = 2.0


class Exchange:
    """One request and its answer."""

    __slots__ = ("answer", "connection", "head_only", "keep_alive", "started")

    def __init__(
        self, connection: "Connection", started: float, *, keep_alive: bool, head_only: bool
    ) -> None:
        self.connection = connection
        self.started = started
        self.keep_alive = keep_alive
        self.head_only = head_only
        self.answer: Answer | None = None

    def finish(self, answer: Answer) -> None:
        """Give the answer; it leaves as soon as those before it have."""
        if self.answer is None:
            self.answer = answer
            self.connection.send_answers()


class Connection(asyncio.Protocol):
    """One connection, without the reading of requests."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._exchanges: deque[Exchange] = deque()
        self._exchange: Exchange | None = None
        """The one whose request is being read."""
        self._reading = ""
        """`head`, `body`, or nothing between requests."""
        self._unfed = b""
        """What came while too many answers were owed."""
        self._is_deaf = False
        """True once nothing more that arrives is read: an error, or the last answer."""
        self._is_lingering = False
        self._has_eof = False
        self._is_write_paused = False
        self._is_read_paused = False
        self._is_deadline_stale = False
        self.deadline = inf

    def _feed(self, data: bytes) -> None:
        raise NotImplementedError

    def _release_body(self) -> None:
        raise NotImplementedError

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

    def eof_received(self) -> bool:
        """Answer what was asked before the client stopped sending."""
        self._has_eof = True
        return bool(self._exchanges) and not self._reading and not self._is_lingering

    def pause_writing(self) -> None:
        """Read nothing more from a client that does not read its answers."""
        self._is_write_paused = True
        self._pause_reading()
        self.deadline = self._server.now + self._server.limits.write_seconds_max

    def _pause_reading(self) -> None:
        self._is_read_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_write_paused = False
        self._set_deadline()
        self._go_on()

    def send_answers(self) -> None:
        """Send every answer whose turn it is."""
        if not self._exchanges or self._exchanges[0].answer is None:
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
        if self._is_read_paused and not self._unfed and not self._transport.is_closing():
            self._is_read_paused = False
            self._transport.resume_reading()
        if self._has_eof and not self._exchanges:
            self.close()

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
        # Answers that are still owed have the log's own time limit.
        self.deadline = inf
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
            self.close()

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
            self.close()

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is being asked or answered."""
        return not self._exchanges and not self._reading and not self._unfed

    def close(self) -> None:
        """Close once everything is written, or by force where the client does not read."""
        self._transport.close()
        self.deadline = self._server.now + self._server.limits.write_seconds_max

    def abort(self) -> int:
        """End the connection at once; returns how many requests this cuts."""
        cut = len(self._exchanges) or int(bool(self._reading))
        self._transport.abort()
        return cut
