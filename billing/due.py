"""Which periods of which charges a run bills, and which billed ones it looks at again."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from billing.charge import Charge
from billing.charge_period import ChargeKey, ChargePeriod, Terms
from billing.customer import Item, Subscription
from billing.facts import Assignment, Facts, first_charge
from billing.period import Period, instant, last_date, local_date, period_between, periods
from pipelines.usage import ChangedUsage

_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)

SETTLE_DELAY = timedelta(hours=1)
"""How long after its end a period's usage is waited for before it is billed."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a run bills: everything that falls due through a moment.

    A close ends with its month, so charges in advance that start at that moment are left to the
    next; `bill` includes them.
    """

    kind: str
    through: date | datetime
    clock: datetime | None = None
    """Nothing that ends later is due yet; None for a tenant on a virtual clock."""

    def end(self, zone: ZoneInfo) -> datetime:
        """Return the moment in a customer's zone."""
        return instant(self.through, zone)

    def includes(self, period: Period, timing: str, zone: ZoneInfo) -> bool:
        """Return whether a period is due."""
        if self.clock is not None and not self._has_come(period, timing):
            return False
        if timing == "arrears":
            return period.ends_at <= self.end(zone)
        if self.kind == "close":
            return period.starts_at < self.end(zone)
        return period.starts_at <= self.end(zone)

    def _has_come(self, period: Period, timing: str) -> bool:
        assert self.clock is not None  # noqa: S101
        if timing == "advance":
            return period.starts_at <= self.clock
        return period.ends_at + SETTLE_DELAY <= self.clock


@dataclass(frozen=True, slots=True)
class BilledPeriod:
    """What is stored of a charge's period: where it lies, and the facts it was first billed by."""

    key: ChargeKey
    starts_at: datetime
    ends_at: datetime
    starts_on: date
    """The local day it starts."""
    revision: int


def closable_at(following: date) -> datetime:
    """Return from when a month can be closed: the next has begun everywhere, and usage settled."""
    last_zone = timedelta(hours=12)
    return datetime(following.year, following.month, 1, tzinfo=UTC) + last_zone + SETTLE_DELAY


Interval = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Changes:
    """What may differ between two cuts."""

    usage: Mapping[str, Mapping[str, Sequence[Interval]]]
    """Windows with other events, by meter and subject."""
    moved: Mapping[str, Sequence[Interval]]
    """When subjects came to a customer or left it."""


def changes_of(usage: Iterable[ChangedUsage], moved: Iterable[Assignment]) -> Changes:
    """Order what changed by where it is looked up."""
    by_meter: dict[str, dict[str, list[Interval]]] = defaultdict(lambda: defaultdict(list))
    for row in usage:
        by_meter[row.meter][row.subject].append((row.start, row.end))
    by_customer: dict[str, list[Interval]] = defaultdict(list)
    for owned in moved:
        by_customer[owned.customer].append((owned.start or _EVER, owned.end or _NEVER))
    return Changes(by_meter, by_customer)


def due(
    facts: Facts, billed: Mapping[ChargeKey, Sequence[BilledPeriod]], scope: Scope
) -> list[ChargePeriod]:
    """Return the periods that are due and not billed yet, in order of bill date."""
    found = [
        found
        for subscription in facts.subscriptions.values()
        for item in subscription.items
        for charge in facts.charge_keys(item)
        for found in _due_of(facts, subscription, item, charge, billed, scope)
    ]
    return sorted(found, key=line_order)


def line_order(period: ChargePeriod) -> tuple[date, str, str, int, datetime]:
    """Return what lines are sorted by: bill date, subscription, place in the book, time."""
    place = (period.customer, period.subscription, period.rank)
    return (period.bill_on, *place, period.period.starts_at)


def _due_of(
    facts: Facts,
    subscription: Subscription,
    item: Item,
    key: str,
    billed: Mapping[ChargeKey, Sequence[BilledPeriod]],
    scope: Scope,
) -> Iterator[ChargePeriod]:
    zone = facts.zone_of(subscription)
    charge = first_charge(facts.versions(item), key)
    terms = Terms(facts, subscription, item, key)
    known = billed.get((subscription.key, item.key, key), ())
    if (tried := terms.of_trial()) is not None:
        yield from _due_of_trial(tried, charge, known, scope)
    grid = subscription.grid(charge.cadence)
    all_periods = periods(terms.starts_at, terms.ends()[0], grid, zone)
    if charge.is_once:
        all_periods = iter(()) if known else islice(all_periods, 1)
    for period in takewhile(lambda p: scope.includes(p, charge.timing, zone), all_periods):
        for since, until in _not_billed(period, known):
            left = period_between(since, until, grid, zone)
            if scope.includes(left, charge.timing, zone) and (found := terms.period(left)):
                yield found


