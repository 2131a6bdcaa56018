"""What ingest costs: CPU of its processes per event or request, and latency, on real servers.

Ingest, Kafka and the load share the cores; workers and ClickHouse wait meanwhile.
Every request counted was acknowledged by the broker. The events: about 270 bytes as JSON, four
members of data, 5,000 subjects. Each figure stands beside what it should be at most.
"""

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import msgspec
import psutil
import pytest
import uvloop

from tests.conformance.ingest.ingest_process import IngestProcess, make_key, running
from tests.embedded_stack import EmbeddedStack

SECONDS = 4.0
WARM_SECONDS = 0.5
SUBJECTS = 5_000
P99_MS_MAX = 50


def event(rnd: random.Random) -> dict[str, object]:
    """Return an event like those of a busy gateway."""
    return {
        "specversion": "1.0",
        "id": str(uuid.UUID(int=rnd.getrandbits(128))),
        "source": "llm-gateway",
        "type": "llm.request",
        "subject": f"customer-{rnd.randrange(SUBJECTS)}",
        "time": datetime.now(UTC),
        "data": {
            "tokens": rnd.randrange(1, 2000),
            "model": rnd.choice(["small", "large", "vision"]),
            "region": rnd.choice(["eu", "us"]),
            "path": "/v1/chat",
        },
    }


