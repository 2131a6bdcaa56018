"""A stack of a drill's own, and the workers in it that the drill runs itself."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg

from infra.embedded import control
from infra.embedded.board import read_state
from pipelines.reader import Reader
from tollbook.drill.fleet import Crew, Fleet
from tollbook.drill.insert_proxy import InsertProxy
from tollbook.drill.recount import definitions
from tollbook.drill.relay import Relay, through
from tollbook.drill.truth import Truth
from tollbook.stack_file import Stack, read_stack
from tollbook.usage_wiring import open_reader

HEAL_SECONDS_MAX = 180.0
"""After a fault has healed, progress resumes within this time."""
SECOND_TENANT = "drill"

SILENT_SECONDS_MAX = 8.0
"""A part that says nothing for so long is started again by the stack."""

_POLL_SECONDS = 0.05
_READY_SECONDS_MAX = 120.0


class ArenaError(RuntimeError):
    """The drill itself cannot go on."""


@dataclass(slots=True)
class Arena:
    """A stack without workers of its own: drills start those that they hurt.

    One after the other, many cases share it: each counts events of a type of its own.
    """

    data_dir: Path
    partitions: int = 4
    fleet: Fleet = field(init=False)
    inserts: InsertProxy = field(init=False)
    memory: Relay = field(init=False)
    _key: str = ""
    _is_open: bool = False
    _http: httpx.Client = field(init=False)
    """One for all: to make one takes longer than most answers. Ingest and API come and go."""

    def open(self, start: Callable[[control.UpOptions], object]) -> None:
        """Bring the stack up, a second tenant into it, and what stands before its servers.

        Raises:
            ArenaError: the folder has something in it, such as somebody's stack.
        """
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise ArenaError(f"{self.data_dir} is not empty: a drill hurts only what it starts")
        none_kept = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(timeout=20, trust_env=False, limits=none_kept)
        options = control.UpOptions(
            self.data_dir,
            detach=True,
            workers=0,
            partitions=self.partitions,
            silent_seconds_max=SILENT_SECONDS_MAX,
        )
        start(options)
        self._is_open = True
        stack = self.stack
        self._add_tenant(stack)
        self.inserts = InsertProxy(*_place(stack.clickhouse_url))
        self.memory = Relay(*_place(stack.redis_url))
        folder = self.data_dir / "drill"
        folder.mkdir()
        self.fleet = Fleet(
            folder,
            stack,
            self.data_dir,
            {
                "TOLLBOOK_CLICKHOUSE_URL": through(stack.clickhouse_url, self.inserts.own_port),
                "TOLLBOOK_REDIS_URL": through(stack.redis_url, self.memory.own_port),
            },
        )

    def _add_tenant(self, stack: Stack) -> None:
        self._key = f"tb_drill_{os.urandom(8).hex()}"
        with psycopg.connect(stack.postgres_dsn) as connection:
            connection.execute(
                "INSERT INTO tenants (tenant, name) VALUES (%s, 'Drill')", (SECOND_TENANT,)
            )
            connection.execute(
                "INSERT INTO api_keys (key_hash, tenant, name, role) VALUES (%s, %s, %s, 'owner')",
                (hashlib.sha256(self._key.encode()).digest(), SECOND_TENANT, self._key[:24]),
            )

    def close(self) -> None:
        """Take down all that was started, if anything was."""
        if not self._is_open:
            return
        if hasattr(self, "fleet"):
            self.fleet.close()
            self.memory.close()
            self.inserts.close()
        control.stop(self.data_dir, lambda _: None)
        self._http.close()
        self._is_open = False

    @property
    def stack(self) -> Stack:
        """Where the stack answers, with its process ids of this moment."""
        return read_stack(self.data_dir)

    @property
    def key_by_tenant(self) -> Mapping[str, str]:
        """The tenants that may send, and their keys."""
        return {self.stack.tenant: self.stack.api_key, SECOND_TENANT: self._key}

    @contextmanager
    def workers(self, crew: Crew) -> Iterator[Fleet]:
        """Have a crew work behind a relay for Redis and a proxy for ClickHouse, both at rest."""
        try:
            self.fleet.muster(crew)
            yield self.fleet
        except BaseException:
            self.fleet.dismiss()
            raise
        finally:
            self.inserts.rest()
            self.memory.rest()

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
        reader = self._reader()
        for tenant in truth.tenants():
            reader.activate_meters(tenant)

    def fix_cuts(self, truth: Truth) -> None:
        """Fix a cut of each tenant of a truth, behind all that was sent."""
        reader = self._reader()
        for tenant in truth.tenants():
            reader.fix_cut(tenant, datetime.now(UTC))

    def _reader(self) -> Reader:
        stack = self.stack
        return open_reader(
            kafka_bootstrap=stack.kafka_bootstrap,
            postgres_dsn=stack.postgres_dsn,
            clickhouse_url=stack.clickhouse_url,
        )

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
            answer = self._http.get(
                f"{self.stack.api_url}/v1/progress",
                headers={"Authorization": f"Bearer {self.stack.api_key}"},
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
        # One that was paused for too long has been killed, and another runs in its place.
        with suppress(ProcessLookupError):
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
