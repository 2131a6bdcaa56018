"""A loop and a producer whose time and fate the test decides."""

import asyncio
from collections.abc import Callable
from typing import Any, cast


class HandLoop:
    """Keeps timers until the test lets them ring."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []
        self.waits: list[float] = []
        """Seconds, of all timers that were ever set."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> "HandTimer":
        self.timers.append(callback)
        self.waits.append(seconds)
        return HandTimer(self, callback)

    def time(self) -> float:
        return 100.0

    def ring(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            timer()

    def as_loop(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)


class HandTimer:
    def __init__(self, loop: HandLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback

    def cancel(self) -> None:
        if self._callback in self._loop.timers:
            self._loop.timers.remove(self._callback)


class HandProducer:
    """Holds records until the test says what became of them."""

    def __init__(self) -> None:
        self.topic = "usage.events"
        self.is_down = False
        self.records_waiting = 0
        self.groups: list[tuple[list[tuple[int, bytes]], Any]] = []
        self.topics: list[str] = []

    def write_to(self, topic: str) -> None:
        self.topic = topic

    def produce(self, records: list[tuple[int, bytes]], on_delivered: Any) -> None:
        self.records_waiting += len(records)
        self.groups.append((records, on_delivered))
        self.topics.append(self.topic)

    def settle(self, error: str | None = None) -> None:
        groups, self.groups = self.groups, []
        for records, on_delivered in groups:
            self.records_waiting -= len(records)
            self.is_down = error is not None
            on_delivered(error)
