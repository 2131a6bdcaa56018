"""A stack of a drill's own, and the workers in it that the drill runs itself."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg

from infra.embedded import control
from infra.embedded.board import read_state
from tollbook.drill.fleet import Fleet
from tollbook.drill.insert_proxy import InsertProxy
from tollbook.drill.recount import definitions
from tollbook.drill.relay import Relay, through
from tollbook.drill.truth import Truth
from tollbook.stack_file import Stack, read_stack
from tollbook.usage_wiring import open_reader

HEAL_SECONDS_MAX = 180.0
"""After a fault has healed, progress resumes within this time."""
SECOND_TENANT = "drill"

_POLL_SECONDS = 0.05
_READY_SECONDS_MAX = 120.0


class ArenaError(RuntimeError):
    """The drill itself cannot go on."""


@dataclass(slots=True)
class Arena:
    """A stack without workers of its own; each case starts those that it hurts."""

    data_dir: Path
    partitions: int = 4
    fleet: Fleet = field(init=False)
    inserts: InsertProxy = field(init=False)
    memory: Relay = field(init=False)
    _key: str = ""

    def open(self, start: Callable[[control.UpOptions], object]) -> None:
        """Bring the stack up, and a second tenant into it."""
        start(control.UpOptions(self.data_dir, detach=True, workers=0, partitions=self.partitions))
        self._key = f"tb_drill_{os.urandom(8).hex()}"
        with psycopg.connect(self.stack.postgres_dsn) as connection:
            connection.execute(
                "INSERT INTO tenants (tenant, name) VALUES (%s, 'Drill') ON CONFLICT DO NOTHING",
                (SECOND_TENANT,),
            )
            connection.execute(
                "INSERT INTO api_keys (key_hash, tenant, name, role) VALUES (%s, %s, %s, 'owner')",
                (hashlib.sha256(self._key.encode()).digest(), SECOND_TENANT, self._key[:24]),
            )

    def close(self) -> None:
        """Take the stack down."""
        control.stop(self.data_dir, lambda _: None)

    @property
    def stack(self) -> Stack:
        """Where the stack answers, with its process ids of this moment."""
        return read_stack(self.data_dir)

    @property
    def key_by_tenant(self) -> Mapping[str, str]:
        """The tenants that may send, and their keys."""
        return {self.stack.tenant: self.stack.api_key, SECOND_TENANT: self._key}

    @contextmanager
    def workers(
        self, workers: int, copies: int = 1, settings: Mapping[str, str] | None = None
    ) -> Iterator[Fleet]:
        """Run workers behind a relay for Redis and a proxy for ClickHouse; end them after."""
        stack = self.stack
        self.inserts = InsertProxy(*_place(stack.clickhouse_url))
        self.memory = Relay(*_place(stack.redis_url))
        folder = self.data_dir / "drill"
        folder.mkdir(exist_ok=True)
        for old in folder.glob("worker-*.log"):
            old.unlink()
        environment = {
            "TOLLBOOK_CLICKHOUSE_URL": through(stack.clickhouse_url, self.inserts.own_port),
            "TOLLBOOK_REDIS_URL": through(stack.redis_url, self.memory.own_port),
            **(settings or {}),
        }
        self.fleet = Fleet(folder, stack, self.data_dir, environment)
        try:
            self.fleet.run(workers, copies)
            self.fleet.wait_ready()
            yield self.fleet
        finally:
            self.fleet.close()
            self.memory.close()
            self.inserts.close()

    def create_meters(self, truth: Truth) -> None:
        """Make the meters of a truth, and wait until every partition counts them."""
        stack = self.stack
        with psycopg.connect(stack.postgres_dsn) as connection:
            for tenant in truth.tenants():
                for definition in definitions(truth.event_type):
                    connection.execute(
                        "INSERT INTO meters (tenant, key, version, definition)"
                        " VALUES (%s, %s, 1, %s)",
                        (tenant, definition["key"], json.dumps(definition)),
                    )
        reader = open_reader(
            kafka_bootstrap=stack.kafka_bootstrap,
            postgres_dsn=stack.postgres_dsn,
            clickhouse_url=stack.clickhouse_url,
        )
        for tenant in truth.tenants():
            reader.activate_meters(tenant)

    def kill(self, part: str) -> None:
        """Kill a part of the stack, and wait for the one that is started instead."""
        before = self.pid(part)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: self.stack.pids.get(part, before) != before, f"{part} starts again")

    def pid(self, part: str) -> int:
        """Return the process id of a part, once it runs."""
        wait_until(lambda: self.stack.pids.get(part) is not None, f"{part} runs")
        return self.stack.pids[part]

    def pause(self, part: str, seconds: float) -> None:
        """Stop a part's process for some time."""
        with _paused(self.pid(part)):
            time.sleep(seconds)

    def wait_healthy(self) -> None:
        """Wait until every part of the stack is ready."""

        def is_ready() -> bool:
            state = read_state(self.data_dir)
            return state is not None and all(
                part.state in {"ready", "done"} for part in state.parts.values()
            )

        wait_until(is_ready, "every part is ready", _READY_SECONDS_MAX)

    def wait_counted(self) -> float:
        """Wait until all that the log holds is counted; return how long that took."""
        began = time.monotonic()
        wait_until(lambda: self.lag() == 0, "everything is counted", HEAL_SECONDS_MAX)
        return time.monotonic() - began

    def lag(self) -> int | None:
        """Return how many records are not counted; None where that cannot be known now."""
        try:
            answer = httpx.get(
                f"{self.stack.api_url}/v1/progress",
                headers={"Authorization": f"Bearer {self.stack.api_key}"},
                timeout=20,
                trust_env=False,
            )
        except httpx.TransportError:
            return None
        return int(answer.json()["lag"]) if answer.status_code == 200 else None


@contextmanager
def _paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until something is so.

    Raises:
        ArenaError: it is not, after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise ArenaError(f"not so after {seconds:.0f} s: {what}")
        time.sleep(_POLL_SECONDS)


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ArenaError("an address without a port")
    return parts.hostname, parts.port