def requests_of(key: str, events: int) -> list[bytes]:
    """Return requests of so many events each, no event twice."""
    rnd = random.Random(events)
    made = []
    for _ in range(max(16, min(2048, 32_000 // events))):
        body = msgspec.json.encode([event(rnd) for _ in range(events)])
        made.append(
            f"POST /v1/events HTTP/1.1\r\nHost: ingest\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/cloudevents-batch+json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    return made


@dataclass
class Load:
    """What is sent, and what came of it."""

    requests: list[bytes]
    taken: list[float] = field(default_factory=list)
    """Seconds from the moment a request was due to its answer."""
    idle: deque["LoadConnection"] = field(default_factory=deque)
    due: deque[float] = field(default_factory=deque)
    """Moments at which requests were due that no connection was free for."""
    until: float = 0.0
    is_closed_loop: bool = True
    sent: int = 0

    def answered(self, connection: "LoadConnection", began: float) -> None:
        """Note an answer, and say what the connection does next."""
        now = time.perf_counter()
        self.taken.append(now - began)
        if self.is_closed_loop and now < self.until:
            connection.send(now)
        elif self.due:
            connection.send(self.due.popleft())
        else:
            self.idle.append(connection)

    def become_due(self, moment: float) -> None:
        """Send a request, or let it wait for a connection while its time runs."""
        if self.idle:
            self.idle.pop().send(moment)
        else:
            self.due.append(moment)

    def next_request(self) -> bytes:
        """Return the next request."""
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]


class LoadConnection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._began = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._load.idle.append(self)

    def data_received(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 204"), data
        self._load.answered(self, self._began)

    def send(self, began: float) -> None:
        assert self._transport is not None
        self._began = began
        self._transport.write(self._load.next_request())

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


async def connect(load: Load, port: int, connections: int) -> list[LoadConnection]:
    """Open connections, all of them idle."""
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: LoadConnection(load), "127.0.0.1", port)
    return list(load.idle)


async def close_all(load: Load, connections: list[LoadConnection]) -> None:
    """Wait for the last answers."""
    for _ in range(1000):
        if len(load.idle) == len(connections):
            break
        await asyncio.sleep(0.01)
    assert len(load.idle) == len(connections), "requests were left unanswered"
    for connection in connections:
        connection.close()


async def closed_loop(load: Load, port: int, connections: int, seconds: float) -> float:
    """Send on each connection as soon as it is answered; returns the requests a second."""
    opened = await connect(load, port, connections)
    began = time.perf_counter()
    load.until = began + seconds
    while load.idle:
        load.idle.popleft().send(time.perf_counter())
    await asyncio.sleep(seconds)
    rate = len(load.taken) / (time.perf_counter() - began)
    await close_all(load, opened)
    return rate


async def open_loop(load: Load, port: int, connections: int, rate: float) -> None:
    """Send at a rate, at random moments, whether or not answers come."""
    opened = await connect(load, port, connections)
    rnd = random.Random(1)
    began = moment = time.perf_counter()
    while moment < began + SECONDS:
        moment += rnd.expovariate(rate)
        if moment > time.perf_counter():
            await asyncio.sleep(moment - time.perf_counter())
        load.become_due(moment)
    await close_all(load, opened)


@contextmanager
def ingest_of(stack: EmbeddedStack, directory: Path) -> Iterator[tuple[IngestProcess, str]]:
    """Yield an ingest process of one worker, and a key for it; the parts it needs none of wait."""
    addresses = stack.read()
    key = make_key(addresses, "bench")
    with running(IngestProcess(addresses, directory, key)) as ingest, others_paused(stack):
        yield ingest, key


@contextmanager
def others_paused(stack: EmbeddedStack) -> Iterator[None]:
    """Let only Kafka, Postgres and what was started beside the stack share the cores."""
    others = [
        psutil.Process(pid)
        for name, pid in stack.read().pids.items()
        if name not in {"kafka", "postgres"}
    ]
    for process in others:
        process.suspend()
    try:
        yield
    finally:
        for process in others:
            process.resume()


def cpu_seconds(ingest: IngestProcess) -> float:
    """Return what the parent and its workers have spent."""
    processes = [psutil.Process(pid) for pid in (ingest.process.pid, *ingest.worker_pids())]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def latency(taken: list[float]) -> str:
    """Return the middle and the tail of what requests took."""
    ordered = sorted(taken)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"


def tell(text: str) -> None:
    """Print a line of results."""
    print(f"\n{text}")  # noqa: T201


@pytest.mark.parametrize(
    ("connections", "events", "us_max"), [(4, 1000, 1.4), (16, 100, 2.0), (64, 1, 20), (8, 1, 30)]
)
def test_cost_of_an_event(
    stack: EmbeddedStack, tmp_path: Path, connections: int, events: int, us_max: float
) -> None:
    with ingest_of(stack, tmp_path) as (ingest, key):
        requests = requests_of(key, events)
        uvloop.run(closed_loop(Load(requests), ingest.port, connections, WARM_SECONDS))
        load = Load(requests)
        before = cpu_seconds(ingest)
        rate = uvloop.run(closed_loop(load, ingest.port, connections, SECONDS))
        cpu = cpu_seconds(ingest) - before
    spent = cpu * 1e6 / (len(load.taken) * events)
    unit = "CPU-seconds per million events" if events > 1 else "us CPU a request"
    tell(
        f"{connections} connections, {events:,} events a request: {spent:.2f} {unit} "
        f"(at most {us_max}); {rate * events:,.0f} events/s, {latency(load.taken)}"
    )


@pytest.mark.parametrize(("connections", "events"), [(16, 100), (64, 1)])
def test_latency_at_half_load(
    stack: EmbeddedStack, tmp_path: Path, connections: int, events: int
) -> None:
    with ingest_of(stack, tmp_path) as (ingest, key):
        requests = requests_of(key, events)
        full = uvloop.run(closed_loop(Load(requests), ingest.port, connections, SECONDS / 2))
        load = Load(requests, is_closed_loop=False)
        before = cpu_seconds(ingest)
        uvloop.run(open_loop(load, ingest.port, 4 * connections, full / 2))
        cpu = cpu_seconds(ingest) - before
    tell(
        f"half load, {events:,} events a request: {latency(load.taken)} from the moment due "
        f"(p99 at most {P99_MS_MAX} ms) at {full / 2 * events:,.0f} events/s; "
        f"{cpu * 1e6 / len(load.taken):.1f} us CPU a request"
    )
