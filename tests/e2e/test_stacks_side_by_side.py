"""Two stacks run at once; Ctrl-C ends exactly what was started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from infra.embedded.board import read_state
from infra.embedded.cleaning import leftovers
from tests.e2e.stack_data import everything_running, produce
from tests.embedded_stack import EmbeddedStack, run_tollbook
from tests.forks import REPOSITORY
from tollbook.stack_file import read_stack


def test_a_second_stack_in_the_foreground_runs_beside_and_goes_without_a_trace_at_ctrl_c(
    stack: EmbeddedStack, tmp_path: Path, bystander: "subprocess.Popen[bytes]"
) -> None:
    first = stack.read()
    data_dir = tmp_path / "second"
    # What a shell runs in the background ignores Ctrl-C, and so would what it starts.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "tollbook.cli", "up"),
                *("--data-dir", data_dir, "--workers", "1"),
            ],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, ours)
    assert process.stdout is not None
    assert any("Ctrl-C ends it" in line for line in process.stdout), "it becomes ready"
    its_own = set(leftovers(data_dir))
    try:
        addresses = {first.kafka_bootstrap, first.ingest_url, first.clickhouse_url}
        known = read_stack(data_dir)
        assert addresses.isdisjoint({known.kafka_bootstrap, known.ingest_url, known.clickhouse_url})
        assert produce(first.kafka_bootstrap, "one")
        assert produce(known.kafka_bootstrap, "two")
        stack.wait_until_all_ready()
        # Its parts: what serves one connection of Postgres comes and goes.
        state = read_state(stack.data_dir)
        assert state is not None
        others = [part.key for part in state.parts.values() if part.key.pid]
    finally:
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=100)
    assert process.returncode == 0, printed
    assert "Stopped after" in printed
    assert its_own, "a stack has processes"
    assert its_own.isdisjoint(everything_running())
    assert leftovers(data_dir) == []
    assert others == [key for key in others if key.is_running()]
    assert bystander.poll() is None


def test_down_where_nothing_is_up_says_so(tmp_path: Path) -> None:
    done = run_tollbook("down", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert f"no stack is up in {tmp_path}" in done.stderr
    assert "There is nothing to end." in done.stderr


def test_up_of_a_running_stack_leaves_it_as_it_is(stack: EmbeddedStack) -> None:
    before = stack.read().pids
    assert "is up already" in stack.up()
    assert stack.read().pids == before
