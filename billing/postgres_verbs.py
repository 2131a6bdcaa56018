"""Carries out what is done to a subscription: terms, state, history and event in one go."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from pydantic import ValidationError

from billing.customer import Item, Subscription
from billing.declaration import Declarations
from billing.facts import Facts
from billing.period import local_date
from billing.postgres_catalog import DeclarationError, apply
from billing.postgres_clock import read_clock
from billing.postgres_due_work import do_own_work
from billing.postgres_facts import Connection, next_revision
from billing.postgres_subscriptions import Cause, StaleVersionError, find_subscription
from billing.postgres_touched import load_touched, read_books
from billing.price_book import to_content
from billing.verbs import (
    VerbError,
    When,
    canceled,
    day_of,
    paused,
    resumed,
    uncanceled,
    with_payment_method,
    with_replacement,
    with_seats,
    with_trial_until,
    with_version,
)

Change = Callable[[Subscription, Facts, datetime], Subscription]
"""From the terms, the facts and the time to the new terms."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, on which connection, and what time it is in the world."""

    connection: Connection
    tenant: str
    actor: str
    world: datetime


def create(writer: Writer, subscription: Subscription, reason: str) -> dict[str, Any]:
    """Create a subscription.

    Raises:
        VerbError: there is one of that key, or its terms have faults.
    """
    with writer.connection.transaction():
        next_revision(writer.connection, writer.tenant)
        if find_subscription(writer.connection, writer.tenant, subscription.key) is not None:
            raise VerbError(f"there is a subscription {subscription.key}")
        return _write(writer, subscription, reason)


def cancel(
    writer: Writer,
    key: str,
    when: When,
    reason: str,
    expected: int | None = None,
    *,
    credit: bool = True,
) -> dict[str, Any]:
    """End a subscription now, at the end of its period or from a day on.

    What was billed in advance for the time after that is credited, unless it is said not to be.
    """

    def change(terms: Subscription, facts: Facts, at: datetime) -> Subscription:
        on = day_of(when, terms, facts, at)
        if on < local_date(at, facts.zone_of(terms)):
            raise VerbError(f"{on} is over: it can end today or later")
        return canceled(terms, on, credit=credit)

    return _change(writer, key, change, reason, expected)


def undo_cancel(
    writer: Writer, key: str, reason: str, expected: int | None = None
) -> dict[str, Any]:
    """Take back the planned end of a subscription."""
    return _change(writer, key, lambda terms, _facts, _at: uncanceled(terms), reason, expected)


def set_trial_end(
    writer: Writer,
    key: str,
    when: When | None,
    reason: str,
    expected: int | None = None,
    *,
    payment_method: bool = False,
) -> dict[str, Any]:
    """Let a trial end on another day, now at once, and say that there is a payment method."""

    def change(terms: Subscription, facts: Facts, at: datetime) -> Subscription:
        today = local_date(at, facts.zone_of(terms))
        if payment_method:
            terms = with_payment_method(terms, today)
        if when is None:
            return terms
        return with_trial_until(terms, day_of(when, terms, facts, at), today)

    return _change(writer, key, change, reason, expected)


def set_seats(
    writer: Writer, key: str, seats: Any, when: When, reason: str, expected: int | None = None
) -> dict[str, Any]:
    """Set the quantity of seats (item, charge, quantity) from a day on, also one that is over."""
    item, charge, quantity = seats

    def change(terms: Subscription, facts: Facts, at: datetime) -> Subscription:
        on = day_of(when, terms, facts, at)
        return with_seats(terms, item, charge, quantity, on, facts.zone_of(terms))

    return _change(writer, key, change, reason, expected)


def change_item(
    writer: Writer, key: str, item: str, to: Item, when: When, reason: str,
    expected: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Let an item be replaced by another one, an upgrade or a downgrade, from a day on."""

    def change(terms: Subscription, facts: Facts, at: datetime) -> Subscription:
        on = day_of(when, terms, facts, at)
        books = read_books(writer.connection, writer.tenant, {to.price_book})
        known = replace(facts, price_books={**facts.price_books, **books})
        return with_replacement(terms, item, to, known, on)

    return _change(writer, key, change, reason, expected)


def change_version(
    writer: Writer, key: str, item: str, version: str | int, when: When, reason: str,
    expected: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Price an item by another version of its book from a day on: a number, or `follow`."""

    def change(terms: Subscription, facts: Facts, at: datetime) -> Subscription:
        on = day_of(when, terms, facts, at)
        return with_version(terms, item, version, on, facts.zone_of(terms))

    return _change(writer, key, change, reason, expected)


def pause(
    writer: Writer, key: str, when: When, until: date | None, reason: str,
    expected: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Let nothing be billed, and no usage count, from a day on."""

    def change(terms: Subscription, facts: Facts, at: datetime) -> Subscription:
        return paused(terms, day_of(when, terms, facts, at), until)

    return _change(writer, key, change, reason, expected)


def resume(
    writer: Writer, key: str, when: When, reason: str, expected: int | None = None
) -> dict[str, Any]:
    """End a pause from a day on."""

    def change(terms: Subscription, facts: Facts, at: datetime) -> Subscription:
        return resumed(terms, day_of(when, terms, facts, at), facts.zone_of(terms))

    return _change(writer, key, change, reason, expected)


def _change(
    writer: Writer, key: str, change: Change, reason: str, expected: int | None
) -> dict[str, Any]:
    """Write the next terms of a subscription, from the version that the caller read.

    Raises:
        LookupError: there is no such subscription.
        StaleVersionError: it was changed since.
        VerbError: it cannot be done.
    """
    with writer.connection.transaction():
        # Nobody else changes the facts until this ends: what is read now stays.
        next_revision(writer.connection, writer.tenant)
        known = find_subscription(writer.connection, writer.tenant, key)
        if known is None:
            raise LookupError(f"there is no subscription {key}")
        if expected is not None and expected != known["version"]:
            raise StaleVersionError(key, expected, known["version"])
        if known["state"] == "canceled":
            raise VerbError("it is canceled, and stays so: begin one that succeeds it")
        terms = _terms(writer, key)
        declared = Declarations(subscriptions={key: terms})
        facts = load_touched(writer.connection, writer.tenant, declared)
        at = read_clock(writer.connection, writer.tenant, writer.world).at
        return _write(writer, change(terms, facts, at), reason)


def _terms(writer: Writer, key: str) -> Subscription:
    row = writer.connection.execute(
        "SELECT content FROM subscription_versions WHERE tenant = %s AND subscription = %s"
        " ORDER BY version DESC LIMIT 1",
        (writer.tenant, key),
    ).fetchone()
    assert row is not None  # noqa: S101 - it has a state, so it has terms
    return Subscription.model_validate(row[0])


def _write(writer: Writer, terms: Subscription, reason: str) -> dict[str, Any]:
    connection, tenant = writer.connection, writer.tenant
    try:
        checked = Subscription.model_validate(to_content(terms))
    except ValidationError as error:
        raise VerbError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error
    declared = Declarations(subscriptions={checked.key: checked})
    try:
        apply(connection, tenant, declared, writer.world, Cause(writer.actor, reason))
    except DeclarationError as error:
        faults = "; ".join(one.message for one in sorted(set(declared.faults)))
        raise VerbError(faults) from error
    do_own_work(connection, tenant, terms.key, read_clock(connection, tenant, writer.world).at)
    found = find_subscription(connection, tenant, terms.key)
    assert found is not None  # noqa: S101 - it was just written
    return found
