"""More partitions, more and fewer workers, kills and zombies, all while events come in."""

import os
import signal
import threading
import time
from collections.abc import Callable

from tests.crash.test_counting_survives_kills import kill
from tests.e2e.log_world import own, tollbook
from tests.embedded_stack import EmbeddedStack, run_tollbook
from tests.feed import Truth, send_all, utc_now
from tests.metering import check_totals, create_meters

__all__ = ["own"]
EVENTS = 10_000


def feed_while(stack: EmbeddedStack, name: str, act: Callable[[], None]) -> None:
    """Send events while something is done to the stack; then recount."""
    truth = Truth.generate(5, EVENTS, f"load.{name}", utc_now())
    create_meters(stack.read(), truth.definitions())
    failed: list[str] = []

    def acting() -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            failed.append(repr(error))

    thread = threading.Thread(target=acting)
    thread.start()
    try:
        known = stack.read()
        send_all(truth, known.ingest_url, known.api_key, seed=3, size=100)
    finally:
        thread.join()
    assert not failed
    stack.wait_until_all_ready()
    check_totals(stack.read(), truth)


def scale(stack: EmbeddedStack, workers: int) -> None:
    done = run_tollbook("scale", "workers", str(workers), "--data-dir", str(stack.data_dir))
    assert done.returncode == 0, done.stdout + done.stderr
    names = {name for name in stack.read().pids if name.startswith("worker-")}
    assert names == {f"worker-{number}" for number in range(workers)}


def test_partitions_grow_under_load_whatever_is_killed(own: EmbeddedStack) -> None:
    """What is sent again may lie in both logs: the audit counts it once."""

    def act() -> None:
        tollbook(own, "log", "open", "--partitions", "5")
        for part in ("ingest", "worker-0", "worker-1"):
            kill(own, part)

    feed_while(own, "grows", act)


def test_workers_come_and_go_under_load(own: EmbeddedStack) -> None:
    def act() -> None:
        for workers in (3, 1, 2):
            scale(own, workers)

    feed_while(own, "workers", act)


def test_a_worker_that_sleeps_while_others_take_its_place_changes_nothing(
    own: EmbeddedStack,
) -> None:
    """A zombie: it wakes with its share of the old plan, beside those who have it now."""

    def act() -> None:
        pid = own.read().pids["worker-1"]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(10)
        os.kill(pid, signal.SIGCONT)

    feed_while(own, "zombie", act)
