"""Charges written as in a price book."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from billing.charge import Charge
from billing.due import Scope, due
from billing.money import to_major
from billing.pricing import Dimensions
from billing.rating import PeriodInputs, Target, rate
from tests.unit.billing.world import METERS, declare, facts_of

Quantities = Mapping[Dimensions, Decimal]


def charge_of(fields: str, key: str = "a") -> Charge:
    """Return a charge with these fields; it must have no faults."""
    version = f"{{version: 1, currency: USD, charges: [{{key: {key}, {fields}}}]}}"
    text = f"price_books: [{{key: b, versions: [{version}]}}]"
    declared = declare(text)
    assert not declared.faults, [str(fault) for fault in declared.faults]
    return declared.price_books["b"].versions[0].charges[0]


def rated(
    charge: str,
    *quantities: Mapping[Any, Decimal],
    currency: str = "USD",
    start: str = "2013-01-01",
    item: str = "",
    state: Mapping[str, str] | None = None,
    rounding: str = "half_away",
) -> tuple[list[Target], Mapping[str, str]]:
    """Rate January of a charge; returns the targets and the state that February starts from."""
    book = f"""
price_books: [{{key: book, versions: [
  {{version: 1, currency: {currency}, rounding: {rounding}, charges: [{charge}]}}]}}]
customers: [{{key: C, name: C, currency: {currency}, time_zone: Europe/Paris, subjects: [s]}}]
subscriptions:
- {{key: S, customer: C, start: {start}, items: [{{key: i, price_book: book{item}}}]}}
"""
    found = due(facts_of(METERS, book), {}, Scope("close", date(2013, 2, 1)))
    targets, after = rate(PeriodInputs(found[0], "", quantities or ({},)), state or {})
    for target in targets:
        total = sum(Fraction(step["amount"]) for step in target.trace)
        assert total == Fraction(to_major(target.amount_minor, currency))
    return targets, after
