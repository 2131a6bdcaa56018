"""Which periods of which charges a run bills, and which billed ones it looks at again."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

from billing.charge import Charge
from billing.customer import Item, Subscription, instant
from billing.discount import Discount
from billing.facts import Assignment, Facts, first_charge, in_force
from billing.money import Rounding
from billing.override import priced_parts
from billing.period import Period, midnight, periods
from pipelines.usage import ChangedUsage

_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)

SETTLE_DELAY = timedelta(hours=1)
"""How long after its end a period's usage is waited for before it is billed."""

ChargeKey = tuple[str, str, str]
"""Subscription, item, charge."""


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
class Piece:
    """A part of a period under one version of the price book."""

    starts_on: date
    ends_on: date
    starts_at: datetime
    ends_at: datetime
    version: int
    charge: Charge
    quantity: Decimal | None = None
    """Of seats, where the charge has any."""


@dataclass(frozen=True, slots=True)
class ChargePeriod:
    """One period of one charge: the unit that is rated, billed once and corrected."""

    customer: str
    subscription: str
    item: str
    charge: str
    price_book: str
    currency: str
    timing: str
    rank: int
    """Where the charge stands in its subscription, which is the order of an invoice's lines."""
    period: Period
    pieces: tuple[Piece, ...]
    discounts: tuple[Discount, ...] = ()
    rounding: Rounding = "half_away"

    @property
    def charge_key(self) -> ChargeKey:
        """Whose periods follow one another."""
        return (self.subscription, self.item, self.charge)

    @property
    def bill_on(self) -> date:
        """The local day it falls due."""
        return self.period.starts_on if self.timing == "advance" else self.period.ends_on


@dataclass(frozen=True, slots=True)
class BilledPeriod:
    """What is stored of a charge's period: where it lies and which versions price its pieces."""

    key: ChargeKey
    starts_at: datetime
    ends_at: datetime
    starts_on: date
    ends_on: date
    pieces: tuple[tuple[date, date, datetime, datetime, int], ...]


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
    known = {period.starts_at for period in billed.get((subscription.key, item.key, key), ())}
    grid = subscription.grid(charge.cadence)
    starts_on = max(item.start or subscription.start, subscription.billed_from)
    all_periods = periods(starts_on, subscription.ends_on, grid, zone)
    if charge.is_once:
        all_periods = islice(all_periods, 1)
    in_scope = takewhile(lambda period: scope.includes(period, charge.timing, zone), all_periods)
    for period in in_scope:
        pieces = _pieces(facts, subscription, item, key, period)
        if pieces and period.starts_at not in known:
            yield _charge_period(facts, subscription, item, key, period, pieces)


def _charge_period(
    facts: Facts,
    subscription: Subscription,
    item: Item,
    key: str,
    period: Period,
    pieces: tuple[Piece, ...],
) -> ChargePeriod:
    customer = facts.customers[subscription.customer]
    return ChargePeriod(
        customer=customer.key,
        subscription=subscription.key,
        item=item.key,
        charge=key,
        price_book=item.price_book,
        currency=customer.currency,
        timing=pieces[0].charge.timing,
        rank=_rank(facts, subscription, item, key),
        period=period,
        pieces=pieces,
        discounts=item.discounts,
        rounding=next(v.rounding for v in facts.versions(item) if v.version == pieces[0].version),
    )


def _rank(facts: Facts, subscription: Subscription, item: Item, key: str) -> int:
    before = subscription.items[: subscription.items.index(item)]
    earlier = sum(len(facts.charge_keys(other)) for other in before)
    return earlier + facts.charge_keys(item).index(key)


