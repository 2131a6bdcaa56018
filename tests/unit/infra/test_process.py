"""Processes are known by pid and start; another process under the same pid is left alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.embedded import cleaning
from infra.embedded.process import ProcessKey, end, key_of, marked_processes, send


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_process_is_running_until_it_is_dead_even_unreaped(
    sleeper: "subprocess.Popen[bytes]",
) -> None:
    key = key_of(sleeper.pid)
    assert key.is_running()
    end([key], 5)
    assert not key.is_running()


def test_a_recycled_pid_is_never_signalled(sleeper: "subprocess.Popen[bytes]") -> None:
    of_another_life = ProcessKey(sleeper.pid, key_of(os.getpid()).start)
    assert not of_another_life.is_running()
    send(of_another_life, signal.SIGKILL)
    send(of_another_life, signal.SIGKILL, group=True)
    end([of_another_life, ProcessKey(sleeper.pid, "")], 1)
    assert sleeper.poll() is None


def test_marked_processes_are_those_with_exactly_that_mark(tmp_path: Path) -> None:
    def start(folder: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
        environment = {cleaning.STACK_VARIABLE: str(folder)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    ours, others = start(tmp_path / "a"), start(tmp_path / "ab")
    try:
        found = marked_processes(cleaning.mark_of(tmp_path / "a"))
        assert [key.pid for key in found] == [ours.pid]
        assert cleaning.clean_up(tmp_path / "a") == 1
        assert others.poll() is None
    finally:
        for process in (ours, others):
            process.kill()
            process.communicate()
