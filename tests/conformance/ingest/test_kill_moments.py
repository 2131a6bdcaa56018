"""Ingest is killed at chosen moments of a request, and the broker under load: nothing is lost."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conformance.ingest.conftest import LIMITS, TENANT
from tests.conformance.ingest.ingest_process import IngestProcess, TopicReader, running
from tests.conformance.ingest.raw_http import RawClient, event, post
from tests.conformance.ingest.test_http_faults import Load, paused
from tests.embedded_stack import EmbeddedStack, wait_until
from tollbook.stack_file import Stack

LINGER_MS = 300


def generate(seed: int, name: str) -> tuple[list[str], bytes]:
    """Return the ids of a request, which are the truth, and its body."""
    rnd = random.Random(seed)
    ids = [f"{name}-{rnd.getrandbits(64):x}" for _ in range(rnd.randrange(20, 60))]
    return ids, b"\n".join(event(one, subject=f"s{rnd.randrange(9)}") for one in ids)


def kill_all(process: IngestProcess) -> None:
    """Kill -9 the workers and their parent."""
    pids = process.worker_pids()
    process.kill()
    for pid in pids:
        wait_until(lambda pid=pid: not psutil.pid_exists(pid), 30)  # type: ignore[misc]


def before_produce(process: IngestProcess, _stack: EmbeddedStack, _found: Counter[str]) -> None:
    """Kill while the request still waits for others."""
    time.sleep(LINGER_MS / 3000)
    kill_all(process)


def after_produce(process: IngestProcess, stack: EmbeddedStack, _found: Counter[str]) -> None:
    """Kill while the records are with a broker that does not answer."""
    with paused(stack.read().pids["kafka"], stack):
        time.sleep(3 * LINGER_MS / 1000)
        kill_all(process)


def after_ack(process: IngestProcess, stack: EmbeddedStack, found: Counter[str]) -> None:
    """Kill once the log has the events, and before the worker can know."""
    reader = TopicReader(stack.read())
    with paused(stack.read().pids["kafka"], stack):
        time.sleep(3 * LINGER_MS / 1000)
        for pid in process.worker_pids():
            os.kill(pid, signal.SIGSTOP)

    def is_stored() -> bool:
        found.update(row["id"] for row in reader.events(TENANT))
        return bool(found)

    wait_until(is_stored, 60)
    kill_all(process)
    reader.close()


@pytest.mark.parametrize("strike", [before_produce, after_produce, after_ack])
def test_a_kill_at_this_moment_is_healed_by_sending_again(
    stack: EmbeddedStack,
    addresses: Stack,
    key: str,
    topic: TopicReader,
    tmp_path: Path,
    strike: Callable[[IngestProcess, EmbeddedStack, Counter[str]], None],
) -> None:
    known, first = generate(1, "known")
    unknown, second = generate(2, "unknown")
    limits = {**LIMITS, "linger_ms": LINGER_MS, "delivery_seconds_max": 10}
    process = IngestProcess(addresses, tmp_path, key, limits).start()
    seen: Counter[str] = Counter()
    with RawClient(process.port, seconds=20) as client:
        assert client.ask(post(key, first, content_type="application/x-ndjson")).status == 204
        client.send(post(key, second, content_type="application/x-ndjson"))
        strike(process, stack, seen)
        assert client.is_closed()
    stored = Counter(row["id"] for row in topic.events(TENANT))
    assert {one: stored[one] for one in known} == dict.fromkeys(known, 1)
    assert set(stored) <= {*known, *unknown}
    assert set(stored.values()) == {1}
    if strike is before_produce:
        assert not stored.keys() & set(unknown)
    if strike is after_ack:
        assert seen.keys() & set(unknown)
    with running(IngestProcess(addresses, tmp_path, key, LIMITS)) as another:
        with RawClient(another.port) as client:
            assert client.ask(post(key, second, content_type="application/x-ndjson")).status == 204
        stored.update(row["id"] for row in topic.events(TENANT))
    assert all(1 <= stored[one] <= 2 for one in unknown)
    assert stored.total() <= len(known) + 2 * len(unknown)


def test_a_broker_killed_under_load_means_503_and_bounded_memory(
    stack: EmbeddedStack, addresses: Stack, key: str, topic: TopicReader, tmp_path: Path
) -> None:
    with running(IngestProcess(addresses, tmp_path, key, LIMITS)) as process:
        worker = psutil.Process(process.worker_pids()[0])
        load = Load(process.port, key, "broker").start()
        load.wait_for(500)
        before = worker.memory_info().rss
        broker = stack.read().pids["kafka"]
        os.kill(broker, signal.SIGSTOP)
        wait_until(lambda: 503 in load.statuses, 60)
        os.kill(broker, signal.SIGKILL)
        acknowledged = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > acknowledged + 500, 90)
        grown = worker.memory_info().rss - before
        load.stop()
    stack.wait_until_all_ready()
    stored = {row["id"] for row in topic.events(TENANT)}
    assert load.statuses == {204, 503}
    assert load.acknowledged <= stored <= load.sent
    assert grown < 100_000_000


def test_a_record_too_large_for_the_producer_is_503_and_the_next_is_taken(
    addresses: Stack, key: str, topic: TopicReader, tmp_path: Path
) -> None:
    limits = {**LIMITS, "event_bytes_max": 12_000_000, "body_bytes_max": 14_000_000}
    with (
        running(IngestProcess(addresses, tmp_path, key, limits)) as process,
        RawClient(process.port) as client,
    ):
        answer = client.ask(post(key, event("too large", data="x" * 10_000_000)))
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert client.ask(post(key, event("fits"))).status == 204
    assert [row["id"] for row in topic.events(TENANT)] == ["fits"]
