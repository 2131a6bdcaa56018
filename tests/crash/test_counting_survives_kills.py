"""kill -9 of anything, in the middle of a feed: afterwards the totals equal the recount."""

import json
import os
import random
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.reader import Reader
from pipelines.usage import Span
from tests.crash.feed import Truth, send_all, utc_now
from tollbook.stack_file import Stack, read_stack
from tollbook.usage_wiring import open_clickhouse, open_reader

EVENTS = 30_000
BATCH = 150


def _kill(data_dir: Path, part: str) -> None:
    """Kill a part and wait for the one that the supervisor starts instead."""
    before = _await_pid(data_dir, part, other_than=None)
    os.kill(before, signal.SIGKILL)
    _await_pid(data_dir, part, other_than=before)


def _await_pid(data_dir: Path, part: str, other_than: int | None) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pid = read_stack(data_dir).pids.get(part)
        if pid is not None and pid != other_than:
            return pid
        time.sleep(0.05)
    raise AssertionError(f"{part} does not run")


def _await_clickhouse(stack: Stack) -> Any:
    deadline = time.monotonic() + 30
    while True:
        try:
            return open_clickhouse(stack.clickhouse_url)
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _create_meters(stack: Stack, truth: Truth) -> None:
    with psycopg.connect(stack.postgres_dsn) as connection:
        for definition in truth.definitions():
            connection.execute(
                "INSERT INTO meters (tenant, key, version, definition) VALUES (%s, %s, 1, %s)",
                (stack.tenant, definition["key"], json.dumps(definition)),
            )


def _reader(stack: Stack) -> Reader:
    return open_reader(
        kafka_bootstrap=stack.kafka_bootstrap,
        postgres_dsn=stack.postgres_dsn,
        clickhouse_url=stack.clickhouse_url,
    )


def _check(stack: Stack, truth: Truth) -> None:
    """Compare every meter and subject, and the stored events, with what was sent."""
    clickhouse = _await_clickhouse(stack)
    reader = _reader(stack)
    now = utc_now()
    cut = reader.fix_cut(stack.tenant, datetime.now(UTC))
    spans = [Span(event["subject"], event["subject"]) for event in truth.events]
    spans = sorted(set(spans), key=lambda span: span.subject)
    for definition in truth.definitions():
        name = definition["key"].rsplit("_", 1)[1]
        start, end = now - timedelta(days=1), now + timedelta(days=1)
        found = reader.quantities(cut, definition["key"], spans, start, end)
        assert {q.owner: q.value for q in found} == truth.expected()[name], definition["key"]
    stored = clickhouse.query(
        "SELECT count(), uniqExact(id) FROM usage_events FINAL WHERE type = {type:String}",
        parameters={"type": truth.event_type},
    ).result_rows[0]
    assert stored == (len(truth.events), len(truth.events))


def _feed_with(data_dir: Path, name: str, faults: "list[threading.Thread]") -> None:
    stack = read_stack(data_dir)
    truth = Truth.generate(7, EVENTS, f"crash.{name}", utc_now())
    _create_meters(stack, truth)
    _reader(stack).activate_meters(stack.tenant)
    stop = threading.Event()
    for fault in faults:
        fault.start()
    try:
        send_all(truth, stack.ingest_url, stack.api_key, seed=11, size=BATCH, stop=stop)
    finally:
        stop.set()
        for fault in faults:
            fault.join()
    _check(read_stack(data_dir), truth)


def _fault(kill: "list[tuple[float, str]]", data_dir: Path, failed: list[str]) -> threading.Thread:
    def run() -> None:
        for delay, part in kill:
            time.sleep(delay)
            try:
                if part == "redis emptied":
                    redis.Redis.from_url(read_stack(data_dir).redis_url).flushall()
                else:
                    _kill(data_dir, part)
            except Exception as error:  # noqa: BLE001 - reported by the test's own thread
                failed.append(f"{part}: {error}")

    return threading.Thread(target=run)


@pytest.mark.parametrize("part", ["ingest", "worker-0", "clickhouse", "kafka", "redis"])
def test_totals_equal_the_recount_after_kill_9_of(part: str, stack_dir: Path) -> None:
    failed: list[str] = []
    kills = [(0.8, part), (1.5, part)]
    _feed_with(stack_dir, part.replace("-", ""), [_fault(kills, stack_dir, failed)])
    assert not failed


def test_totals_equal_the_recount_after_redis_is_emptied_again_and_again(stack_dir: Path) -> None:
    failed: list[str] = []
    kills = [(0.5, "redis emptied")] * 6
    _feed_with(stack_dir, "emptied", [_fault(kills, stack_dir, failed)])
    assert not failed


def test_totals_equal_the_recount_after_everything_is_killed_in_random_order(
    stack_dir: Path,
) -> None:
    rnd = random.Random(3)
    parts = ["ingest", "worker-0", "worker-1", "clickhouse", "kafka", "redis", "redis emptied"]
    rnd.shuffle(parts)
    failed: list[str] = []
    kills = [(rnd.uniform(0.1, 0.6), part) for part in parts]
    _feed_with(stack_dir, "everything", [_fault(kills, stack_dir, failed)])
    assert not failed
