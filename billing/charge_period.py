"""A charge's period as the terms cut it: by lives of items, book versions, seats, pauses."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from itertools import pairwise, zip_longest
from zoneinfo import ZoneInfo

from msgspec import Struct

from billing.charge import Charge
from billing.customer import Item, Subscription
from billing.discount import Discount
from billing.facts import LATEST, Facts, in_force, paused_within
from billing.money import Rounding, text_of
from billing.override import priced_parts, with_included
from billing.period import Period, last_date, local_date, midnight
from billing.price_book import BookVersion

ChargeKey = tuple[str, str, str]
"""Subscription, item, charge."""


class Piece(Struct, frozen=True):
    """A part of a period under one version of the price book."""

    starts_on: date
    ends_on: date
    starts_at: datetime
    ends_at: datetime
    version: int
    charge: Charge
    first: int
    """Where it starts in the whole period, in its days or seconds."""
    last: int
    """Where it ends."""
    idle: int = 0
    """How much of it is paused."""
    quantity: Decimal | None = None
    """Of seats, where the charge has any."""
    begins: str = ""
    """What cuts it off from what is before, in words."""
    ends: str = ""

    @property
    def length(self) -> int:
        """How much of the whole period it is."""
        return self.last - self.first - self.idle


class ChargePeriod(Struct, frozen=True):
    """One period of one charge: the unit that is rated, billed once and corrected.

    Where nothing is left of one that was billed, it has one piece without length.
    """

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
    whole: int
    """How long the whole period is, in days or seconds."""
    unit: str
    """`day` or `second`."""
    pieces: tuple[Piece, ...]
    discounts: tuple[Discount, ...] = ()
    rounding: Rounding = "half_away"
    terms: int = 0
    """Which version of the subscription's terms cuts it."""

    @property
    def charge_key(self) -> ChargeKey:
        """Whose periods follow one another."""
        return (self.subscription, self.item, self.charge)

    @property
    def bill_on(self) -> date:
        """The local day it falls due."""
        return self.period.starts_on if self.timing == "advance" else self.period.ends_on

    @property
    def is_void(self) -> bool:
        """True where nothing is left of it."""
        for piece in self.pieces:  # noqa: SIM110 - asked of every period, and twice as quick
            if piece.length:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Terms:
    """What is agreed for one charge of an item, and the book versions known at a revision.

    A version that becomes known after a period was billed does not price it, unless the item is
    pinned to it.
    """

    facts: Facts
    subscription: Subscription
    item: Item
    key: str
    revision: int = LATEST
    tries: bool = False
    """Whether it is the trial that is looked at, and what was used above its allowance."""

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which its days begin."""
        return self.facts.zone_of(self.subscription)

    @property
    def starts_at(self) -> datetime:
        """The first instant that is billed."""
        subscription = self.subscription
        first = subscription.start if self.tries else subscription.billed_from
        billed_from = midnight(first, self.zone)
        if self.item.start is None:
            return billed_from
        return max(subscription.point(self.item.start, self.zone), billed_from)

    def ends(self) -> tuple[datetime | None, str]:
        """Return the instant from which it is no more, and why."""
        subscription = self.subscription
        end, why = subscription.end_at(self.zone), "the subscription ends"
        if self.tries:
            over = midnight(subscription.billed_from, self.zone)
            end = over if end is None else min(end, over)
        if self.item.end is not None:
            own = subscription.point(self.item.end, self.zone)
            if end is None or own < end:
                after = [one.key for one in subscription.items if one.replaces == self.item.key]
                return own, f"replaced by {after[0]}" if after else f"{self.item.key} ends"
        return end, why

    def of_trial(self) -> "Terms | None":
        """Return the same for the trial, where usage above an allowance is billed."""
        trial = self.subscription.trial
        if trial is None or self.key not in trial.allowance:
            return None
        return replace(self, tries=True)

    def period(self, period: Period, *, was_billed: bool = False) -> ChargePeriod | None:
        """Return a period as these terms cut it; None where nothing of it is to be billed."""
        pieces = self._pieces(period, was_billed=was_billed)
        if not pieces:
            return None
        facts, subscription, item = self.facts, self.subscription, self.item
        customer = facts.customers[subscription.customer]
        rounding = next(
            v.rounding for v in facts.price_books[item.price_book].versions
            if v.version == pieces[0].version
        )  # fmt: skip
        return ChargePeriod(
            customer=customer.key,
            subscription=subscription.key,
            item=item.key,
            charge=self.key,
            price_book=item.price_book,
            currency=customer.currency,
            timing=pieces[0].charge.timing,
            rank=_rank(facts, subscription, item, self.key),
            period=period,
            whole=self._place(period, midnight(period.whole_until, self.zone)),
            unit=subscription.proration,
            pieces=pieces,
            discounts=item.discounts,
            rounding=rounding,
            terms=facts.agreed.get(subscription.key, (0, 0))[0],
        )

    def _pieces(self, period: Period, *, was_billed: bool) -> tuple[Piece, ...]:
        parts = self._priced(period)
        if not parts:
            return (self._void(period, self._any_priced(), ""),) * was_billed
        priced = parts[0][2:]
        if priced[1].is_once:
            end, why = self.ends()
            if end is None or self.starts_at < end:
                return (self._piece(period, (period.starts_at, period.ends_at), priced),)
            return (self._void(period, priced, why),) * was_billed
        if not continues(self.facts, priced[1]):
            parts = [(parts[0][0], parts[-1][1], *priced)]
        start, end, why = self._life(period, priced[1], was_billed=was_billed)
        begins, found = self._begins(start), list[Piece]()
        for (since, until, number, charge), after in zip_longest(parts, parts[1:]):
            within = (max(since, start), min(until, end))
            if within[0] < within[1]:
                ends = why if after is None or end <= until else _edge(number, after[2])
                found += self._cut(period, within, (number, charge), (begins, ends))
                begins = ends
        return tuple(found) or (self._void(period, priced, why),) * was_billed

    def _begins(self, start: datetime) -> str:
        """Return why a period begins at an instant, where that is a change of what was agreed."""
        billed_from = midnight(self.subscription.billed_from, self.zone)
        if start != self.starts_at or start == billed_from:
            return ""
        return f"replaces {self.item.replaces}" if self.item.replaces else "added"

    def _life(
        self, period: Period, charge: Charge, *, was_billed: bool
    ) -> tuple[datetime, datetime, str]:
        """Return the part of a period in which the item lives, and what ends it."""
        end, why = self.ends()
        keeps = was_billed and not self.subscription.credit_unused and charge.timing == "advance"
        if end is None or (keeps and end == self.subscription.end_at(self.zone)):
            end, why = period.ends_at, ""
        return max(period.starts_at, self.starts_at), min(period.ends_at, end), why

    def _priced(self, period: Period) -> list[tuple[datetime, datetime, int, Charge]]:
        """Return which version of the charge is in force on which part of a period."""
        pins, zone = self.item.pins, self.zone
        starts = [
            period.starts_at if pin.start is None else self.subscription.point(pin.start, zone)
            for pin in pins
        ]
        found: list[tuple[datetime, datetime, int, Charge]] = []
        for pin, start, end in zip(pins, starts, [*starts[1:], period.ends_at], strict=True):
            since, until = max(start, period.starts_at), min(end, period.ends_at)
            if since < until:
                found += self._in_force(pin.version, since, until)
        return found

    def _in_force(
        self, pinned: str | int, since: datetime, until: datetime
    ) -> Iterator[tuple[datetime, datetime, int, Charge]]:
        book = self.facts.price_books[self.item.price_book]
        if isinstance(pinned, int):
            versions = [(since, until, v) for v in book.versions if v.version == pinned]
        else:
            versions = self._following(since, until)
        for start, end, version in versions:
            charge = version.charge(self.key)
            if charge is not None:
                bounds, day = (start, end), partial(midnight, zone=self.zone)
                for part in priced_parts(charge, self.item.overrides, bounds, day):
                    priced = self._tried(part[2]) if self.tries else part[2]
                    yield part[0], part[1], version.version, priced

    def _tried(self, charge: Charge) -> Charge:
        """Return what a charge costs in a trial: nothing up to the allowance, and no minimum."""
        trial = self.subscription.trial
        assert trial is not None  # noqa: S101 - held by of_trial
        bare = charge.model_copy(update={"minimum": None, "rollover": None, "prorate": False})
        return with_included(bare, trial.allowance[self.key])

    def _following(
        self, since: datetime, until: datetime
    ) -> list[tuple[datetime, datetime, BookVersion]]:
        zone, first, last = self.zone, local_date(since, self.zone), last_date(until, self.zone)
        known = self.facts.versions_known(self.item.price_book, self.revision)
        return [
            (max(since, midnight(start, zone)), min(until, midnight(end, zone)), version)
            for start, end, version in in_force(known, first, last)
        ]

    def _cut(
        self,
        period: Period,
        within: tuple[datetime, datetime],
        priced: tuple[int, Charge],
        edges: tuple[str, str],
    ) -> list[Piece]:
        """Cut a part where the quantity of seats changes, and where it is paused."""
        start, end = within
        pauses = paused_within(self.subscription, self.zone, start, end)
        if not priced[1].is_time:
            idle = sum(self._place(period, b) - self._place(period, a) for a, b in pauses)
            return [self._piece(period, within, priced, idle=idle)]
        marks = dict(zip(within, edges, strict=True))
        marks |= {at: "paused" for at, _ in pauses if at != start}
        marks |= {at: "resumed" for _, at in pauses if at != end}
        for since, quantity in self._seats(priced[1]):
            if start < since < end:
                marks.setdefault(since, f"{text_of(quantity)} {self.key}")
        return [
            self._piece(period, (since, until), priced, begins=marks[since], ends=marks[until])
            for since, until in pairwise(sorted(marks))
            if not any(paused <= since and until <= resumed for paused, resumed in pauses)
        ]

    def _seats(self, charge: Charge) -> list[tuple[datetime, Decimal]]:
        """Return since when there are how many seats."""
        if charge.model != "per_seat":
            return []
        return [
            (_EVER if one.start is None else self.subscription.point(one.start, self.zone),
             one.quantity)
            for one in self.item.quantities.get(self.key, ())
        ]  # fmt: skip

    def _piece(
        self,
        period: Period,
        within: tuple[datetime, datetime],
        priced: tuple[int, Charge],
        **more: object,
    ) -> Piece:
        start, end = within
        number, charge = priced
        seats = [quantity for since, quantity in self._seats(charge) if since <= start]
        return Piece(
            local_date(start, self.zone),
            last_date(end, self.zone),
            start,
            end,
            number,
            charge,
            self._place(period, start),
            self._place(period, end),
            quantity=None if charge.model != "per_seat" else (seats or [Decimal(0)])[-1],
            **more,  # type: ignore[arg-type]
        )

    def _place(self, period: Period, at: datetime) -> int:
        """Return how far into the whole period an instant is, in days or seconds."""
        if self.subscription.proration == "day":
            return (local_date(at, self.zone) - period.whole_from).days
        return int((at - midnight(period.whole_from, self.zone)).total_seconds())

    def _any_priced(self) -> tuple[int, Charge]:
        """Return the charge as its first version has it: what is void costs nothing by any."""
        found = ((v.version, v.charge(self.key)) for v in self.facts.versions(self.item))
        return next((number, charge) for number, charge in found if charge is not None)

    def _void(self, period: Period, priced: tuple[int, Charge], why: str) -> Piece:
        return self._piece(period, (period.starts_at, period.starts_at), priced, ends=why)


def _edge(before: int, after: int) -> str:
    return "agreed prices" if before == after else f"version {after}"


def continues(facts: Facts, charge: Charge) -> bool:
    """Return whether a new price takes effect within a period of the charge.

    By default where quantities of parts add up: money, and meters that count or sum.
    """
    if charge.on_change is not None:
        return charge.on_change != "next_period"
    if not charge.can_continue:
        return False
    return all(meter in facts.additive_meters for meter in charge.all_meters)


def _rank(facts: Facts, subscription: Subscription, item: Item, key: str) -> int:
    before = subscription.items[: subscription.items.index(item)]
    earlier = sum(len(facts.charge_keys(other)) for other in before)
    return earlier + facts.charge_keys(item).index(key)


_EVER = datetime.min.replace(tzinfo=UTC)
