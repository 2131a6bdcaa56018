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
from pipelines.position import Log
from pipelines.postgres_logs import PostgresLogs
from tollbook.drill.arena import HEAL_SECONDS_MAX, SECOND_TENANT, Arena, ArenaError
from tollbook.drill.check import Check
from tollbook.drill.checking import Checker
from tollbook.drill.feeding import Feed
from tollbook.drill.fleet import Crew
from tollbook.drill.workloads import Order, Workload, plain

WORKER_BYTES_MAX = 1 << 30
"""A worker's memory is bounded by a segment: less than this, whatever is sent."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is sent, and how long a fault lasts."""

    events: int
    fault_s: float
    """Of a pause or an outage."""
    outage_s: float
    """Of a broker that is down for long."""
    rounds: int
    """How often a fault that is over at once strikes."""


BRIEF = Scale(events=1_200, fault_s=1.5, outage_s=6.0, rounds=1)
FULL = Scale(events=40_000, fault_s=10.0, outage_s=60.0, rounds=5)


@dataclass(slots=True)
class Strike:
    """What a fault may use."""

    arena: Arena
    scale: Scale
    rnd: random.Random
    feed: Feed
    struck: Counter[str] = field(default_factory=Counter)
    checks: list[Check] = field(default_factory=list)
    """What the fault found besides."""

    def note(self, what: str) -> None:
        """Count something that was done."""
        self.struck[what] += 1

    def wait_for_feed(self) -> None:
        """Wait until most is sent; the rest waits for the end of the fault."""
        self.feed.mostly_sent.wait()


def wait_for_feed(strike: Strike) -> None:
    """Do nothing while most is sent: what was armed strikes by itself."""
    strike.wait_for_feed()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the stack, and what is sent meanwhile."""

    name: str
    about: str
    strike: Callable[[Strike], None] = wait_for_feed
    """Runs beside the feed; must note what it did."""
    arm: Callable[[Strike], None] | None = None
    """Runs before the feed."""
    workload: Workload = plain
    crew: Crew = field(default_factory=Crew)
    rolls_segments: bool = False
    """Starts new segments between the phases of what is sent."""
    stretch_s: float = 0.05
    """Between the requests of each of four senders: so that the fault meets some of them."""
    give_up_every: int = 3
    fixes_cut: bool = False
    """Ends with a cut, whose audit finds copies that no partition could see."""
    is_last: bool = False
    """Leaves the clock of the log ahead, so that no cut of now reaches the end: played once."""
    is_long: bool = False
    """Only of use when it takes its time."""


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
    with arena.workers(fault.crew) as fleet:
        arena.create_meters(truth)
        stack = arena.stack
        feed = Feed(
            truth,
            stack.ingest_url,
            stack.kafka_bootstrap,
            arena.key_by_tenant,
            topic=open_logs(arena)[-1].topic,
            give_up_every=fault.give_up_every,
            pause_s=fault.stretch_s,
            between=(lambda: roll_segments(arena)) if fault.rolls_segments else None,
        )
        rnd = random.Random(seed)  # noqa: S311 - a seed is to give the same drill again
        strike = Strike(arena, scale, rnd, feed)
        if fault.arm is not None:
            fault.arm(strike)
        _send_under(fault, strike)
        arena.wait_healthy()
        recovery_s = arena.wait_counted()
        if fault.fixes_cut:
            arena.fix_cuts(truth)
        checks = Checker(
            truth, feed.account, stack.api_url, stack.clickhouse_url, arena.key_by_tenant
        ).run()
        checks += [*strike.checks, *_own_checks(strike, recovery_s, fleet.memory_bytes_max)]
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


def attempt(arena: Arena, fault: Fault, scale: Scale, seed: int) -> Outcome:
    """Run one case, as `play`; one that cannot come to its end is an outcome, too.

    Raises:
        ArenaError: it has left a stack that does not heal.
    """
    began = time.monotonic()
    try:
        return play(arena, fault, scale, seed)
    except (ArenaError, TimeoutError) as error:
        arena.wait_healthy()
        seconds = time.monotonic() - began
        ended = Check("--", "the case came to its end", looked_at=1, differences=[str(error)])
        return Outcome(fault, seed, 0, seconds, 0.0, {}, 0, {}, [ended])


def _send_under(fault: Fault, strike: Strike) -> None:
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
        strike.feed.send(beside.join)
    finally:
        strike.feed.mostly_sent.set()
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


def open_logs(arena: Arena) -> list[Log]:
    """Return the logs that are read, the one that events go into last."""
    with psycopg.connect(arena.stack.postgres_dsn, autocommit=True) as connection:
        logs = PostgresLogs(connection)
        newest = logs.newest()
        return [*(log for log in logs.open_logs() if log.log != newest.log), newest]


def roll_segments(arena: Arena) -> None:
    """Begin a new segment in every partition, and wait until it is counted."""
    ticks = KafkaTicks(arena.stack.kafka_bootstrap)
    for log in open_logs(arena):
        ticks.send(log, range(log.partitions), Tick("drill", start=True))
    arena.wait_counted()
