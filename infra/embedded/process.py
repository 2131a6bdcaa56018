"""Processes of ours, told from others by start time, so that a recycled pid is never signalled."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ProcessKey:
    """A process for all time: its pid, and when it started, as the kernel tells it."""

    pid: int
    start: str

    def is_running(self) -> bool:
        """Tell whether this very process still runs; one that only waits to be reaped does not."""
        return self.start != "" and start_of(self.pid) == self.start


def start_of(pid: int) -> str:
    """Return boot and clock tick at which a process started; empty where there is none."""
    try:
        # The name in parentheses may hold anything, so fields are counted from its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    if fields[0] in {"Z", "X"}:
        return ""
    return f"{_BOOT.read_text().strip()}:{fields[19]}"


def key_of(pid: int) -> ProcessKey:
    """Return the key of a running process."""
    return ProcessKey(pid, start_of(pid))


def marked_processes(mark: str) -> list[ProcessKey]:
    """Return the processes that were started with `mark`, a NAME=VALUE, in their environment."""
    wanted = mark.encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = Path(entry.path, "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(key_of(int(entry.name)))
    return [key for key in found if key.start]


def send(key: ProcessKey, number: signal.Signals, *, group: bool = False) -> None:
    """Signal a process, or the group that it leads, if it is still the one meant."""
    if not key.is_running():
        return
    try:
        if group and os.getpgid(key.pid) == key.pid:
            os.killpg(key.pid, number)
        else:
            os.kill(key.pid, number)
    except ProcessLookupError:
        return


def kill_all(key: ProcessKey) -> None:
    """Kill a process and all that it has started, those that lead groups of their own too."""
    if not key.is_running():
        return
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(key.pid).children(recursive=True):
            send(key_of(child.pid), signal.SIGKILL)
    send(key, signal.SIGKILL, group=True)


def wait_gone(keys: list[ProcessKey], seconds: float) -> list[ProcessKey]:
    """Wait until processes are gone; return those that are not."""
    deadline = time.monotonic() + seconds
    left = [key for key in keys if key.is_running()]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [key for key in left if key.is_running()]
    return left


def end(keys: list[ProcessKey], seconds: float) -> None:
    """End processes: ask, wait for `seconds`, then kill."""
    for key in keys:
        send(key, signal.SIGTERM)
        send(key, signal.SIGCONT)  # one that is paused would not hear the first
    left = wait_gone(keys, seconds)
    for key in left:
        send(key, signal.SIGKILL)
    wait_gone(left, 5)
