"""What is done to the stack as a whole: killed, paused, hung, rolled, given another log."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial

import psutil

from infra.embedded import control
from infra.embedded.config import WORKER
from tollbook.drill.arena import wait_until
from tollbook.drill.case import Fault, Strike, open_logs
from tollbook.drill.check import Check
from tollbook.drill.server_faults import empty, kill
from tollbook.usage_logs import UsageLogs

_SERVERS = ("kafka", "redis", "clickhouse", "postgres", "ingest")


def _pause_in_turn(strike: Strike) -> None:
    time.sleep(0.2)
    for part in _SERVERS:
        strike.arena.pause(part, strike.scale.fault_s)
        strike.note(f"{part} paused")


def _hang(strike: Strike) -> None:
    """Stop every part of the stack for ever, a worker of its own too: it has to notice."""
    arena = strike.arena
    control.scale(arena.data_dir, 1, lambda _: None)
    worker = f"{WORKER}0"
    before = {part: arena.pid(part) for part in (*_SERVERS, worker)}
    for part, pid in before.items():
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            process.suspend()
        strike.note(f"{part} stopped")

    def all_are_new() -> bool:
        now = arena.stack.pids
        return all(now.get(part, pid) != pid for part, pid in before.items())

    wait_until(all_are_new, "every part that hangs is started again")
    arena.wait_healthy()
    strike.wait_for_feed()
    arena.wait_counted()
    control.scale(arena.data_dir, 0, lambda _: None)


def _restart_rolling(strike: Strike) -> None:
    """Ask workers and ingest to end, one after the other, under load; each must end well."""
    arena = strike.arena
    for number in range(2):
        before = arena.fleet.pid(number)
        arena.fleet.signal(number, signal.SIGTERM)
        wait_until(lambda n=number, b=before: arena.fleet.pid(n) != b, "the worker is another")  # type: ignore[misc]
        strike.note("worker asked to end")
    for _ in range(strike.scale.rounds):
        before = arena.pid("ingest")
        os.kill(before, signal.SIGTERM)
        wait_until(lambda b=before: arena.pid("ingest") != b, "ingest is another")  # type: ignore[misc]
        arena.wait_healthy()
        strike.note("ingest asked to end")
    arena.fleet.wait_ready()
    strike.wait_for_feed()
    check = Check("P5", "nobody is answered 5xx by what was asked to end")
    check.compare("statuses", [], [s for s in strike.feed.account.statuses if s >= 500])
    strike.checks.append(check)


def _open_log(strike: Strike) -> None:
    """Give the topic one partition more, and kill ingest and a worker on the way."""
    arena = strike.arena
    before = open_logs(arena)[-1]
    UsageLogs.connect(arena.stack).open_new(before.partitions + 1)
    strike.note("log opened")
    arena.kill("ingest")
    arena.fleet.kill(0)
    arena.wait_healthy()
    strike.note("ingest and a worker killed")


def _storm(strike: Strike) -> None:
    """Do everything that kills, in random order, again and again."""
    arena = strike.arena
    for _ in range(strike.scale.rounds):
        deeds: list[Callable[[], None]] = [partial(arena.kill, part) for part in _SERVERS]
        deeds += [partial(arena.fleet.kill, number) for number in (0, 1)]
        deeds.append(partial(empty, strike))
        strike.rnd.shuffle(deeds)
        for deed in deeds:
            time.sleep(strike.rnd.uniform(0.0, 0.5))
            deed()
            strike.note("struck")


STACK_FAULTS = [
    Fault("ingest-killed", "kill -9 of ingest under load", kill("ingest")),
    Fault("rolling", "SIGTERM of workers and ingest, one after the other", _restart_rolling),
    Fault("parts-paused", "SIGSTOP of each server in turn, and then SIGCONT", _pause_in_turn),
    Fault("parts-hung", "SIGSTOP of everything at once, and nobody wakes it", _hang),
    Fault(
        "log-opened",
        "one partition more while events come in; ingest and a worker are killed",
        _open_log,
        fixes_cut=True,
    ),
    Fault("storm", "everything is killed in random order", _storm, is_long=True),
]
