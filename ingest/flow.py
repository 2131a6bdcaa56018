"""From bodies to acknowledged records: linger, flush, and tell each request its fate.

What waits is bounded in bytes. While the broker is known to be away, one flush at a time tries
it; the other requests are turned away at once instead of waiting for the delivery timeout.
"""

import logging
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import Any, Protocol

from ingest.bodies import INTERNAL, Bodies, Body, Verdict
from ingest.limits import FlowLimits
from ingest.packing import pack
from ingest.usage_log import UsageLog

log = logging.getLogger(__name__)

_QUIET_BYTES = 32 * 1024

OnSettled = Callable[[Verdict, str | None], None]
"""Called once per request, with the verdict on its body and, where what it says was accepted was
not acknowledged, with the reason."""


class Producer(Protocol):
    """What the flow needs of a producer of records."""

    is_down: bool
    records_waiting: int

    def write_to(self, topic: str) -> None:
        """Write to a topic from now on; what was handed over before still goes where it was."""

    def produce(
        self, records: list[tuple[int, Any]], on_delivered: Callable[[str | None], None]
    ) -> None:
        """Hand over records; the callback comes when the fate of all of them is known."""


class Flow:
    """Gathers requests into flushes."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        bodies: Bodies,
        producer: Producer,
        partitions: int,
        limits: FlowLimits,
    ) -> None:
        self._loop = loop
        self._bodies = bodies
        self._producer = producer
        self._partitions = partitions
        self._limits = limits
        self._linger_seconds = limits.linger_ms / 1000
        self._linger_busy_seconds = max(limits.linger_ms, limits.linger_busy_ms) / 1000
        self._callbacks: list[OnSettled] = []
        self._timer: TimerHandle | None = None
        self.refused_because: str | None = None
        """Why nothing may be written to the log now, where that is so."""
        self.waiting_bytes = 0
        self.reading_bytes = 0
        """Of bodies that are still coming in; the protocol keeps it."""

    @property
    def is_broker_away(self) -> bool:
        """Tell whether the last delivery failed."""
        return self._producer.is_down

    def follow(self, usage_log: UsageLog) -> None:
        """Write to another log from now on; what waits still goes where it was taken for."""
        self.flush()
        self._partitions = usage_log.partitions
        self._producer.write_to(usage_log.topic)

    def is_quiet(self) -> bool:
        """Tell whether little has come in since the last flush."""
        return self._bodies.size + self.reading_bytes <= _QUIET_BYTES

    def has_room(self, size: int) -> bool:
        """Tell whether so many more bytes may wait."""
        return self.waiting_bytes + self.reading_bytes + size <= self._limits.waiting_bytes_max

    def takes_more(self) -> bool:
        """Tell whether a request has a chance: the broker answers, or nobody is trying it."""
        return self.refused_because is None and not (
            self._producer.is_down and (self._producer.records_waiting or self._callbacks)
        )

    def submit(self, body: Body, on_settled: OnSettled) -> None:
        """Take a request's events into the next flush."""
        self._bodies.add(body)
        self._callbacks.append(on_settled)
        self.waiting_bytes += body.size
        if self._bodies.size >= self._limits.batch_bytes_max:
            self.flush()
        elif self._timer is None:
            is_busy = self._producer.records_waiting
            self._flush_in(self._linger_busy_seconds if is_busy else self._linger_seconds)

    def _flush_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.flush)

    def flush(self) -> None:
        """Send what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._callbacks:
            return
        callbacks, self._callbacks = self._callbacks, []
        size = self._bodies.size
        try:
            events = self._bodies.read()
            records = pack(
                events.text, events.rows, self._partitions, self._limits.record_bytes_max
            )
        except Exception:
            log.exception("ingest failed on a flush")
            self.waiting_bytes -= size
            for callback in callbacks:
                callback(Verdict(0, fault=INTERNAL), None)
            return
        self._send(records, size, list(zip(callbacks, events.verdicts, strict=True)))

    def _send(
        self,
        records: list[tuple[int, Any]],
        size: int,
        fates: list[tuple[OnSettled, Verdict]],
    ) -> None:
        """Hand records over, and tell each request its fate once it is known."""
        waiting = [fate for fate in fates if fate[1].accepted]

        def settle(error: str | None) -> None:
            self.waiting_bytes -= size
            for callback, verdict in waiting:
                callback(verdict, error)
            # Those answered now may send more at once, which then goes along.
            if self._callbacks and not self._producer.records_waiting:
                self._flush_in(self._linger_seconds)

        if records:
            self._producer.produce(records, settle)
        else:
            settle(None)
        # Only now: whoever is answered may send more, which must not overtake these events.
        for callback, verdict in fates:
            if not verdict.accepted:
                callback(verdict, None)
