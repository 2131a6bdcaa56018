"""kill -9 of anything, in the middle of a feed: afterwards the totals equal the recount."""

import os
import random
import signal
import threading
import time
from collections.abc import Sequence

import pytest
import redis

from tests.embedded_stack import EmbeddedStack, wait_until
from tests.feed import Truth, send_all, utc_now
from tests.metering import check_totals, create_meters

EVENTS = 20_000
BATCH = 100
EMPTIED = "redis emptied"


def kill(stack: EmbeddedStack, part: str) -> None:
    """Kill a part as soon as it runs, and wait for the one that is started instead."""
    wait_until(lambda: stack.read().pids.get(part) is not None, 30)
    before = stack.read().pids[part]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: stack.read().pids.get(part, before) != before, 30)


def feed_under_faults(stack: EmbeddedStack, name: str, faults: Sequence[tuple[float, str]]) -> None:
    """Send events while faults strike, each so many seconds after the last; then recount."""
    truth = Truth.generate(7, EVENTS, f"crash.{name}", utc_now())
    create_meters(stack.read(), truth.definitions())
    failed: list[str] = []

    def strike() -> None:
        for delay, part in faults:
            time.sleep(delay)
            try:
                if part == EMPTIED:
                    redis.Redis.from_url(stack.read().redis_url).flushall()
                else:
                    kill(stack, part)
            except Exception as error:  # noqa: BLE001 - told by the test's own thread
                failed.append(f"{part}: {error!r}")

    striking = threading.Thread(target=strike)
    striking.start()
    try:
        known = stack.read()
        send_all(truth, known.ingest_url, known.api_key, seed=11, size=BATCH)
    finally:
        striking.join()
    assert not failed
    stack.wait_until_all_ready()
    check_totals(stack.read(), truth)


@pytest.mark.parametrize("part", ["ingest", "worker-0", "clickhouse", "kafka", "redis"])
def test_totals_equal_the_recount_after_kill_9_of(part: str, stack: EmbeddedStack) -> None:
    feed_under_faults(stack, part.replace("-", ""), [(0.5, part), (1.0, part)])


def test_totals_equal_the_recount_after_redis_is_emptied_again_and_again(
    stack: EmbeddedStack,
) -> None:
    feed_under_faults(stack, "emptied", [(0.3, EMPTIED)] * 6)


def test_totals_equal_the_recount_after_everything_is_killed_in_random_order(
    stack: EmbeddedStack,
) -> None:
    rnd = random.Random(3)
    parts = ["ingest", "worker-0", "worker-1", "clickhouse", "kafka", "redis", EMPTIED]
    rnd.shuffle(parts)
    feed_under_faults(stack, "everything", [(rnd.uniform(0.1, 0.5), part) for part in parts])
