"""Moves a tenant's own clock: all that falls due on the way is done and billed, in order."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from billing.clock import Clock, later
from billing.due import Scope, closable_at
from billing.facts import LATEST
from billing.period import add_months, whole_month
from billing.postgres_clock import ClockError, hold_clock, read_clock, set_clock, start_clock
from billing.postgres_due_work import do_due_work, next_due
from billing.postgres_runs import PostgresRuns
from billing.waiting import next_moment
from infra.embedded.errors import StackError
from pipelines.usage import UsageReader
from tollbook.bill_runs import Progress, close_month, run_scope
from tollbook.billing_wiring import Connection, open_database, open_usage
from tollbook.stack_file import Stack


def shown(clock: Clock) -> dict[str, Any]:
    """Return a clock, JSON-ready."""
    return {"at": clock.at.isoformat(), "virtual": clock.is_virtual}


def read(connection: Connection, tenant: str) -> Clock:
    """Return what time it is for a tenant."""
    return read_clock(connection, tenant, datetime.now(UTC))


def start(connection: Connection, tenant: str, at: datetime) -> Clock:
    """Give a tenant its own clock; raises StackError where it lived by another."""
    try:
        start_clock(connection, tenant, at)
    except ClockError as error:
        raise StackError(str(error), "See `tollbook clock show`.") from error
    return read(connection, tenant)


def until_of(clock: Clock, to: datetime | None, by: str | None) -> datetime:
    """Return the instant to advance to, given it or a span; raises StackError."""
    try:
        until = to if by is None else later(clock.at, by)
    except ValueError as error:
        raise StackError(str(error), "Write a span such as 1 month.") from error
    if until is None or (to is not None and by is not None):
        raise StackError("advance to an instant, or by a span", "Give one of --to and --by.")
    if not clock.is_virtual:
        raise StackError(
            "this tenant lives by the world's clock, which nobody advances",
            "Give a tenant without subscriptions its own: `tollbook clock start`.",
        )
    if until < clock.at:
        raise StackError(
            f"it is {clock.at.isoformat()}, and a clock never goes back", "Give a later instant."
        )
    return until


def advance(
    stack: Stack,
    to: datetime | None,
    by: str | None,
    progress: Progress,
    usage_of: Callable[[Stack], UsageReader] = open_usage,
    *,
    closes: bool = False,
) -> dict[str, Any]:
    """Advance a tenant's clock to an instant or by a span; returns what was done, JSON-ready.

    Where it `closes`, months are closed too, each as soon as it is over everywhere.
    The clock stands at each instant while what falls due then is done, so one that was killed goes
    on from there.
    """
    work, documents = 0, list[Any]()
    with open_database(stack) as connection, hold_clock(connection, stack.tenant):
        clock = read(connection, stack.tenant)
        until = until_of(clock, to, by)
        at = clock.at
        store = PostgresRuns(connection, stack.tenant)
        month = store.closed() or whole_month(at.date())
        while True:
            closes_at = closable_at(add_months(month, 1)) if closes else None
            falls_due = next_due(connection, stack.tenant)
            bills = next_moment(store.facts(LATEST), store.billed(), until)
            coming = [
                each for each in (falls_due, bills, closes_at) if each is not None and each <= until
            ]
            if not coming:
                break
            at = max(at, min(coming))
            set_clock(connection, stack.tenant, at)
            done = do_due_work(connection, at, stack.tenant)
            work += done
            # What has ended has nothing due, but may be owed a credit.
            if done or (bills is not None and bills <= at):
                documents += run_scope(stack, Scope("bill", at), progress, usage_of)["documents"]
            if closes_at is not None and closes_at <= at:
                documents += close_month(stack, month, progress, usage_of)["documents"]
                month = add_months(month, 1)
        set_clock(connection, stack.tenant, until)
    return {
        "from": clock.at.isoformat(),
        "at": until.isoformat(),
        "virtual": True,
        "work_done": work,
        "documents": documents,
    }
