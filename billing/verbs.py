"""What is done to a subscription, as terms that say so, dated by the customer's days."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from billing.customer import SeatChange, Subscription
from billing.facts import Facts, first_charge
from billing.period import local_date

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


def canceled(subscription: Subscription, on: date) -> Subscription:
    """Return the terms of a subscription that ends with the day before; one not begun is empty."""
    if subscription.end is not None:
        raise VerbError(f"it ends on {subscription.end} already: undo that first")
    return subscription.model_copy(update={"end": max(on, subscription.start)})


def uncanceled(subscription: Subscription) -> Subscription:
    """Return the terms of a subscription whose planned end is taken back."""
    if subscription.end is None:
        raise VerbError("no end of it is planned")
    return subscription.model_copy(update={"end": None})


def with_trial_until(subscription: Subscription, on: date, today: date) -> Subscription:
    """Return the terms with a trial that ends on another day; today, it converts at once."""
    trial = subscription.trial
    if trial is None or subscription.billed_from <= today:
        raise VerbError("it has no trial that goes on")
    if on < today:
        raise VerbError(f"{on} is over: its trial can end today or later")
    if on <= subscription.start:
        return subscription.model_copy(update={"trial": None})
    then = "active" if on == today else trial.then
    changed = trial.model_copy(update={"days": None, "ends": on, "then": then})
    return subscription.model_copy(update={"trial": changed})


def with_seats(
    subscription: Subscription, item: str, charge: str, quantity: Decimal, on: date
) -> Subscription:
    """Return the terms with a quantity of seats from a day on; of one day, the last one counts."""
    found = next((one for one in subscription.items if one.key == item), None)
    if found is None:
        raise VerbError(f"it has no item {item}")
    kept: Sequence[SeatChange] = [
        one for one in found.quantities.get(charge, ()) if one.start is None or one.start < on
    ]
    added = SeatChange.model_validate({"from": on.isoformat(), "quantity": str(quantity)})
    quantities = {**found.quantities, charge: (*kept, added)}
    changed = found.model_copy(update={"quantities": quantities})
    items = tuple(changed if one.key == item else one for one in subscription.items)
    return subscription.model_copy(update={"items": items})
