"""Moves subscriptions that are pinned to a version of a price book to another, from a day on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date

from billing.backtest import Past
from billing.customer import Item, Subscription
from billing.facts import Facts
from billing.period import instant, midnight
from billing.verbs import with_version


@dataclass(frozen=True, slots=True)
class Move:
    """An item that is moved, and by which version it was priced on that day."""

    subscription: str
    customer: str
    item: str
    version: int


def moves_to(
    facts: Facts, price_book: str, version: int, on: date, of_version: int | None = None
) -> list[Move]:
    """Return the items that are pinned to another version on a day; of one version, where named.

    What follows its book, or has ended by then, stays as it is.
    """
    return [
        Move(key, subscription.customer, item.key, pinned)
        for key, subscription in sorted(facts.subscriptions.items())
        for item, pinned in _pinned(facts, subscription, price_book, on)
        if pinned != version and of_version in (None, pinned)
    ]


def _pinned(
    facts: Facts, subscription: Subscription, price_book: str, on: date
) -> Iterator[tuple[Item, int]]:
    zone = facts.zone_of(subscription)
    at, end = midnight(on, zone), subscription.end_at(zone)
    if end is not None and end <= at:
        return
    for item in subscription.items:
        has_ended = item.end is not None and instant(item.end, zone) <= at
        if item.price_book != price_book or has_ended:
            continue
        begun = [one for one in item.pins if one.start is None or instant(one.start, zone) <= at]
        pinned = (begun or list(item.pins))[-1 if begun else 0].version
        if isinstance(pinned, int):
            yield item, pinned


def moved(facts: Facts, moves: Iterable[Move], version: int, on: date) -> dict[str, Subscription]:
    """Return the terms of subscriptions whose items are priced by a version from a day on."""
    found: dict[str, Subscription] = {}
    for move in moves:
        terms = found.get(move.subscription, facts.subscriptions[move.subscription])
        zone = facts.zone_of(terms)
        found[move.subscription] = with_version(terms, move.item, version, on, zone)
    return found


def last_periods(past: Past, subscriptions: Iterable[str]) -> Past:
    """Return, of what was billed to some subscriptions, the last period of each charge."""
    return replace(
        past,
        billed={
            key: {charge: periods[-1:] for charge, periods in past.billed[key].items()}
            for key in subscriptions
            if key in past.billed
        },
    )
