"""What is done to workers: killed at a chosen write, paused, doubled, changed in number."""

import os
import signal
import time

from tollbook.drill.arena import wait_until
from tollbook.drill.case import Fault, Strike
from tollbook.drill.insert_proxy import Deal, Insert
from tollbook.drill.workloads import disorder

_WRITES = ("usage_events", "usage_identities", "usage_windows", "usage_progress")
"""Tables in the order in which a worker writes them: each insert is a place to die before."""
_SECONDS_A_ROUND = 120
"""Workers load what is compiled each time they start."""


def _arm_kills_at_writes(strike: Strike) -> None:
    """Kill the worker that wants to make the next insert on the list; it never happens."""
    left = list(_WRITES) * strike.scale.rounds

    def rule(insert: Insert) -> Deal:
        if not left or insert.table != left[0]:
            return Deal.LET
        pid = strike.arena.fleet.owner_of(insert.port)
        if pid is None:
            return Deal.LET
        left.pop(0)
        os.kill(pid, signal.SIGKILL)
        strike.note(f"killed before {insert.table}")
        return Deal.DROP

    strike.arena.inserts.rule = rule


def _wait_for_kills(strike: Strike) -> None:
    wanted = len(_WRITES) * strike.scale.rounds
    strike.wait_for_feed()
    wait_until(
        lambda: sum(strike.struck.values()) == wanted,
        "a worker died at every write",
        _SECONDS_A_ROUND * strike.scale.rounds,
    )


def _kill(strike: Strike) -> None:
    for number in range(strike.scale.rounds * 2):
        time.sleep(strike.rnd.uniform(0.1, 0.6))
        strike.arena.fleet.kill(number % 2)
        strike.note("killed")


def _make_zombies(strike: Strike) -> None:
    """Run each worker twice; pause one of the two, and wake it when the other is far ahead."""
    fleet = strike.arena.fleet
    fleet.run(2, copies=2)
    fleet.wait_ready()
    for copy in range(2):
        fleet.signal(0, signal.SIGSTOP, copy)
        time.sleep(strike.scale.fault_s)
        fleet.signal(0, signal.SIGCONT, copy)
        strike.note("paused and woken")
    strike.wait_for_feed()
    strike.arena.wait_counted()
    fleet.run(2)


def _change_number(strike: Strike) -> None:
    fleet = strike.arena.fleet
    for workers in (3, 1, 4, 2):
        time.sleep(0.2)
        fleet.run(workers)
        fleet.kill(workers - 1)
        strike.note(f"{workers} workers, one killed")


def _stall_partitions(strike: Strike) -> None:
    """Pause the worker of every second partition, so that one half lags far behind the other."""
    fleet = strike.arena.fleet
    fleet.signal(0, signal.SIGSTOP)
    strike.feed.mostly_sent.wait(strike.scale.outage_s)
    fleet.signal(0, signal.SIGCONT)
    strike.note("stalled")


WORKER_FAULTS = [
    Fault(
        "worker-killed-at-writes",
        "kill -9 at the first batch, and between events, identities, windows and progress",
        _wait_for_kills,
        arm=_arm_kills_at_writes,
        stretch_s=0.1,
    ),
    Fault("worker-killed", "kill -9 of workers again and again", _kill, is_long=True),
    Fault(
        "worker-zombie", "each worker runs twice; one sleeps and wakes far behind", _make_zombies
    ),
    Fault("workers-changed", "3, 1, 4 and 2 workers, each time one is killed", _change_number),
    Fault(
        "worker-stalled",
        "events shuffled, late by 1 s to 35 days, early; half of the partitions stand still",
        _stall_partitions,
        workload=disorder,
    ),
]
