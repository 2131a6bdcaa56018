"""What the connections of one process share: limits, the clock, deadlines, the drain."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from email.utils import formatdate
from typing import Protocol

from ingest.answers import NO_CONTENT
from ingest.counters import Counters
from ingest.flow import Flow
from ingest.head import Head
from ingest.intake import Intake
from ingest.limits import RequestLimits

SWEEP_SECONDS = 0.2
_KNOWN_HEADS_MAX = 4096


class Connection(Protocol):
    """What the server asks of a connection."""

    deadline: float

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is being asked or answered."""

    def expire(self) -> None:
        """Act on a deadline that has passed."""

    def close(self) -> None:
        """End an idle connection."""

    def abort(self) -> int:
        """End the connection at once; returns how many requests this cuts."""


class HttpServer:
    """The connections of one process."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        intake: Intake,
        flow: Flow,
        counters: Counters,
        limits: RequestLimits,
        wall_clock: Callable[[], datetime],
    ) -> None:
        self.loop = loop
        self.intake = intake
        self.flow = flow
        self.counters = counters
        self.limits = limits
        self.wall_clock = wall_clock
        self.is_draining = False
        self._connections: set[Connection] = set()
        self.now = loop.time()
        self.date = b""
        self.no_content = b""
        self.known_heads: dict[bytes, Head] = {}
        """Heads as they came, whose form was found good; bounded by `remember_head`."""
        self._tell_time()

    def _tell_time(self) -> None:
        date = formatdate(self.wall_clock().timestamp(), usegmt=True).encode()
        if date != self.date:
            self.date = date
            self.no_content = NO_CONTENT.encode(date, keep_alive=True)

    def remember_head(self, received: bytes, head: Head) -> None:
        """Keep a head, so that the same bytes need not be parsed again."""
        if len(self.known_heads) >= _KNOWN_HEADS_MAX:
            self.known_heads.clear()
        self.known_heads[received] = head

    def admit(self, connection: Connection) -> bool:
        """Take a connection, unless there are too many or the server is draining."""
        if len(self._connections) >= self.limits.connections_max or self.is_draining:
            self.counters.connections_turned_away += 1
            return False
        self.counters.connections_opened += 1
        self._connections.add(connection)
        return True

    def release(self, connection: Connection, unanswered: int) -> None:
        """Forget a connection that has ended, and count what it left unanswered."""
        self._connections.discard(connection)
        self.counters.requests_cut += unanswered

    def gauges(self) -> dict[str, int]:
        """Return what /metrics says about this moment."""
        return {
            "connections": len(self._connections),
            "waiting_bytes": self.flow.waiting_bytes,
            "reading_bytes": self.flow.reading_bytes,
            "log_away": int(self.flow.is_broker_away),
        }

    def sweep(self) -> None:
        """Act on the deadlines that have passed; to be called every `SWEEP_SECONDS`."""
        now = self.now = self.loop.time()
        self._tell_time()
        for connection in [one for one in self._connections if one.deadline <= now]:
            connection.expire()

    async def drain(self, seconds_max: float) -> int:
        """Answer what is under way, then end every connection; returns how many were cut."""
        self.is_draining = self.intake.is_draining = True
        deadline = self.loop.time() + seconds_max
        while self._connections and self.loop.time() < deadline:
            for connection in list(self._connections):
                if connection.is_idle:
                    connection.close()
            self.flow.flush()
            await asyncio.sleep(0.02)
        return sum(connection.abort() for connection in list(self._connections))
