"""Checks of subscriptions: what they name exists, has prices, and is billed by one of them only."""

from collections.abc import Callable, Container, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import combinations
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from billing.charge import Charge, has_price_in
from billing.customer import Customer, Item, Moment, Subscription
from billing.declaration import Declarations
from billing.facts import Facts, first_charge
from billing.override import override_faults, with_included
from billing.period import instant
from billing.yaml_text import Path

Fault = Callable[[str], None]

_UTC = ZoneInfo("UTC")


def check_subscriptions(
    declared: Declarations,
    before: Facts,
    billed: Container[str],
    after: Facts,
) -> None:
    """Note every fault of the declared subscriptions, given the facts before and after."""
    for key, subscription in declared.subscriptions.items():

        def fault(message: str, key: str = key) -> None:
            declared.fault("subscriptions", key, f"subscription {key}: {message}")

        _check_names(subscription, after, fault)
        _check_predecessor(subscription, before.subscriptions.get(key), after, fault)
        was = before.subscriptions.get(key)
        if was is not None and key in billed:
            _check_billed(subscription, was, fault)
            _check_billed_items(subscription, was, (before, after), fault)
        _check_trial(subscription, after, fault)
    _check_currencies(declared, after)
    _check_overrides(declared, after)
    _check_contests(declared, after)


def _check_names(subscription: Subscription, after: Facts, fault: Fault) -> None:
    if subscription.customer not in after.customers:
        fault(f"there is no customer {subscription.customer}")
    for item in subscription.items:
        if item.start is not None and _before(item.start, subscription.start):
            fault(f"item {item.key} starts before it")
        book = after.price_books.get(item.price_book)
        if book is None:
            fault(f"there is no price book {item.price_book}")
            continue
        known = {version.version for version in book.versions}
        for pin in item.pins:
            if pin.version != "follow" and pin.version not in known:
                fault(f"price book {book.key} has no version {pin.version}")
    _check_replaced(subscription, fault)


def _check_replaced(subscription: Subscription, fault: Fault) -> None:
    """See that an item follows one that has ended by then."""
    items = {item.key: item for item in subscription.items}
    for item in subscription.items:
        if item.replaces is None:
            continue
        old = items.get(item.replaces)
        if old is None or old.key == item.key:
            fault(f"item {item.key} replaces {item.replaces}, which is no other item of it")
        elif old.end is None or _before(item.start or subscription.start, old.end):
            fault(f"item {item.key} replaces {old.key}, which has not ended by then")


def _before(one: Moment, other: Moment) -> bool:
    return instant(one, _UTC) < instant(other, _UTC)


def _check_predecessor(
    subscription: Subscription, was: Subscription | None, after: Facts, fault: Fault
) -> None:
    name = subscription.predecessor
    if was is not None and was.predecessor != name:
        fault("its predecessor does not change")
    if name is None:
        return
    known = after.subscriptions.get(name)
    if known is None or name == subscription.key:
        fault(f"there is no subscription {name} that it could succeed")
    elif known.customer != subscription.customer:
        fault(f"its predecessor {name} is of customer {known.customer}")
    elif (end := _end_of(known)) is None or _before(subscription.start, end):
        fault(f"its predecessor {name} has not ended by {subscription.start}")


def _end_of(subscription: Subscription) -> datetime | None:
    """Return its end by the clock of no place, to compare it with days of the same customer."""
    return subscription.end_at(_UTC)


def _check_trial(subscription: Subscription, after: Facts, fault: Fault) -> None:
    """See that a trial's charges are metered, and that a customer tries a price book once."""
    if subscription.trial is None:
        return
    for key, quantity in subscription.trial.allowance.items():
        _check_allowance(key, quantity, subscription, after, fault)
    if subscription.trial.again:
        return
    books = {item.price_book for item in subscription.items}
    for other in after.subscriptions.values():
        if other.trial is None or other.trial.again:
            continue
        same = other.customer == subscription.customer and other.key != subscription.key
        tried = sorted(books & {item.price_book for item in other.items})
        if same and tried:
            fault(
                f"customer {other.customer} tries price book {tried[0]} with subscription"
                f" {other.key} already: only one with again: true may be another trial"
            )


def _check_allowance(
    key: str, quantity: Decimal, subscription: Subscription, after: Facts, fault: Fault
) -> None:
    charges = [
        charge
        for item in subscription.items
        if item.price_book in after.price_books
        for version in after.versions(item)
        if (charge := version.charge(key)) is not None
    ]
    if not charges:
        fault(f"its trial has an allowance of {key}, which no price book of its has")
    for charge in charges:
        if not _can_include(charge, quantity):
            fault(f"its trial has an allowance of {key}, of which nothing can be included")
            return


def _can_include(charge: Charge, quantity: Decimal) -> bool:
    try:
        with_included(charge, quantity)
    except ValidationError:
        return False
    return bool(charge.all_meters)


def _check_billed(subscription: Subscription, was: Subscription, fault: Fault) -> None:
    """See that what was billed keeps what its periods and lines are known by.

    All else may change, back into billed periods too: that is credited and charged.
    """
    fixed = ["customer", "anchor", "proration"]
    if was.trial is not None or was.anchor == "anniversary":
        fixed += ["start", "billed_from"]
    for name in fixed:
        if getattr(was, name) != getattr(subscription, name):
            words = "end of its trial" if name == "billed_from" else name
            fault(f"it has been billed: its {words} does not change")
    if subscription.start > was.start:
        fault(f"it has been billed: its start does not move to later than {was.start}")
    if was.trial is None and subscription.trial is not None:
        fault("it has been billed: it cannot begin with a trial any more")