def _pieces(
    facts: Facts, subscription: Subscription, item: Item, key: str, period: Period
) -> tuple[Piece, ...]:
    """Return the parts of a period by the version that prices them.

    Where the price continues, each version has its part; else the first one prices all that
    follows.
    """
    versions = facts.versions(item)
    parts = [
        (since, until, version.version, priced)
        for starts_on, ends_on, version in in_force(
            versions, item.version != "follow", period.starts_on, period.ends_on
        )
        if (charge := version.charge(key)) is not None
        for since, until, priced in priced_parts(charge, item.overrides, (starts_on, ends_on), _on)
    ]
    if parts and not continues(facts, parts[0][3]):
        parts = [(parts[0][0], parts[-1][1], *parts[0][2:])]
    zone = facts.zone_of(subscription)
    found = []
    for starts_on, ends_on, number, charge in parts:
        for since, until, quantity in _seats(item, charge, starts_on, ends_on):
            at = (midnight(since, zone), midnight(until, zone))
            found.append(Piece(since, until, *at, number, charge, quantity))
    return tuple(found)


def _on(day: date) -> date:
    return day


def _seats(
    item: Item, charge: Charge, start: date, end: date
) -> Iterator[tuple[date, date, Decimal | None]]:
    """Yield the days from `start` until before `end`, cut where the quantity of seats changes."""
    if charge.model != "per_seat":
        yield start, end, None
        return
    changes = item.seats(charge.key)
    marks = [start, *(on for on, _ in changes if start < on < end), end]
    for since, until in pairwise(marks):
        yield since, until, next((q for on, q in reversed(changes) if on <= since), Decimal(0))


def continues(facts: Facts, charge: Charge) -> bool:
    """Return whether a new price takes effect within a period of the charge.

    By default where quantities of parts add up: money, and meters that count or sum.
    """
    if charge.on_change is not None:
        return charge.on_change != "next_period"
    if not charge.can_continue:
        return False
    return all(meter in facts.additive_meters for meter in charge.all_meters)


def again(facts: Facts, stored: BilledPeriod) -> ChargePeriod:
    """Return a billed period as it was billed: its instants, and its own book versions."""
    subscription = facts.subscriptions[stored.key[0]]
    item = next(item for item in subscription.items if item.key == stored.key[1])
    by_version = {v.version: v for v in facts.price_books[item.price_book].versions}
    pieces = []
    for starts_on, ends_on, starts_at, ends_at, number in stored.pieces:
        charge = by_version[number].charge(stored.key[2])
        assert charge is not None  # noqa: S101 - versions are immutable
        charge = next(priced_parts(charge, item.overrides, (starts_on, ends_on), _on))[2]
        seats = next(q for _, _, q in _seats(item, charge, starts_on, ends_on))
        pieces.append(Piece(starts_on, ends_on, starts_at, ends_at, number, charge, seats))
    whole = subscription.grid(pieces[0].charge.cadence).whole(stored.starts_on)
    period = Period(
        stored.starts_on,
        stored.ends_on,
        stored.starts_at,
        stored.ends_at,
        *whole,
    )
    return _charge_period(facts, subscription, item, stored.key[2], period, tuple(pieces))


def touched(
    facts: Facts,
    billed: Mapping[ChargeKey, Sequence[BilledPeriod]],
    subscriptions: Iterable[str],
    changes: Changes,
) -> list[ChargePeriod]:
    """Return the billed periods of subscriptions in which usage or its owner may have changed."""
    wanted = set(subscriptions)
    return [
        candidate
        for key in sorted(key for key in billed if key[0] in wanted)
        for period in billed[key]
        if (candidate := again(facts, period)).pieces[0].charge.all_meters
        and _is_touched(facts, candidate, changes)
    ]


def _is_touched(facts: Facts, candidate: ChargePeriod, changes: Changes) -> bool:
    start, end = candidate.period.starts_at, candidate.period.ends_at
    if any(moved < end and start < until for moved, until in changes.moved[candidate.customer]):
        return True
    return any(
        first < end and start < last
        for meter in candidate.pieces[0].charge.all_meters
        for owned in facts.assignments.get(candidate.customer, ())
        for first, last in changes.usage[meter].get(owned.subject, ())
    )
