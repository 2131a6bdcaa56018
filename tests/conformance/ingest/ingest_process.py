"""A real `python -m ingest` beside a stack, with limits and a tenant of the test's choosing."""

import hashlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from ingest.topic import ARROW_CONTENT_TYPE, TOPIC, decode_record
from tests.forks import REPOSITORY
from tollbook.stack_file import Stack

_LISTENING = re.compile(rb"ingest on http://127\.0\.0\.1:(\d+)")
_READY_SECONDS_MAX = 60


@dataclass
class IngestProcess:
    """Starts and ends one ingest parent and its workers."""

    stack: Stack
    directory: Path
    key: str
    limits: dict[str, int] = field(default_factory=dict)
    workers: int = 1
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.directory / "ingest.log"

    def start(self) -> "IngestProcess":
        """Start it, and return when it answers."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "TOLLBOOK_INGEST_PORT": str(self.port),
            "TOLLBOOK_INGEST_WORKERS": str(self.workers),
            "TOLLBOOK_KAFKA_BOOTSTRAP": self.stack.kafka_bootstrap,
            "TOLLBOOK_POSTGRES_DSN": self.stack.postgres_dsn,
        }
        for name, value in self.limits.items():
            environment[f"TOLLBOOK_INGEST_{name.upper()}"] = str(value)
        # No process of it may import what happens to lie where it is started.
        (self.directory / "ingest.py").write_text("raise SystemExit('not this one')")
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ingest"],
                cwd=self.directory,
                env=environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _READY_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := _LISTENING.search(self.log_path.read_bytes()):
                self.port = int(found[1])
                if self._answers():
                    return self
            time.sleep(0.05)
        raise AssertionError(f"ingest did not start: {self.log_path.read_text()}")

    def _answers(self) -> bool:
        from tests.conformance.ingest.raw_http import RawClient  # noqa: PLC0415

        try:
            with RawClient(self.port) as client:
                return client.ask(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
        except OSError:
            return False

    def worker_pids(self) -> list[int]:
        """Return the workers' process ids."""
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def terminate(self) -> int:
        """End it by SIGTERM; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def kill(self) -> None:
        """End it by kill -9."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def running(process: IngestProcess) -> Iterator[IngestProcess]:
    """Start a process, and see that it ends without having cut a request."""
    process.start()
    try:
        yield process
    finally:
        if process.process.poll() is None:
            status = process.terminate()
            assert status == 0, process.log_path.read_text()


def make_key(
    stack: Stack, tenant: str, *, role: str = "ingest", revoked: bool = False, history: bool = False
) -> str:
    """Make a tenant and a key of it."""
    key = "tb_" + secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).digest()
    with psycopg.connect(stack.postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO tenants (tenant, name, open_for_history) VALUES (%s, %s, %s)"
            " ON CONFLICT (tenant) DO NOTHING",
            [tenant, tenant, history],
        )
        connection.execute(
            "INSERT INTO api_keys (key_hash, tenant, name, role, revoked_at)"
            " VALUES (%s, %s, 'test', %s, CASE WHEN %s THEN now() END)",
            [digest, tenant, role, revoked],
        )
    return key


class TopicReader:
    """Reads what lies in the usage topic behind the moment of its making."""

    def __init__(self, stack: Stack) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": stack.kafka_bootstrap,
                "group.id": "conformance",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 20,
            }
        )
        partitions = self._consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
        self._next = {partition: self._end(partition) for partition in partitions}

    def _end(self, partition: int) -> int:
        """Return where a partition ends; a broker that has just started may lead none yet."""
        at = TopicPartition(TOPIC, partition)
        deadline = time.monotonic() + 20
        while True:
            try:
                return int(self._consumer.get_watermark_offsets(at, timeout=10)[1])
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def events(self, tenant: str) -> list[dict[str, Any]]:
        """Return a tenant's events that have come since, with their partition."""
        found: list[dict[str, Any]] = []
        for partition, begin in self._next.items():
            end = self._end(partition)
            if begin == end:
                continue
            self._consumer.assign([TopicPartition(TOPIC, partition, begin)])
            at = begin
            while at < end:
                message = self._consumer.poll(10)
                assert message is not None
                assert message.error() is None, message.error()
                at = (message.offset() or 0) + 1
                if dict(message.headers() or []).get("content-type") == ARROW_CONTENT_TYPE:
                    rows = decode_record(message.value() or b"").to_pylist()
                    found += [
                        {**row, "partition": partition} for row in rows if row["tenant"] == tenant
                    ]
            self._next[partition] = at
        return found

    def close(self) -> None:
        """End the consumer."""
        self._consumer.close()
