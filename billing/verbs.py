"""What is done to a subscription, as terms that say so, dated by the customer's days."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TypeVar
from zoneinfo import ZoneInfo

from billing.customer import Item, Pause, Pin, SeatChange, Subscription
from billing.facts import Facts, first_charge
from billing.period import instant, local_date, midnight

_Dated = TypeVar("_Dated", SeatChange, Pin)

When = date | str
"""A day, `now` or `period_end`."""


class VerbError(Exception):
    """It cannot be done to this subscription; says why, and what can."""


def day_of(when: When, subscription: Subscription, facts: Facts, at: datetime) -> date:
    """Return the local day from which a change counts, given what time it is."""
    zone = facts.zone_of(subscription)
    if isinstance(when, date):
        return when
    today = local_date(at, zone)
    return (
        today if when == "now" else _period_end(subscription, facts, max(today, subscription.start))
    )


def _period_end(subscription: Subscription, facts: Facts, today: date) -> date:
    """Return when the longest period that a day lies in ends."""
    ends = [today]
    for item in subscription.items:
        for key in facts.charge_keys(item):
            charge = first_charge(facts.versions(item), key)
            if not charge.is_once:
                ends.append(subscription.grid(charge.cadence).whole(today)[1])
    return max(ends)


def canceled(subscription: Subscription, on: date, *, credit: bool = True) -> Subscription:
    """Return the terms of a subscription that ends with the day before; one not begun is empty."""
    if subscription.end is not None:
        raise VerbError(f"it ends on {subscription.end} already: undo that first")
    return subscription.model_copy(
        update={"end": max(on, subscription.start), "credit_unused": credit}
    )


def uncanceled(subscription: Subscription) -> Subscription:
    """Return the terms of a subscription whose planned end is taken back."""
    if subscription.end is None:
        raise VerbError("no end of it is planned")
    return subscription.model_copy(update={"end": None, "credit_unused": True})


def with_trial_until(subscription: Subscription, on: date, today: date) -> Subscription:
    """Return the terms with a trial that ends on another day; today, it converts at once."""
    trial = subscription.trial
    if trial is None or subscription.billed_from <= today:
        raise VerbError("it has no trial that goes on")
    if on < today:
        raise VerbError(f"{on} is over: its trial can end today or later")
    if on <= subscription.start:
        return subscription.model_copy(update={"trial": None})
    if on == today and trial.payment_method == "needed":
        raise VerbError("it converts with a payment method only: say that there is one first")
    then = "active" if on == today else trial.then
    changed = trial.model_copy(update={"days": None, "ends": on, "then": then})
    return subscription.model_copy(update={"trial": changed})


def with_payment_method(subscription: Subscription, today: date) -> Subscription:
    """Return the terms of a trial for which there is a payment method now."""
    trial = subscription.trial
    if trial is None or subscription.billed_from <= today:
        raise VerbError("it has no trial that goes on")
    if trial.payment_method != "needed":
        raise VerbError(f"its trial says that a payment method is {trial.payment_method}")
    changed = trial.model_copy(update={"payment_method": "given"})
    return subscription.model_copy(update={"trial": changed})


def with_seats(
    subscription: Subscription, item: str, charge: str, quantity: Decimal, on: date, zone: ZoneInfo
) -> Subscription:
    """Return the terms with a quantity of seats from a day on; of one day, the last one counts."""
    found = _item(subscription, item)
    kept: Sequence[SeatChange] = _earlier(found.quantities.get(charge, ()), on, zone)
    added = SeatChange.model_validate({"from": on.isoformat(), "quantity": str(quantity)})
    quantities = {**found.quantities, charge: (*kept, added)}
    return _with_item(subscription, found.model_copy(update={"quantities": quantities}))


def with_version(
    subscription: Subscription, item: str, version: str | int, on: date, zone: ZoneInfo
) -> Subscription:
    """Return the terms with an item priced by another version of its book from a day on."""
    found = _item(subscription, item)
    kept = _earlier(found.pins, on, zone)
    added = Pin.model_validate({"from": on.isoformat(), "version": version})
    return _with_item(subscription, found.model_copy(update={"version": (*kept, added)}))


def with_replacement(
    subscription: Subscription, item: str, by: Item, facts: Facts, on: date
) -> Subscription:
    """Return the terms with an item that ends on a day, and another one that follows it.

    Seats go on where the new book has a charge of that key.
    """
    found = _item(subscription, item)
    if found.end is not None:
        raise VerbError(f"item {item} ends on {found.end} already")
    if any(one.key == by.key for one in subscription.items):
        raise VerbError(f"there is an item {by.key}: give the new one a key of its own")
    if by.price_book not in facts.price_books:
        raise VerbError(f"there is no price book {by.price_book}")
    carried = {
        key: _from_day(changes, on, facts.zone_of(subscription))
        for key, changes in found.quantities.items()
        if key in facts.charge_keys(by)
    }
    update = {"start": on, "replaces": item, "quantities": {**carried, **by.quantities}}
    ended = _with_item(subscription, found.model_copy(update={"end": on}))
    items = (*ended.items, by.model_copy(update=update))
    return ended.model_copy(update={"items": items})


def paused(subscription: Subscription, on: date, until: date | None) -> Subscription:
    """Return the terms with a pause from a day on, until another or until it is resumed."""
    if subscription.pauses and subscription.pauses[-1].end is None:
        raise VerbError(f"it is paused from {subscription.pauses[-1].start} on already")
    added = Pause.model_validate({"from": on.isoformat(), "to": until and until.isoformat()})
    return subscription.model_copy(update={"pauses": (*subscription.pauses, added)})


def resumed(subscription: Subscription, on: date, zone: ZoneInfo) -> Subscription:
    """Return the terms with the last pause ended on a day; one that has not begun by then is none.

    A pause with an end can be ended earlier.
    """
    at = midnight(on, zone)
    if not subscription.pauses:
        raise VerbError("it is not paused")
    *before, (start, end) = subscription.paused(zone)
    if end is not None and end <= at:
        raise VerbError(f"it is not paused on {on}")
    last = subscription.pauses[-1].model_copy(update={"end": on})
    pauses = subscription.pauses[: len(before)]
    return subscription.model_copy(update={"pauses": (*pauses, last) if start < at else pauses})


def _item(subscription: Subscription, key: str) -> Item:
    found = next((one for one in subscription.items if one.key == key), None)
    if found is None:
        known = ", ".join(one.key for one in subscription.items)
        raise VerbError(f"it has no item {key}; it has {known}")
    return found


def _with_item(subscription: Subscription, item: Item) -> Subscription:
    items = tuple(item if one.key == item.key else one for one in subscription.items)
    return subscription.model_copy(update={"items": items})


def _from_day(changes: Sequence[SeatChange], on: date, zone: ZoneInfo) -> Sequence[SeatChange]:
    """Return the quantity that counts on a day, and those that follow it."""
    before = _earlier(changes, on, zone)
    now = tuple(SeatChange(quantity=one.quantity) for one in before[-1:])
    return (*now, *changes[len(before) :])


def _earlier(changes: Sequence[_Dated], on: date, zone: ZoneInfo) -> Sequence[_Dated]:
    return [
        one
        for one in changes
        if one.start is None or local_date(instant(one.start, zone), zone) < on
    ]
