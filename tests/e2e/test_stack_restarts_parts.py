"""A part that dies is named, and started again; Kafka answers within 5 s of a kill -9."""

import json
import os
import signal
import time
from typing import Any

import pytest

from tests.e2e.stack_data import produce
from tests.embedded_stack import EmbeddedStack, run_tollbook, wait_until


@pytest.mark.parametrize("name", ["clickhouse", "ingest", "postgres", "redis", "worker-0"])
def test_a_killed_part_is_named_and_restarted_under_a_new_pid(
    stack: EmbeddedStack, name: str
) -> None:
    before = stack.part(name)
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: stack.part(name).restarts == before.restarts + 1, 10)
    stack.wait_until_all_ready()
    after = stack.part(name)
    assert after.pid != before.pid
    assert stack.read().pids[name] == after.pid
    assert "was ended by SIGKILL" in after.last_end
    assert any(text.startswith(f"{name} was ended by SIGKILL") for text in stack.events())
    shown = run_tollbook("status", "--data-dir", str(stack.data_dir))
    line = next(line for line in shown.stdout.splitlines() if line.startswith(f"{name} "))
    assert "was ended by SIGKILL" in line


def test_kafka_acknowledges_again_within_5_s_of_a_kill(stack: EmbeddedStack) -> None:
    bootstrap = stack.read().kafka_bootstrap
    os.kill(stack.part("kafka").pid, signal.SIGKILL)
    killed = time.monotonic()
    while not produce(bootstrap, "back"):
        assert time.monotonic() - killed < 30, "Kafka does not come back"
    seconds = time.monotonic() - killed
    stack.wait_until_all_ready()
    assert seconds < 5


def test_status_tells_programs_what_it_tells_people(stack: EmbeddedStack) -> None:
    told: list[dict[str, Any]] = []

    def all_is_well() -> bool:
        # A worker may still end and come back because of what was done to the servers before.
        done = run_tollbook("status", "--json", "--data-dir", str(stack.data_dir))
        told.append(json.loads(done.stdout))
        return done.returncode == 0

    wait_until(all_is_well, 60)
    pids = {name: part["pid"] for name, part in told[-1]["parts"].items() if part["pid"]}
    assert pids | {"supervisor": told[-1]["supervisor_pid"]} == stack.read().pids


def test_what_a_stack_knows_is_its_owners_alone(stack: EmbeddedStack) -> None:
    for name in ("stack.json", "state.json", "secrets.json", "redis/redis.conf"):
        assert (stack.data_dir / name).stat().st_mode & 0o077 == 0, name