def _due_of_trial(
    terms: Terms, charge: Charge, known: Sequence[BilledPeriod], scope: Scope
) -> Iterator[ChargePeriod]:
    """Yield the trial as one period, where it is due and not billed."""
    start, end = terms.starts_at, terms.ends()[0]
    if end is None or start >= end or any(one.starts_at < end for one in known):
        return
    period = _trial(start, end, terms.zone)
    if scope.includes(period, charge.timing, terms.zone) and (found := terms.period(period)):
        yield found


def _trial(start: datetime, end: datetime, zone: ZoneInfo) -> Period:
    whole = (local_date(start, zone), last_date(end, zone))
    return Period(*whole, start, end, *whole)


def _not_billed(
    period: Period, known: Sequence[BilledPeriod]
) -> Iterator[tuple[datetime, datetime]]:
    """Yield what of a period no billed one covers: all, or where an end was put off, the rest."""
    at = period.starts_at
    for one in known[bisect_right(known, at, key=lambda one: one.ends_at) :]:
        if one.starts_at >= period.ends_at:
            break
        if at < one.starts_at:
            yield at, one.starts_at
        at = one.ends_at
    if at < period.ends_at:
        yield at, period.ends_at


def again(facts: Facts, stored: BilledPeriod) -> ChargePeriod:
    """Return a billed period as the terms cut it now.

    Its instants stay, and so do the versions of the book that were known when it was billed.
    """
    subscription = facts.subscriptions[stored.key[0]]
    item = next(item for item in subscription.items if item.key == stored.key[1])
    terms = Terms(facts, subscription, item, stored.key[2], stored.revision)
    grid = subscription.grid(first_charge(facts.versions(item), stored.key[2]).cadence)
    tried = terms.of_trial()
    if tried is not None and stored.starts_at < terms.starts_at:
        terms, period = tried, _trial(stored.starts_at, stored.ends_at, terms.zone)
    else:
        period = period_between(stored.starts_at, stored.ends_at, grid, terms.zone)
    found = terms.period(period, was_billed=True)
    assert found is not None  # noqa: S101 - of what was billed something void is left
    return found


def touched(
    facts: Facts,
    billed: Mapping[ChargeKey, Sequence[BilledPeriod]],
    subscriptions: Iterable[str],
    changes: Changes,
) -> list[ChargePeriod]:
    """Return the billed periods of subscriptions in which usage or its owner may have changed."""
    return [
        again(facts, period)
        for key, meters in _metered(facts, billed, subscriptions)
        for period in billed[key]
        if _is_touched(facts, facts.subscriptions[key[0]].customer, meters, period, changes)
    ]


def agreed_anew(
    facts: Facts,
    before: Facts,
    billed: Mapping[ChargeKey, Sequence[BilledPeriod]],
    subscriptions: Iterable[str],
) -> list[ChargePeriod]:
    """Return the billed periods of subscriptions that their terms cut or price differently now."""
    wanted = set(subscriptions)
    return [
        now
        for key in sorted(key for key in billed if key[0] in wanted)
        for period in billed[key]
        if _differ(now := again(facts, period), again(before, period))
    ]


def _differ(now: ChargePeriod, before: ChargePeriod) -> bool:
    return (now.pieces, now.discounts) != (before.pieces, before.discounts)


def _metered(
    facts: Facts, billed: Iterable[ChargeKey], subscriptions: Iterable[str]
) -> Iterator[tuple[ChargeKey, tuple[str, ...]]]:
    """Yield the charges of subscriptions that usage is billed by, and their meters."""
    wanted = set(subscriptions)
    for key in sorted(key for key in billed if key[0] in wanted):
        items = facts.subscriptions[key[0]].items
        item = next(item for item in items if item.key == key[1])
        if meters := first_charge(facts.versions(item), key[2]).all_meters:
            yield key, meters


def _is_touched(
    facts: Facts, customer: str, meters: Sequence[str], period: BilledPeriod, changes: Changes
) -> bool:
    start, end = period.starts_at, period.ends_at
    if any(moved < end and start < until for moved, until in changes.moved[customer]):
        return True
    return any(
        first < end and start < last
        for meter in meters
        for owned in facts.assignments.get(customer, ())
        for first, last in changes.usage[meter].get(owned.subject, ())
    )
