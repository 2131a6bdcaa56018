"""Brings a stack up and down from outside: starts its supervisor, watches its state, ends it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from infra.embedded import logs
from infra.embedded.board import STACK_FILE, StackState, read_state
from infra.embedded.cleaning import clean_up, leftovers
from infra.embedded.config import (
    PORT_NAMES,
    SILENT_SECONDS_MAX,
    WORKER,
    is_free,
    port_holder,
    write_scale,
)
from infra.embedded.errors import StackError
from infra.embedded.plan import REPOSITORY
from infra.embedded.process import send

_LAUNCHER = Path(__file__).with_name("launch.py")
_FULL_BYTES = 4 * 1024 * 1024
_FREE_BYTES_MIN = 500 * 1024 * 1024
_POLL_SECONDS = 0.05
_STOP_SECONDS_MAX = 90.0

Watch = Callable[[StackState], None]
"""Called with the state whenever it may have changed."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """How a stack is to be brought up."""

    data_dir: Path
    detach: bool = False
    ports: Mapping[str, int] = field(default_factory=dict)
    workers: int = 2
    ingest_processes: int = 1
    partitions: int = 4
    silent_seconds_max: float = SILENT_SECONDS_MAX
    """A part that does not answer for so long is started again."""


def check_ground(options: UpOptions) -> None:
    """Look for what would make the stack fail: a full disk, taken ports.

    Raises:
        StackError: something is in the way.
    """
    data_dir = options.data_dir
    try:
        # What lies inside is private; user nobody may have to pass through to Postgres' folder.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        data_dir.mkdir(mode=mode, parents=True, exist_ok=True)
        free = shutil.disk_usage(data_dir).free
    except OSError as error:
        raise StackError(
            f"{data_dir} cannot be used as a data folder: {error.strerror}",
            "Choose another one with --data-dir.",
        ) from error
    if "," in str(data_dir):
        raise StackError(
            f"Kafka cannot keep its data in {data_dir}: the name has a comma",
            "Choose another folder with --data-dir.",
        )
    wanted = int(os.environ.get("TOLLBOOK_FREE_BYTES_MIN", _FREE_BYTES_MIN))
    if free < wanted:
        raise StackError(
            f"the disk is full: {free >> 20} MB are free where {data_dir} lies, the stack wants "
            f"{wanted >> 20} MB",
            "Free some space there, or choose another folder with --data-dir.",
        )
    for name, port in options.ports.items():
        if name not in PORT_NAMES:
            raise StackError(f"there is no port {name}", f"Ports are: {', '.join(PORT_NAMES)}.")
        if not is_free(port):
            raise StackError(
                f"port {port}, asked for {name}, is taken{port_holder(port)}",
                f"Stop what listens there, or choose another with --port {name}=NUMBER.",
            )


def start(options: UpOptions, watch: Watch) -> StackState:
    """Start a supervisor and wait until its stack is ready.

    Raises:
        StackError: the stack does not come up; nothing of it is left running.
    """
    previous = read_state(options.data_dir)
    if previous is not None and previous.is_up:
        return _wait_ready(options.data_dir, watch)
    log = logs.log_path(options.data_dir, "supervisor")
    log_start = log.stat().st_size if log.exists() else 0
    process = _spawn(options, log)
    try:
        while True:
            ended = process.poll()
            state = read_state(options.data_dir)
            if state is not None and state.supervisor_pid == process.pid:
                watch(state)
                if state.phase == "ready":
                    return state
            if ended is not None:
                raise _failure(state, process.pid, logs.tail(log, log_start), log)
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def stop(data_dir: Path, watch: Watch) -> int:
    """End a stack, or what is left of one; return how many leftovers were ended.

    Raises:
        StackError: there is nothing to end, or it does not end.
    """
    state = read_state(data_dir)
    if state is None or not state.is_up:
        ended = clean_up(data_dir)
        (data_dir / STACK_FILE).unlink(missing_ok=True)
        if ended == 0:
            raise StackError(f"no stack is up in {data_dir}", "There is nothing to end.")
        return ended
    send(state.supervisor, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS_MAX
    while state.supervisor.is_running():
        if time.monotonic() > deadline:
            raise StackError(
                f"the stack in {data_dir} does not end: its supervisor is process "
                f"{state.supervisor_pid}",
                f"Look into {logs.log_path(data_dir, 'supervisor')}, then kill it and run "
                "`tollbook down` again.",
            )
        time.sleep(_POLL_SECONDS)
        watch(read_state(data_dir) or state)
    return len(leftovers(data_dir)) and clean_up(data_dir)


def scale(data_dir: Path, workers: int, watch: Watch) -> StackState:
    """Have a running stack's partitions counted by so many workers; wait until they do.

    Raises:
        StackError: no stack is up, or it ends meanwhile.
    """
    state = read_state(data_dir)
    if state is None or not state.is_up or state.phase != "ready":
        raise StackError(f"no stack is ready in {data_dir}", "Start one with `tollbook up`.")
    if state.workers == workers:
        return state
    write_scale(data_dir, workers)
    send(state.supervisor, signal.SIGUSR1)
    while True:
        state = _wait_ready(data_dir, watch)
        parts = [part for name, part in state.parts.items() if name.startswith(WORKER)]
        if state.workers == workers and all(part.state == "ready" for part in parts):
            return state
        time.sleep(_POLL_SECONDS)


def _wait_ready(data_dir: Path, watch: Watch) -> StackState:
    """Wait for a stack that somebody else has started."""
    while True:
        state = read_state(data_dir)
        if state is None or not state.is_up:
            raise StackError(
                f"the stack in {data_dir} has ended while it was waited for",
                "Its logs tell why; start it again with `tollbook up`.",
            )
        watch(state)
        if state.phase == "ready":
            return state
        time.sleep(_POLL_SECONDS)


def _spawn(options: UpOptions, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "infra.embedded", "--data-dir", str(options.data_dir)]
    for name, port in options.ports.items():
        command += ["--port", f"{name}={port}"]
    command += ["--workers", str(options.workers)]
    command += ["--ingest-processes", str(options.ingest_processes)]
    command += ["--partitions", str(options.partitions)]
    command += ["--silent-seconds-max", str(options.silent_seconds_max)]
    if not options.detach:
        # In the foreground the stack ends with the command, however that ends.
        terms = [str(os.getpid()), str(int(signal.SIGTERM)), "-"]
        command = [sys.executable, "-I", "-S", str(_LAUNCHER), *terms, *command]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    with suppress(OSError):
        logs.rotate(log)
    with logs.open_log(log) as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=options.data_dir,
            env=environment,
            start_new_session=True,
        )


def _failure(state: StackState | None, pid: int, text: str, log: Path) -> StackError:
    if state is not None and state.supervisor_pid == pid and state.phase == "failed":
        return StackError(state.problem, state.remedy)
    if state is not None and state.supervisor_pid == pid and state.phase == "stopped":
        return StackError("the stack was stopped while it started", "Run `tollbook up` again.")
    data_dir = log.parents[1]
    last = text.strip().rpartition("\n")[2]
    if last.startswith('{"problem"'):
        return StackError(**json.loads(last))
    if shutil.disk_usage(data_dir).free < _FULL_BYTES:
        text = "no space left on device"
    problem, remedy = logs.explain(text, log, data_dir)
    return StackError(f"the stack does not start: {problem}", remedy)
