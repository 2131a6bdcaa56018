"""Worker processes under a small parent: restarted when they die, ended when it ends.

A worker asks the kernel to be killed with its parent, so that a kill -9 of the parent leaves
nothing behind that still takes events.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from types import FrameType

MISCONFIGURED = 2
"""A worker's exit status that starting it again would not change."""

_PR_SET_PDEATHSIG = 1
_RESTART_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_STABLE_SECONDS = 30.0


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which started it, ends.

    Ctrl-C reaches the whole group: until a worker serves, it ends it without a trace.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent has ended already")


def reserve_port(host: str, port: int) -> socket.socket:
    """Return a socket that holds the port for the workers, without listening on it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reserved = socket.socket(family, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port and _is_taken(family, host, port):
        raise OSError(f"port {port} of {host} is taken")
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((host, port))
    return reserved


def _is_taken(family: int, host: str, port: int) -> bool:
    """Tell whether another program listens there, with SO_REUSEPORT or without."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


class Workers:
    """The worker processes of one parent."""

    def __init__(self, command: list[str], count: int, environment: Mapping[str, str]) -> None:
        self._command = command
        self._count = count
        self._environment = {**environment, "TOLLBOOK_INGEST_PARENT": str(os.getpid())}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._failures = [0] * count
        self._started_at = [0.0] * count
        self._is_stopping = False

    def run(self) -> int:
        """Keep the workers running until a signal; returns the worst exit status."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        for number in range(self._count):
            self._start(number)
        worst = 0
        while self._processes:
            for number, process in list(self._processes.items()):
                status = process.poll()
                if status is None:
                    continue
                del self._processes[number]
                if self._is_stopping:
                    worst = max(worst, _status_of_stopped(status))
                elif not self._restart(number, status):
                    worst = max(worst, abs(status) or 1)
                    self._stop()
            time.sleep(0.05)
        return worst

    def _start(self, number: int) -> None:
        self._started_at[number] = time.monotonic()
        self._processes[number] = subprocess.Popen(self._command, env=self._environment)

    def _restart(self, number: int, status: int) -> bool:
        """Start a dead worker again; says False where it keeps failing."""
        if time.monotonic() - self._started_at[number] > _STABLE_SECONDS:
            self._failures[number] = 0
        tried = self._failures[number]
        if status == MISCONFIGURED or tried >= len(_RESTART_SECONDS):
            return False
        sys.stderr.write(f"ingest worker {number} ended with {status}; starting another\n")
        time.sleep(_RESTART_SECONDS[tried])
        self._failures[number] += 1
        if not self._is_stopping:
            self._start(number)
        return True

    def _stop(self) -> None:
        self._is_stopping = True
        for process in self._processes.values():
            process.terminate()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop()


def _status_of_stopped(status: int) -> int:
    """Return a worker's exit status; one that a signal ended had not begun to serve."""
    return 0 if status in {-signal.SIGTERM, -signal.SIGINT} else abs(status)
