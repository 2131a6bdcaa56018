"""What was acknowledged is there after `down` and `up`, and after a kill -9 of everything."""

import os
import signal
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from infra.embedded.cleaning import leftovers
from tests.e2e.stack_data import (
    everything_running,
    words_in_clickhouse,
    words_in_kafka,
    words_in_postgres,
    write_everywhere,
)
from tests.embedded_stack import EmbeddedStack, run_tollbook, wait_until


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    own = EmbeddedStack(tmp_path_factory.mktemp("kept üß"), ("--workers", "1"))
    own.up()
    write_everywhere(own.read(), "first")
    yield own
    own.down()
    assert leftovers(own.data_dir) == []


def _assert_kept(stack: EmbeddedStack, words: list[str]) -> None:
    known = stack.read()
    assert words_in_postgres(known) == words
    assert words_in_clickhouse(known) == words
    assert [word for word in words_in_kafka(known) if word in words] == words


def test_data_addresses_and_key_survive_down_and_up(
    own_stack: EmbeddedStack, stack: EmbeddedStack, bystander: "subprocess.Popen[bytes]"
) -> None:
    before, its_own = own_stack.read(), set(leftovers(own_stack.data_dir))
    stack.wait_until_all_ready()
    others = leftovers(stack.data_dir)
    own_stack.down()
    assert its_own, "a stack has processes"
    assert its_own.isdisjoint(everything_running())
    assert others == [key for key in others if key.is_running()]
    assert bystander.poll() is None
    assert not (own_stack.data_dir / "stack.json").exists()
    own_stack.up()
    after = own_stack.read()
    for name in ("kafka_bootstrap", "postgres_dsn", "clickhouse_url", "ingest_url", "api_key"):
        assert getattr(after, name) == getattr(before, name)
    _assert_kept(own_stack, ["first"])


def test_data_survives_a_kill_of_everything_at_once(own_stack: EmbeddedStack) -> None:
    write_everywhere(own_stack.read(), "second")
    for pid in own_stack.read().pids.values():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: run_status(own_stack) != 0, 60)
    own_stack.up()
    _assert_kept(own_stack, ["first", "second"])


def test_parts_of_a_killed_supervisor_end_or_are_cleaned_up(own_stack: EmbeddedStack) -> None:
    pids = own_stack.read().pids
    # A part that cannot hear that its supervisor died is left over, and has to be recognised.
    os.kill(pids["redis"], signal.SIGSTOP)
    os.kill(pids["supervisor"], signal.SIGKILL)
    others = [pid for name, pid in pids.items() if name != "redis"]
    wait_until(lambda: not any(_is_running(pid) for pid in others), 60)
    assert [key.pid for key in leftovers(own_stack.data_dir)] == [pids["redis"]]
    told = run_tollbook("status", "--data-dir", str(own_stack.data_dir))
    assert "was killed, with 1 process left over" in told.stderr
    own_stack.up()
    assert "ended 1 process left over from a stack that was killed" in own_stack.events()
    assert not _is_running(pids["redis"])
    _assert_kept(own_stack, ["first", "second"])


def run_status(stack: EmbeddedStack) -> int:
    return run_tollbook("status", "--data-dir", str(stack.data_dir)).returncode


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
