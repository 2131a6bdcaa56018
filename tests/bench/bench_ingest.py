"""What ingest costs: CPU microseconds per event and per request, and latency, on real servers."""

import asyncio
import random
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import msgspec
import psutil
import pytest
import uvloop

from tests.conformance.ingest.ingest_process import IngestProcess, make_key, running
from tests.embedded_stack import EmbeddedStack

SECONDS = 5.0


class LoadConnection(asyncio.Protocol):
    """Sends one request after the other until the time is over."""

    def __init__(self, requests: list[bytes], until: float, seconds: list[float]) -> None:
        self._requests = requests
        self._until = until
        self._seconds = seconds
        self._sent_at = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 204"), data
        self._seconds.append(time.perf_counter() - self._sent_at)
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        if self._sent_at > self._until:
            self._transport.close()
        else:
            self._transport.write(random.choice(self._requests))


def request(key: str, events: int) -> bytes:
    """Return a request like those of a busy gateway."""
    body = msgspec.json.encode(
        [
            {
                "specversion": "1.0",
                "id": str(uuid.uuid4()),
                "source": "llm-gateway",
                "type": "llm.request",
                "subject": f"customer-{random.randrange(5000)}",
                "time": datetime.now(UTC),
                "data": {"tokens": random.randrange(2000), "model": "a", "path": "/v1/chat"},
            }
            for _ in range(events)
        ]
    )
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: ingest\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/cloudevents-batch+json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def load(port: int, requests: list[bytes], connections: int) -> list[float]:
    """Return how long each answered request took."""
    seconds: list[float] = []
    until = time.perf_counter() + SECONDS
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(
            lambda: LoadConnection(requests, until, seconds), "127.0.0.1", port
        )
    await asyncio.sleep(SECONDS + 0.3)
    return seconds


@pytest.mark.parametrize(("connections", "events"), [(4, 1000), (16, 100), (64, 1)])
def test_cost_of_an_event(
    stack: EmbeddedStack, tmp_path: Path, connections: int, events: int
) -> None:
    addresses = stack.read()
    key = make_key(addresses, "bench")
    requests = [request(key, events) for _ in range(max(8, min(256, 8000 // events)))]
    with running(IngestProcess(addresses, tmp_path, key)) as ingest:
        workers = [psutil.Process(pid) for pid in ingest.worker_pids()]
        before = sum(sum(worker.cpu_times()[:2]) for worker in workers)
        taken = sorted(uvloop.run(load(ingest.port, requests, connections)))
        cpu = sum(sum(worker.cpu_times()[:2]) for worker in workers) - before
    count = len(taken)
    print(  # noqa: T201
        f"\n{connections} connections, {events} events a request: "
        f"{count * events / SECONDS:,.0f} events/s, {cpu * 1e6 / (count * events):.2f} us CPU an "
        f"event, {cpu * 1e6 / count:.1f} us a request, "
        f"p50 {taken[count // 2] * 1e3:.1f} ms, p99 {taken[count * 99 // 100] * 1e3:.1f} ms"
    )
