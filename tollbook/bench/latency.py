"""From accepted to queryable, at a steady rate through the real ingest.

A probe is an event of a subject of its own, sent amid the rest. Its time runs from ingest's answer
until a query of its window finds it.
"""

import os
import queue
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import msgspec

from tollbook.bench.figure import Figure
from tollbook.bench.metering import create_meters
from tollbook.stack_file import Stack
from tollbook.usage_wiring import open_clickhouse

EVENTS_PER_SECOND = 50_000
P99_SECONDS_TARGET = 2.0
RECOVERY_SECONDS_TARGET = 20.0
_REQUEST_EVENTS = 500
_SENDERS = 4
_PROBE_SECONDS = 0.1
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 60.0
_MARK = b"########"
_EVENT_TYPE = "bench.latency"


@dataclass(slots=True)
class _Probes:
    """Which probes are out since when, and how long the found ones took."""

    sent_at: dict[str, float] = field(default_factory=dict)
    taken: list[float] = field(default_factory=list)
    is_over: bool = False


def measure_latency(stack: Stack, seconds: float) -> list[Figure]:
    """Send at a steady rate for so long; return how long probes took until a query found them."""
    create_meters(stack, _EVENT_TYPE, "bench_latency")
    taken, where = _probe(stack, seconds)
    p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    return [
        Figure("accepted to queryable, p50", p50, "s", where),
        Figure("accepted to queryable, p99", p99, "s", where, P99_SECONDS_TARGET),
    ]


def measure_recovery(stack: Stack, seconds: float) -> Figure:
    """Send on at that rate and kill a worker amid; return how long the slowest probe took.

    The meters are those of `measure_latency`.
    """
    kill = threading.Timer(seconds / 3, os.kill, (stack.pids["worker-0"], signal.SIGKILL))
    kill.start()
    taken, where = _probe(stack, seconds)
    kill.join()
    return Figure(
        "accepted to queryable, a worker killed amid, the slowest",
        taken[-1],
        "s",
        where,
        RECOVERY_SECONDS_TARGET,
    )


def _probe(stack: Stack, seconds: float) -> tuple[list[float], str]:
    """Return what probes took in order, the patience for one never found, and what was sent."""
    probes = _Probes()
    poller = threading.Thread(target=_poll, args=(stack, probes))
    poller.start()
    reached = _send_all(stack, seconds, probes)
    probes.is_over = True
    poller.join()
    taken = sorted(probes.taken)
    where = (
        f"{reached:,.0f} events/s through ingest in requests of {_REQUEST_EVENTS}, {len(taken)}"
        f" probes in {seconds:g} s, {len(probes.sent_at)} never found"
    )
    if probes.sent_at or not taken:
        taken.append(_PATIENCE_SECONDS)
    return taken, where


def _send_all(stack: Stack, seconds: float, probes: _Probes) -> float:
    """Send requests as they fall due; return the events a second that were answered."""
    due: queue.Queue[int | None] = queue.Queue()
    answered: list[int] = []
    templates = [_template(number) for number in range(16)]
    senders = [
        threading.Thread(target=_send, args=(stack, due, templates, answered))
        for _ in range(_SENDERS)
    ]
    for sender in senders:
        sender.start()
    began, number, probe = time.monotonic(), 0, 0
    with _client(stack) as client:
        while (passed := time.monotonic() - began) < seconds:
            while number < passed * EVENTS_PER_SECOND / _REQUEST_EVENTS:
                due.put(number)
                number += 1
            if probe < passed / _PROBE_SECONDS:
                _send_probe(client, probes)
                probe += 1
            time.sleep(0.002)
    for _ in senders:
        due.put(None)
    for sender in senders:
        sender.join()
    return len(answered) * _REQUEST_EVENTS / (time.monotonic() - began)


def _client(stack: Stack) -> httpx.Client:
    return httpx.Client(
        base_url=stack.ingest_url,
        headers={
            "Authorization": f"Bearer {stack.api_key}",
            "Content-Type": "application/cloudevents-batch+json",
        },
        timeout=30,
    )


def _event(event_id: str, subject: str, number: int) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "llm-gateway",
        "type": _EVENT_TYPE,
        "subject": subject,
        "time": datetime.now(UTC),
        "data": {
            "tokens": 1 + number % 2000,
            "model": ("small", "large", "vision")[number % 3],
            "region": ("eu", "us")[number % 2],
            "path": "/v1/chat/completions",
        },
    }


def _template(seed: int) -> bytes:
    """Return a request whose ids have a mark in place of the request's number."""
    run = uuid.uuid4().hex[:16]
    return msgspec.json.encode(
        [
            _event(
                f"{_MARK.decode()}-{run}-{number}",
                f"customer-{(seed * 977 + number) % 5000}",
                number,
            )
            for number in range(_REQUEST_EVENTS)
        ]
    )


def _send(
    stack: Stack,
    due: "queue.Queue[int | None]",
    templates: Sequence[bytes],
    answered: list[int],
) -> None:
    with _client(stack) as client:
        while (number := due.get()) is not None:
            body = templates[number % len(templates)].replace(_MARK, b"%08x" % number)
            client.post("/v1/events", content=body).raise_for_status()
            answered.append(number)


def _send_probe(client: httpx.Client, probes: _Probes) -> None:
    name = f"probe-{uuid.uuid4().hex}"
    body = msgspec.json.encode([_event(name, name, 1)])
    client.post("/v1/events", content=body).raise_for_status()
    probes.sent_at[name] = time.monotonic()


def _poll(stack: Stack, probes: _Probes) -> None:
    clickhouse = open_clickhouse(stack.clickhouse_url)
    over_at: float | None = None
    while True:
        out = list(probes.sent_at)
        if out:
            found = clickhouse.query(
                "SELECT DISTINCT subject FROM usage_windows WHERE tenant = %(tenant)s"
                " AND meter = 'bench_latency_tokens' AND subject IN %(subjects)s",
                parameters={"tenant": stack.tenant, "subjects": out},
            ).result_rows
            now = time.monotonic()
            probes.taken += [now - probes.sent_at.pop(name) for (name,) in found]
        if probes.is_over:
            over_at = over_at or time.monotonic()
            if not probes.sent_at or time.monotonic() - over_at > _PATIENCE_SECONDS:
                return
        time.sleep(_POLL_SECONDS)
