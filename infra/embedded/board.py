"""What is known of a running stack: kept in `state.json` and `stack.json`, true at every moment.

`state.json` is for `up`, `status` and the next clean-up; `stack.json` is the contract for everyone
else: addresses, a key, and pids by name. Both are replaced in one step, and private.
"""

import contextlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from infra.embedded.config import TENANT, StackConfig, write_private
from infra.embedded.process import ProcessKey, key_of

STATE_FILE = "state.json"
STACK_FILE = "stack.json"
_EVENTS_KEPT = 100


@dataclass(slots=True)
class PartState:
    """What is known of one part."""

    name: str
    state: str = "waiting"
    """waiting, preparing, starting, ready, down (until its next try), done, stopped or failed."""
    address: str = ""
    pid: int = 0
    start: str = ""
    since: float = 0.0
    """Unix time of the last change of `state`."""
    start_seconds: float = 0.0
    """From its start until it was ready, the last time."""
    restarts: int = 0
    last_end: str = ""
    """How it ended the last time, if it did."""
    alarms: list[str] = field(default_factory=list)
    """What it asks a person to mend, and how."""
    note: str = ""
    """What it says of how things stand."""

    @property
    def key(self) -> ProcessKey:
        """The part's process."""
        return ProcessKey(self.pid, self.start)


@dataclass(slots=True)
class StackState:
    """What is known of the whole stack."""

    data_dir: str
    supervisor_pid: int = 0
    supervisor_start: str = ""
    phase: str = "starting"
    """starting, ready, stopping, stopped or failed."""
    started_at: float = 0.0
    ready_at: float = 0.0
    problem: str = ""
    remedy: str = ""
    parts: dict[str, PartState] = field(default_factory=dict)
    workers: int = 0
    """How many workers the partitions are spread over."""
    events: list[tuple[int, float, str]] = field(default_factory=list)
    """Number, Unix time and text of what happened lately."""

    @property
    def supervisor(self) -> ProcessKey:
        """The supervisor's process."""
        return ProcessKey(self.supervisor_pid, self.supervisor_start)

    @property
    def is_up(self) -> bool:
        """Tell whether the stack's supervisor runs."""
        return self.supervisor.is_running()


def read_state(data_dir: Path) -> StackState | None:
    """Return what the last supervisor wrote down, or None where there was none."""
    try:
        known: dict[str, Any] = json.loads((data_dir / STATE_FILE).read_text())
        parts = {name: PartState(**fields) for name, fields in known.pop("parts").items()}
        events = [(number, at, text) for number, at, text in known.pop("events")]
        return StackState(**known, parts=parts, events=events)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Board:
    """The supervisor's own state, written down at each change."""

    def __init__(self, config: StackConfig, pid: int) -> None:
        self._config = config
        me = key_of(pid)
        self.state = StackState(
            data_dir=str(config.data_dir),
            supervisor_pid=me.pid,
            supervisor_start=me.start,
            started_at=time.time(),
            workers=config.workers,
        )

    def add(self, name: str, address: str) -> None:
        """Put a part on the board."""
        self.state.parts[name] = PartState(name, address=address, since=time.time())

    def drop(self, name: str) -> None:
        """Take a part off the board."""
        del self.state.parts[name]

    def raise_alarms(self, name: str, alarms: list[str], note: str) -> None:
        """Record what a part asks a person to mend, and its note; new alarms are told."""
        part = self.state.parts[name]
        part.note = note
        new = [alarm for alarm in alarms if alarm not in part.alarms]
        part.alarms = list(alarms)
        for alarm in new:
            self.tell(f"ALARM of {name}: {alarm}")
        self.write()

    def change(self, name: str, state: str, key: ProcessKey | None = None) -> None:
        """Record a part's new state, and its process where that is new."""
        part = self.state.parts[name]
        now = time.time()
        if state in {"ready", "done"}:
            part.start_seconds = now - part.since
        part.state, part.since = state, now
        if key is not None:
            part.pid, part.start = key.pid, key.start
        if state in {"down", "done", "stopped", "failed"}:
            part.pid, part.start = 0, ""
        self.write()

    def tell(self, text: str) -> None:
        """Record something that happened."""
        number = self.state.events[-1][0] + 1 if self.state.events else 1
        self.state.events.append((number, time.time(), text))
        del self.state.events[:-_EVENTS_KEPT]
        with contextlib.suppress(OSError):
            print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}", flush=True)
        self.write()

    def enter(self, phase: str) -> None:
        """Record the stack's new phase."""
        self.state.phase = phase
        if phase == "ready":
            self.state.ready_at = time.time()
        self.write()

    def write(self) -> None:
        """Write both files; a full disk must not keep the supervisor from its work."""
        try:
            self._write()
        except OSError as error:
            with contextlib.suppress(OSError):
                print(f"{STATE_FILE} cannot be written: {error}", flush=True)

    def _write(self) -> None:
        # Who reads in the state that the stack is ready finds the addresses already there.
        directory = self._config.data_dir
        if self.state.phase == "ready":
            write_private(directory / STACK_FILE, self._stack())
        else:
            (directory / STACK_FILE).unlink(missing_ok=True)
        write_private(directory / STATE_FILE, asdict(self.state))

    def _stack(self) -> dict[str, Any]:
        pids = {"supervisor": self.state.supervisor_pid}
        pids |= {part.name: part.pid for part in self.state.parts.values() if part.pid}
        return {
            "ingest_url": self._config.ingest_url,
            "api_url": self._config.api_url,
            "clickhouse_url": self._config.clickhouse_url,
            "postgres_dsn": self._config.postgres_dsn,
            "kafka_bootstrap": self._config.kafka_bootstrap,
            "redis_url": self._config.redis_url,
            "tenant": TENANT,
            "api_key": self._config.secrets.api_key,
            "pids": pids,
        }
