"""What is done to workers: killed at a chosen write, paused, doubled, changed in number."""

import os
import signal
import time
from collections.abc import Callable

from tollbook.drill.case import Fault, Strike
from tollbook.drill.insert_proxy import Deal
from tollbook.drill.workloads import disorder

_WAIT_SECONDS = 30.0


def _wait_for_feed(strike: Strike) -> None:
    strike.feed_ended.wait()


def _killed_at(table: str, number: int) -> Callable[[Strike], None]:
    """Return what kills the worker when it wants to make its n-th insert into a table."""

    def arm(strike: Strike) -> None:
        inserts = strike.arena.inserts
        first = inserts.seen[table]
        left = [strike.scale.rounds]

        def rule(of_table: str, seen: int) -> Deal:
            if of_table != table or seen < first + number or not left:
                return Deal.LET
            left.clear() if left[0] == 1 else left.__setitem__(0, left[0] - 1)
            os.kill(strike.arena.fleet.pid(0), signal.SIGKILL)
            strike.note(f"killed before its insert into {table}")
            return Deal.DROP

        inserts.rule = rule

    return arm


def _kill(strike: Strike) -> None:
    for number in range(strike.scale.rounds * 2):
        time.sleep(strike.rnd.uniform(0.1, 0.6))
        strike.arena.fleet.kill(number % 2)
        strike.note("killed")


def _make_zombie(strike: Strike) -> None:
    """Pause one of two copies of a worker; it wakes when the other has gone far ahead."""
    fleet = strike.arena.fleet
    for copy in range(2):
        fleet.signal(0, signal.SIGSTOP, copy)
        time.sleep(strike.scale.fault_s)
        fleet.signal(0, signal.SIGCONT, copy)
        strike.note("paused and woken")


def _restart_rolling(strike: Strike) -> None:
    """Ask one worker after the other to end, under load; each must end well."""
    fleet = strike.arena.fleet
    for number in range(strike.scale.rounds * 2):
        time.sleep(0.2)
        before = fleet.pid(number % 2)
        fleet.signal(number % 2, signal.SIGTERM)
        while fleet.pid(number % 2) == before:
            time.sleep(0.02)
        fleet.wait_ready()
        strike.note("asked to end")


def _change_number(strike: Strike) -> None:
    fleet = strike.arena.fleet
    for workers in (3, 1, 4, 2):
        time.sleep(0.4)
        fleet.run(workers)
        fleet.kill(workers - 1)
        strike.note(f"{workers} workers, one killed")


def _stall_partition(strike: Strike) -> None:
    """Pause the worker of every second partition, so that one half lags far behind the other."""
    fleet = strike.arena.fleet
    fleet.signal(0, signal.SIGSTOP)
    strike.feed_ended.wait(strike.scale.fault_s * 2)
    fleet.signal(0, signal.SIGCONT)
    strike.note("stalled")


def _at_write(table: str, number: int, name: str, about: str) -> Fault:
    return Fault(
        name, about, strike=_wait_for_feed, arm=_killed_at(table, number), workers=1, stretch_s=0.1
    )


WORKER_FAULTS = [
    _at_write("usage_events", 1, "worker-first-batch", "kill -9 at the first batch"),
    _at_write(
        "usage_identities", 2, "worker-after-events", "kill -9 between events and identities"
    ),
    _at_write("usage_windows", 2, "worker-before-windows", "kill -9 between events and windows"),
    _at_write(
        "usage_progress", 2, "worker-before-progress", "kill -9 between windows and progress"
    ),
    Fault("worker-killed", "kill -9 of workers, again and again", strike=_kill),
    Fault("worker-zombie", "two copies of each worker, one asleep", _make_zombie, copies=2),
    Fault("worker-rolling", "SIGTERM of one worker after the other", strike=_restart_rolling),
    Fault("workers-changed", "3, 1, 4, 2 workers, one killed each time", strike=_change_number),
    Fault(
        "worker-stalled",
        "events shuffled, late and early; half of the partitions stand still",
        strike=_stall_partition,
        workload=disorder,
    ),
]
