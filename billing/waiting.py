"""What a run leaves for later: months to close first, moments to come, and why nothing was due."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import MAXYEAR, date, datetime
from zoneinfo import ZoneInfo

from billing.charge_period import ChargeKey, ChargePeriod
from billing.customer import Customer
from billing.due import BilledPeriod, Scope, due
from billing.facts import Facts
from billing.period import add_months

_UTC = ZoneInfo("UTC")


def first_unclosed(
    facts: Facts,
    billed: Mapping[ChargeKey, Sequence[BilledPeriod]],
    month: date,
    clock: datetime | None,
    closed: date | None = None,
) -> date | None:
    """Return the first month before one that has something due which is not billed.

    What became due later in months before `closed`, which were closed, is left to the next close.
    """
    left = due(facts, billed, Scope("close", month, clock))
    months = {_month_of(period) for period in left}
    return min((one for one in months if closed is None or one >= closed), default=None)


def _month_of(period: ChargePeriod) -> date:
    """Return the month whose close bills a period."""
    if period.timing == "advance":
        return period.period.starts_on.replace(day=1)
    ends_on = period.period.ends_on
    return add_months(ends_on, -1) if ends_on.day == 1 else ends_on.replace(day=1)


def next_moment(
    facts: Facts, billed: Mapping[ChargeKey, Sequence[BilledPeriod]], until: datetime
) -> datetime | None:
    """Return the first instant, not after another, at which something falls due."""
    return min(
        (
            one.period.starts_at if one.timing == "advance" else one.period.ends_at
            for one in due(facts, billed, Scope("bill", until))
        ),
        default=None,
    )


def has_come(customers: Iterable[Customer], scope: Scope, now: datetime, *, virtual: bool) -> bool:
    """Return whether the moment of a scope is not in the future.

    Where a date has begun for some customers only, the clock leaves the others for later; a
    tenant on a virtual clock has none that would, so it must have begun for all.
    """
    if scope.through.year == MAXYEAR:
        return False
    ends = [scope.end(zone) for zone in {customer.zone for customer in customers} or {_UTC}]
    return (max(ends) if virtual else min(ends)) <= now


def why_nothing(
    facts: Facts, billed: Mapping[ChargeKey, Sequence[BilledPeriod]], scope: Scope
) -> str:
    """Return in words why a scope had nothing to bill."""
    if not facts.subscriptions:
        return "no subscription is declared yet; declare one and `tollbook apply` it."
    if due(facts, billed, replace(scope, clock=None)):
        return "what falls due by then is billed an hour after its period has ended."
    if not billed:
        return "nothing falls due by then, and nothing was billed before."
    return (
        "all that falls due by then was billed before. Usage that came late for a billed period"
        " goes on the next invoice of its subscription."
    )
