"""What is known as of a revision: price books, customers, subscriptions and who owns a subject."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

from billing.charge import Charge
from billing.customer import Customer, Item, Subscription
from billing.period import midnight
from billing.price_book import BookVersion, PriceBook
from pipelines.usage import Span

LATEST = 2**62
"""A revision of the facts that none comes after."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A subject's usage in `[start, end)` is paid for by a customer; None is without bound."""

    subject: str
    customer: str
    subscription: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    known_revision: int = 0
    withdrawn_revision: int | None = None

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Return whether any of `[start, end)` is covered."""
        return (self.start is None or self.start < end) and (self.end is None or start < self.end)


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts at a revision, by key; assignments by customer, those in force then."""

    revision: int
    price_books: Mapping[str, PriceBook] = field(default_factory=dict)
    customers: Mapping[str, Customer] = field(default_factory=dict)
    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    assignments: Mapping[str, Sequence[Assignment]] = field(default_factory=dict)
    additive_meters: frozenset[str] = frozenset()
    units: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """The revision with which a version of a book became known; 0 where it does not matter."""
    agreed: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of a subscription's terms: which version they are, and the revision that brought them."""

    def zone_of(self, subscription: Subscription) -> ZoneInfo:
        """Return the zone in which a subscription's periods lie."""
        return self.customers[subscription.customer].zone

    def versions(self, item: Item) -> list[BookVersion]:
        """Return the book versions an item may be priced by, in the order they take effect."""
        book = self.price_books[item.price_book]
        ordered = sorted(book.versions, key=lambda version: version.version)
        pinned = {pin.version for pin in item.pins}
        if "follow" in pinned:
            return ordered
        return [version for version in ordered if version.version in pinned]

    def versions_known(self, book: str, revision: int) -> list[BookVersion]:
        """Return the versions of a book that were known at a revision, in their order."""
        return [
            version
            for version in sorted(self.price_books[book].versions, key=lambda one: one.version)
            if self.published.get((book, version.version), 0) <= revision
        ]

    def charge_keys(self, item: Item) -> list[str]:
        """Return the keys of all charges of an item, in the order of the book."""
        keys = {charge.key: None for version in self.versions(item) for charge in version.charges}
        return list(keys)


def first_charge(versions: Sequence[BookVersion], key: str) -> Charge:
    """Return a charge as the first version that has it says; what lasts is the same in all."""
    return next(charge for version in versions if (charge := version.charge(key)) is not None)


def in_force(
    versions: Sequence[BookVersion], start: date, end: date
) -> Iterator[tuple[date, date, BookVersion]]:
    """Yield which version is in force on the days from `start` until before `end`.

    Days before the first version took effect have none.
    """
    for index, version in enumerate(versions):
        begins = start if version.effective_from is None else version.effective_from
        until = end
        if index + 1 < len(versions):
            next_from = versions[index + 1].effective_from
            until = end if next_from is None else min(end, next_from)
        if max(start, begins) < until:
            yield max(start, begins), until, version


def spans(facts: Facts, subscription: Subscription, start: datetime, end: datetime) -> list[Span]:
    """Return whose usage in `[start, end)` counts for a subscription.

    A customer's assignment that names no subscription counts for each that bills the meter; apply
    sees to it that this is one, unless the charge is shared.
    """
    zone = facts.zone_of(subscription)
    ends_at = subscription.end_at(zone)
    lower = max(start, midnight(subscription.start, zone))
    upper = end if ends_at is None else min(end, ends_at)
    return [
        Span(
            subscription.key,
            owned.subject,
            since if owned.start is None else max(since, owned.start),
            until if owned.end is None else min(until, owned.end),
        )
        for since, until in _between(paused_within(subscription, zone, lower, upper), lower, upper)
        for owned in facts.assignments.get(subscription.customer, ())
        if owned.subscription in (None, subscription.key) and owned.overlaps(since, until)
    ]


def paused_within(
    subscription: Subscription, zone: ZoneInfo, start: datetime, end: datetime
) -> list[tuple[datetime, datetime]]:
    """Return the parts of an interval in which a subscription is paused, in order."""
    return [
        (max(since, start), end if until is None else min(until, end))
        for since, until in subscription.paused(zone)
        if since < end and (until is None or start < until)
    ]


def _between(
    pauses: Iterable[tuple[datetime, datetime]], start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    for since, until in pauses:
        if start < since:
            yield start, since
        start = until
    if start < end:
        yield start, end
