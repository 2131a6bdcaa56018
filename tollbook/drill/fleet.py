"""The workers of a drill: started, hurt and started again by the drill itself."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.embedded.cleaning import STACK_VARIABLE
from infra.embedded.plan import REPOSITORY
from tollbook.stack_file import Stack

_LAUNCHER = REPOSITORY / "infra" / "embedded" / "launch.py"
_POLL_SECONDS = 0.02
_PAUSE_SECONDS_MIN = 0.1
_PAUSE_SECONDS_MAX = 2.0
_SETTLED_SECONDS = 5.0
_READY = " ready: "

WorkerName = tuple[int, int, int]
"""Number of the worker, how many there are, and which copy of it this is."""


@dataclass(frozen=True, slots=True)
class Crew:
    """Which workers a case wants."""

    workers: int = 2
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Kept:
    """A worker that is to run, and its process."""

    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    failures: int = 0
    start_after: float = 0.0
    log_start: int = 0
    """How long the log was when the process was started."""


@dataclass(slots=True)
class Fleet:
    """Keeps workers running, as a supervisor does; each restart is counted."""

    folder: Path
    stack: Stack
    data_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Settings that differ from the stack's, such as the address of a relay."""
    restarts: int = 0
    memory_bytes_max: int = 0
    """The most that any worker was seen to hold."""
    _kept: dict[WorkerName, _Kept] = field(default_factory=dict)
    _crew: Crew | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread | None = None

    def muster(self, crew: Crew) -> None:
        """Have this crew work, each worker afresh unless it is the crew of the case before."""
        if crew != self._crew:
            self.run(0)
            self._crew = crew
            self.run(crew.workers)
            self.wait_ready()
        self.restarts = self.memory_bytes_max = 0

    def dismiss(self) -> None:
        """Let the next case begin with workers that nothing has happened to."""
        self._crew = None

    def run(self, workers: int, copies: int = 1) -> None:
        """Let this many workers run from now on, each so many times; others are asked to end."""
        wanted = {(i, workers, copy) for i in range(workers) for copy in range(copies)}
        with self._lock:
            gone = [kept for name, kept in self._kept.items() if name not in wanted]
            self._kept = {name: self._kept.get(name) or _Kept() for name in wanted}
        ending = [threading.Thread(target=_end, args=(kept.process,)) for kept in gone]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, daemon=True)
            self._keeper.start()

    def pid(self, number: int, copy: int = 0, seconds: float = 60) -> int:
        """Return a worker's process id, once it runs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._lock:
                for (of_number, _, of_copy), kept in self._kept.items():
                    process = kept.process
                    is_meant = (of_number, of_copy) == (number, copy)
                    if is_meant and process is not None and process.poll() is None:
                        return process.pid
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"worker {number} does not run")

    def signal(self, number: int, what: signal.Signals, copy: int = 0) -> None:
        """Signal a worker."""
        os.kill(self.pid(number, copy), what)

    def kill(self, number: int, copy: int = 0) -> None:
        """Kill a worker, and wait until its process is another one."""
        before = self.pid(number, copy)
        os.kill(before, signal.SIGKILL)
        while self.pid(number, copy) == before:
            time.sleep(_POLL_SECONDS)

    def owner_of(self, port: int) -> int | None:
        """Return the process id of the worker that holds a connection from a port."""
        with self._lock:
            pids = [kept.process.pid for kept in self._kept.values() if kept.process is not None]
        for pid in pids:
            with suppress(psutil.Error):
                held = psutil.Process(pid).net_connections("tcp4")
                if any(each.laddr and each.laddr.port == port for each in held):
                    return pid
        return None

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until every worker has said, since its last start, that it reads its partitions."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._lock:
                kept = dict(self._kept)
            if all(self._is_ready(name, each) for name, each in kept.items()):
                return
            time.sleep(_POLL_SECONDS)
        raise TimeoutError("the workers are not ready")

    def _is_ready(self, name: WorkerName, kept: _Kept) -> bool:
        return kept.process is not None and _READY in self._said(name, kept)

    def _said(self, name: WorkerName, kept: _Kept) -> str:
        with self._log(name).open("rb") as log:
            log.seek(kept.log_start)
            return log.read().decode(errors="replace")

    def close(self) -> None:
        """End all workers, the paused ones too."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join()
        self.run(0)

    def _keep(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            with self._lock:
                for name, kept in self._kept.items():
                    self._look_at(name, kept)

    def _look_at(self, name: WorkerName, kept: _Kept) -> None:
        now = time.monotonic()
        if kept.process is not None and kept.process.poll() is None:
            self._measure(kept.process.pid)
            return
        if kept.process is not None:
            settled = now - kept.started_at > _SETTLED_SECONDS
            kept.failures = 1 if settled else kept.failures + 1
            pause = min(_PAUSE_SECONDS_MAX, _PAUSE_SECONDS_MIN * 2 ** (kept.failures - 1))
            kept.start_after = now + pause
            kept.process = None
            self.restarts += 1
        if now >= kept.start_after:
            log = self._log(name)
            kept.log_start = log.stat().st_size if log.exists() else 0
            kept.process = self._start(name)
            kept.started_at = now

    def _measure(self, pid: int) -> None:
        try:
            held = psutil.Process(pid).memory_info().rss
        except psutil.Error:
            return
        self.memory_bytes_max = max(self.memory_bytes_max, held)

    def _start(self, name: WorkerName) -> "subprocess.Popen[bytes]":
        number, workers, _ = name
        # The launcher sees to it that a worker never outlives the drill.
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), "9", "-"]
        worker = [sys.executable, "-P", "-m", "pipelines"]
        which = ["--worker", str(number), "--workers", str(workers)]
        with self._log(name).open("ab") as log:
            return subprocess.Popen(
                [*launcher, *worker, *which],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **self._addresses(), **self.environment, **self._settings()},
                start_new_session=True,
            )

    def _settings(self) -> Mapping[str, str]:
        return {} if self._crew is None else self._crew.settings

    def _addresses(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
            STACK_VARIABLE: str(self.data_dir),
            "TOLLBOOK_KAFKA_BOOTSTRAP": self.stack.kafka_bootstrap,
            "TOLLBOOK_POSTGRES_DSN": self.stack.postgres_dsn,
            "TOLLBOOK_CLICKHOUSE_URL": self.stack.clickhouse_url,
            "TOLLBOOK_REDIS_URL": self.stack.redis_url,
        }

    def _log(self, name: WorkerName) -> Path:
        number, workers, copy = name
        return self.folder / f"worker-{number}-of-{workers}-{copy}.log"


def _end(process: "subprocess.Popen[bytes] | None", seconds: float = 30) -> int:
    if process is None:
        return 0
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)  # one that is paused would not hear the first
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