def _check_billed_items(
    subscription: Subscription, was: Subscription, facts: tuple[Facts, Facts], fault: Fault
) -> None:
    known = {item.key: item for item in was.items}
    kept = {item.key for item in subscription.items}
    for key in known:
        if key not in kept:
            fault(f"item {key} has been billed: give it an end: instead of leaving it out")
    for item in subscription.items:
        before = known.get(item.key)
        if before is None and item.start is None:
            fault(f"item {item.key} is added to what has been billed: say since when with start:")
        elif before is not None:
            _check_billed_item(item, before, fault)
            if before.price_book == item.price_book:
                _check_charges_kept(item, before, facts, fault)


def _check_charges_kept(item: Item, was: Item, facts: tuple[Facts, Facts], fault: Fault) -> None:
    """See that a charge that may have been billed is in a version that an item had at any time."""
    before, after = facts
    for key in sorted(set(before.charge_keys(was)) - set(after.charge_keys(item))):
        fault(
            f"item {item.key} has been billed by charge {key}, which its versions no longer"
            " have: say with from: since when another one prices it"
        )


def _check_billed_item(item: Item, was: Item, fault: Fault) -> None:
    for name in ("price_book", "start"):
        if getattr(item, name) != getattr(was, name):
            words = name.replace("_", " ")
            fault(
                f"item {item.key} has been billed: its {words} does not change; end it, and"
                " add another one that replaces it"
            )
    known = {one.key for one in was.discounts}
    for discount in item.discounts:
        if discount.key not in known and discount.start is None:
            fault(
                f"discount {discount.key} is added to what has been billed: say since when with"
                " from:"
            )
    for key in sorted(known - {one.key for one in item.discounts}):
        fault(f"discount {key} may have been billed: end it with to: instead of leaving it out")


def _check_currencies(declared: Declarations, after: Facts) -> None:
    """See that every charge of a subscription has prices in its customer's currency."""
    for key, subscription in after.subscriptions.items():
        customer = after.customers.get(subscription.customer)
        if customer is None:
            continue
        lacking = {
            f"charge {charge.key} of price book {item.price_book} version {version.version}"
            for item in subscription.items
            if item.price_book in after.price_books
            for version in after.versions(item)
            for charge in version.charges
            for price in charge.all_prices()
            if not has_price_in(price, customer.currency, version.currency)
        }
        for name in sorted(lacking):
            message = f"subscription {key}: {name} has no price in {customer.currency}"
            _fault_of_any(declared, key, subscription, message)


def _check_overrides(declared: Declarations, after: Facts) -> None:
    """See that what is agreed instead of a book's prices is what its charges could have."""
    for key, subscription in after.subscriptions.items():
        customer = after.customers.get(subscription.customer)
        for number, item in enumerate(subscription.items):
            if not item.overrides or customer is None or item.price_book not in after.price_books:
                continue
            versions = after.versions(item)
            for at, fault in override_faults(item.overrides, versions, customer.currency):
                message = f"subscription {key}: item {item.key}: {fault}"
                place = ("items", number, "overrides", *at)
                _fault_of_any(declared, key, subscription, message, place)


def _fault_of_any(
    declared: Declarations, key: str, subscription: Subscription, message: str, at: Path = ()
) -> None:
    """Lay a fault on the declared thing that brings it about."""
    if key in declared.subscriptions:
        declared.fault("subscriptions", key, message, at)
    elif subscription.customer in declared.customers:
        declared.fault("customers", subscription.customer, message)
    else:
        for item in subscription.items:
            if item.price_book in declared.price_books:
                declared.fault("price_books", item.price_book, message)
                return


def _check_contests(declared: Declarations, after: Facts) -> None:
    """See that no usage would be billed by two subscriptions."""
    by_customer: dict[str, list[Subscription]] = {}
    for subscription in after.subscriptions.values():
        if all(item.price_book in after.price_books for item in subscription.items):
            by_customer.setdefault(subscription.customer, []).append(subscription)
    for key, own in by_customer.items():
        if key in after.customers and _has_open_subjects(after.customers[key], after):
            for one, other in combinations(own, 2):
                for meter in sorted(_contested(after, one, other)):
                    message = (
                        f"subscriptions {one.key} and {other.key} of customer {key} would both"
                        f" bill meter {meter}: name the subscription of each subject, give the"
                        " charges filters that exclude each other, or say shared: true"
                    )
                    _fault_of_any(declared, one.key, other, message)


def _has_open_subjects(customer: Customer, after: Facts) -> bool:
    """Return whether a customer has subjects that name no subscription."""
    declared = any(subject.subscription is None for subject in customer.subjects or ())
    known = after.assignments.get(customer.key, ())
    return declared or any(owned.subscription is None for owned in known)


def _contested(after: Facts, one: Subscription, other: Subscription) -> set[str]:
    for first, second in ((one, other), (other, one)):
        end = _end_of(first)
        if end is not None and end <= instant(second.start, _UTC):
            return set()
    return {
        meter
        for charge in _metered(after, one.items)
        for rival in _metered(after, other.items)
        for meter in charge.all_meters
        if meter in rival.all_meters
        and not (charge.shared or rival.shared)
        and not _exclude_each_other(charge, rival)
    }


def _exclude_each_other(charge: Charge, rival: Charge) -> bool:
    return any(
        name in rival.filter and rival.filter[name] != value
        for name, value in charge.filter.items()
    )


def _metered(after: Facts, items: Sequence[Item]) -> list[Charge]:
    return [
        charge
        for item in items
        for key in after.charge_keys(item)
        if (charge := first_charge(after.versions(item), key)).all_meters
    ]
