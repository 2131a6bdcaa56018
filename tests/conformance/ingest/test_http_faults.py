"""What was acknowledged is in the log, whatever dies: broker, worker, parent, database."""

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from ingest.topic import TOPIC
from tests.conformance.ingest.conftest import LIMITS, TENANT
from tests.conformance.ingest.ingest_process import IngestProcess, TopicReader, running
from tests.conformance.ingest.raw_http import RawClient, event, post
from tests.embedded_stack import EmbeddedStack, wait_until
from tollbook.stack_file import Stack


@contextmanager
def paused(pid: int, stack: EmbeddedStack) -> Iterator[None]:
    """Freeze a server, and let it heal afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        stack.wait_until_all_ready()


class Load:
    """Connections that send small batches until they are cut, and remember every answer."""

    def __init__(self, port: int, key: str, name: str, connections: int = 6) -> None:
        self._port = port
        self._key = key
        self._name = name
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()
        self.statuses: set[int] = set()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(connections)
        ]

    def start(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.acknowledged) >= count, 60)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self, number: int) -> None:
        try:
            with RawClient(self._port) as client:
                for request in range(1_000_000):
                    if self._stop.is_set():
                        return
                    start = f"{self._name}-{number}-{request}"
                    ids = [f"{start}-{place}" for place in range(20)]
                    body = b"\n".join(event(one, subject=f"s{number}") for one in ids)
                    self.sent.update(ids)
                    answer = client.ask(post(self._key, body, content_type="application/x-ndjson"))
                    self.statuses.add(answer.status)
                    if answer.status == 204:
                        self.acknowledged.update(ids)
        except OSError:
            return


def test_a_stopped_broker_means_503_and_acknowledged_events_stay(
    stack: EmbeddedStack, ingest: IngestProcess, key: str, topic: TopicReader
) -> None:
    with RawClient(ingest.port) as client:
        assert client.ask(post(key, event("before"))).status == 204
        with paused(stack.read().pids["kafka"], stack):
            answer = client.ask(post(key, event("unknown")))
            assert (answer.status, "retry-after" in answer.headers) == (503, True)
            assert answer.json()["code"] == "outcome-unknown"
            first = client.ask(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert first.status == 503
            _assert_turned_away_at_once(ingest, key)
        wait_until(lambda: client.ask(post(key, event("after"))).status == 204, 20)
    stored = [row["id"] for row in topic.events(TENANT)]
    assert stored.count("before") == 1
    assert stored.count("after") == 1
    assert stored.count("unknown") <= 1
    assert "away" not in stored


def _assert_turned_away_at_once(ingest: IngestProcess, key: str) -> None:
    """One request tries the broker; meanwhile others learn at once that it is away."""
    with RawClient(ingest.port) as probe, RawClient(ingest.port) as client:
        probe.send(post(key, event("unknown")))
        time.sleep(0.05)
        answer = client.ask(post(key, event("away")))
        assert (answer.status, answer.json()["code"]) == (503, "log-away")
        assert not select.select([probe.socket], [], [], 0)[0], "that one still waits"
        assert probe.read().status == 503


def test_a_full_queue_is_503_and_bounded(addresses: Stack, key: str, tmp_path: Path) -> None:
    limits = {**LIMITS, "waiting_bytes_max": 100_000, "linger_ms": 500}
    with running(IngestProcess(addresses, tmp_path, key, limits)) as ingest:
        big = event("big", data="x" * 60_000)
        with RawClient(ingest.port) as first, RawClient(ingest.port) as second:
            first.send(post(key, big))
            time.sleep(0.2)
            answer = second.ask(post(key, big))
            assert (answer.status, answer.json()["code"]) == (503, "queue-full")
            assert first.read().status == 204
            assert second.ask(post(key, big)).status == 204


@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_kill_9_of_ingest_loses_no_acknowledged_event(
    addresses: Stack, key: str, topic: TopicReader, tmp_path: Path, victim: str
) -> None:
    process = IngestProcess(addresses, tmp_path, key, LIMITS, workers=2).start()
    load = Load(process.port, key, victim).start()
    workers = process.worker_pids()
    assert len(workers) == 2
    load.wait_for(2000)
    if victim == "parent":
        process.kill()
        wait_until(lambda: not any(psutil.pid_exists(pid) for pid in workers), 30)
    else:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(process.worker_pids()) - set(workers)) == 2, 30)
    load.stop()
    if victim == "worker":
        # The parent has started others in their place; they need not be ready for the end.
        process.kill()
    rows = topic.events(TENANT)
    stored = [row["id"] for row in rows]
    assert load.statuses == {204}
    assert load.acknowledged <= set(stored)
    assert set(stored) <= load.sent
    assert len(stored) == len(set(stored))


def test_sigterm_answers_what_is_under_way_and_ends_with_0(
    addresses: Stack, key: str, topic: TopicReader, tmp_path: Path
) -> None:
    limits = {**LIMITS, "linger_ms": 400}
    process = IngestProcess(addresses, tmp_path, key, limits).start()
    with RawClient(process.port) as busy, RawClient(process.port) as idle:
        busy.send(post(key, event("under way")))
        time.sleep(0.1)
        process.process.terminate()
        answer = busy.read()
        assert (answer.status, answer.headers.get("connection")) == (204, "close")
        assert idle.is_closed()
        assert process.process.wait(30) == 0
    assert [row["id"] for row in topic.events(TENANT)] == ["under way"]


def test_sigterm_under_load_loses_nothing_and_answers_no_5xx(
    addresses: Stack, key: str, topic: TopicReader, tmp_path: Path
) -> None:
    process = IngestProcess(addresses, tmp_path, key, LIMITS, workers=2).start()
    load = Load(process.port, key, "drain").start()
    load.wait_for(1000)
    assert process.terminate() == 0
    load.stop()
    stored = {row["id"] for row in topic.events(TENANT)}
    assert load.statuses == {204}
    assert load.acknowledged <= stored <= load.sent


def test_sigterm_that_cuts_a_request_says_so(addresses: Stack, key: str, tmp_path: Path) -> None:
    limits = {**LIMITS, "body_seconds_max": 30, "drain_seconds_max": 1}
    process = IngestProcess(addresses, tmp_path, key, limits).start()
    with RawClient(process.port) as client:
        client.send(post(key, b"half", length=100))
        time.sleep(0.2)
        assert process.terminate() == 1
    assert "cut=1" in process.log_path.read_text()


def test_keys_stay_in_force_while_postgres_is_away(
    stack: EmbeddedStack, ingest: IngestProcess, key: str
) -> None:
    with paused(stack.read().pids["postgres"], stack), RawClient(ingest.port) as client:
        for number in range(5):
            assert client.ask(post(key, event(f"no postgres {number}"))).status == 204
            time.sleep(0.4)


def test_a_topic_that_would_lose_events_is_refused_at_the_start(
    addresses: Stack, key: str, tmp_path: Path
) -> None:
    process = IngestProcess(addresses, tmp_path, key)
    with retention_of(addresses, "1000000000"), pytest.raises(AssertionError):
        process.start()
    assert process.process.wait(30) == 2
    assert "retention.ms is 1000000000, must be -1" in process.log_path.read_text()


@contextmanager
def retention_of(addresses: Stack, milliseconds: str) -> Iterator[None]:
    """Give the topic another retention for a while, too long to delete anything."""
    _set_retention(addresses, milliseconds)
    try:
        yield
    finally:
        _set_retention(addresses, "-1")


def _set_retention(addresses: Stack, milliseconds: str) -> None:
    admin = AdminClient({"bootstrap.servers": addresses.kafka_bootstrap})
    entry = ConfigEntry("retention.ms", milliseconds, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(10)
