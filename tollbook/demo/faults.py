"""What the demo breaks before the viewer's eyes: a worker at its work, and a close midway."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.errors import StackError
from tollbook.demo.books import Books
from tollbook.demo.failure import DemoError
from tollbook.demo.tools import start_tollbook
from tollbook.stack_file import read_stack

_POLL_SECONDS = 0.01
_PATIENCE_SECONDS = 60.0
_ISSUED_MIN = 8


@dataclass(frozen=True, slots=True)
class Killed:
    """A process ended with kill -9, and when (monotonic seconds)."""

    name: str
    pid: int
    at: float


def kill_part(data_dir: Path, name: str) -> Killed:
    """End a part of the stack with kill -9."""
    pid = read_stack(data_dir).pids[name]
    os.kill(pid, signal.SIGKILL)
    return Killed(name, pid, time.monotonic())


def wait_for_restart(data_dir: Path, killed: Killed) -> int:
    """Return the process id under which the supervisor has started a killed part again."""
    while time.monotonic() < killed.at + _PATIENCE_SECONDS:
        pid = _pid_of(data_dir, killed.name)
        if pid not in (None, killed.pid):
            return int(pid or 0)
        time.sleep(_POLL_SECONDS)
    raise DemoError(f"{killed.name} was not restarted within {_PATIENCE_SECONDS:.0f} s")


def kill_close_midway(books: Books, close: int, arguments: Sequence[str]) -> tuple[Killed, int]:
    """Start a close, kill it when it has issued some invoices, and return how many it had.

    Raises:
        DemoError: it was faster than the eye, or failed by itself.
    """
    process = start_tollbook(arguments)
    while process.poll() is None:
        if books.issued_by(close) >= _ISSUED_MIN:
            process.kill()
            process.communicate()
            return Killed("close", process.pid, time.monotonic()), books.issued_by(close)
        time.sleep(_POLL_SECONDS / 5)
    out, error = process.communicate()
    raise DemoError(f"the close ended before it could be killed: {(error or out).strip()[-300:]}")


def _pid_of(data_dir: Path, name: str) -> int | None:
    try:
        return read_stack(data_dir).pids.get(name)
    except StackError:
        return None
