"""One case of a drill: send a truth while a fault strikes, wait until all is counted, compare."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg

from ingest.topic import Tick
from pipelines.kafka_ticks import KafkaTicks
from pipelines.postgres_logs import PostgresLogs
from tollbook.drill.arena import HEAL_SECONDS_MAX, SECOND_TENANT, Arena
from tollbook.drill.checking import Check, Checker
from tollbook.drill.feeding import Feed
from tollbook.drill.workloads import Order, Workload, plain

WORKER_BYTES_MAX = 1 << 30
"""A worker's memory is bounded by a segment: less than this, whatever is sent."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is sent, and how long a fault lasts."""

    events: int
    fault_s: float
    """Of a pause or an outage."""
    rounds: int
    """How often a fault that is over at once strikes."""


QUICK = Scale(events=4_000, fault_s=2.0, rounds=2)
FULL = Scale(events=40_000, fault_s=10.0, rounds=5)


@dataclass(slots=True)
class Strike:
    """What a fault may use."""

    arena: Arena
    scale: Scale
    rnd: random.Random
    feed_ended: threading.Event
    struck: Counter[str] = field(default_factory=Counter)

    def note(self, what: str) -> None:
        """Count something that was done."""
        self.struck[what] += 1


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the stack, and what is sent meanwhile."""

    name: str
    about: str
    strike: Callable[[Strike], None]
    """Runs beside the feed; must note what it did."""
    arm: Callable[[Strike], None] | None = None
    """Runs before the feed."""
    workload: Workload = plain
    workers: int = 2
    copies: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    rolls_segments: bool = False
    """Starts new segments between the phases of what is sent."""
    stretch_s: float = 0.05
    """Between the requests of each of four senders: so that the fault meets some of them."""
    give_up_every: int = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case did and found."""

    fault: Fault
    seed: int
    events: int
    seconds: float
    recovery_s: float
    struck: Mapping[str, int]
    restarts: int
    statuses: Mapping[int, int]
    checks: list[Check]

    @property
    def failures(self) -> list[str]:
        """What does not hold."""
        return [str(check) for check in self.checks if not check.holds]


def play(arena: Arena, fault: Fault, scale: Scale, seed: int) -> Outcome:
    """Run one case on a stack and return what it found."""
    began = time.monotonic()
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)
    event_type = f"drill.{fault.name}.{seed}.{int(began * 10) % 10**7}"
    tenants = (arena.stack.tenant, SECOND_TENANT)
    truth = fault.workload(Order(seed, event_type, now, tenants, scale.events))
    truth.write(arena.data_dir / f"truth-{fault.name}-{seed}.ndjson")
    with arena.workers(fault.workers, fault.copies, fault.settings) as fleet:
        arena.create_meters(truth)
        stack = arena.stack
        feed = Feed(
            truth,
            stack.ingest_url,
            stack.kafka_bootstrap,
            arena.key_by_tenant,
            give_up_every=fault.give_up_every,
            pause_s=fault.stretch_s,
            between=(lambda: roll_segments(arena)) if fault.rolls_segments else None,
        )
        rnd = random.Random(seed)  # noqa: S311 - a seed is to give the same drill again
        strike = Strike(arena, scale, rnd, threading.Event())
        if fault.arm is not None:
            fault.arm(strike)
        _send_under(fault, strike, feed)
        arena.wait_healthy()
        recovery_s = arena.wait_counted()
        checks = Checker(
            truth, feed.account, stack.api_url, stack.clickhouse_url, arena.key_by_tenant
        ).run()
        checks += _own_checks(strike, recovery_s, fleet.memory_bytes_max)
        restarts = fleet.restarts
    return Outcome(
        fault=fault,
        seed=seed,
        events=sum(1 for _ in truth.planned()),
        seconds=time.monotonic() - began,
        recovery_s=recovery_s,
        struck=dict(strike.struck),
        restarts=restarts,
        statuses=dict(feed.account.statuses),
        checks=checks,
    )


def _send_under(fault: Fault, strike: Strike, feed: Feed) -> None:
    """Send everything while the fault strikes; raises what went wrong in either."""
    failed: list[BaseException] = []

    def strike_beside() -> None:
        try:
            fault.strike(strike)
        except BaseException as error:  # noqa: BLE001 - raised by the case's own thread
            failed.append(error)

    beside = threading.Thread(target=strike_beside)
    beside.start()
    try:
        feed.send()
    finally:
        strike.feed_ended.set()
        beside.join()
    if failed:
        raise failed[0]


def _own_checks(strike: Strike, recovery_s: float, memory_bytes: int) -> list[Check]:
    took_place = Check("--", "the fault took place")
    took_place.compare("strikes", True, sum(strike.struck.values()) > 0)
    resumed = Check("I9", f"all is counted within {HEAL_SECONDS_MAX:.0f} s of healing")
    resumed.compare("in time", True, recovery_s <= HEAL_SECONDS_MAX)
    bounded = Check("--", f"no worker holds {WORKER_BYTES_MAX >> 20} MiB")
    bounded.compare("bounded", True, memory_bytes < WORKER_BYTES_MAX)
    return [took_place, resumed, bounded]


def roll_segments(arena: Arena) -> None:
    """Begin a new segment in every partition, and wait until it is counted."""
    with psycopg.connect(arena.stack.postgres_dsn, autocommit=True) as connection:
        log = PostgresLogs(connection).newest()
    ticks = KafkaTicks(arena.stack.kafka_bootstrap)
    ticks.send(log, range(log.partitions), Tick("drill", start=True))
    arena.wait_counted()
