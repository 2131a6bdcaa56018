"""Prices of one item that stand in for those of its price book, dated or for all time.

An override is whole: a charge with the prices put in must be one that the book could have.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise, zip_longest
from typing import Any, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from billing.charge import (
    PRICES,
    STRICT,
    Amount,
    Charge,
    Key,
    Percent,
    Price,
    PriceWhen,
    Rollover,
    TierPrice,
    TimeRate,
)
from billing.price_book import BookVersion, Date, to_content

_EITHER = frozenset({"per_seat", "formula"})
"""Models that have a unit price or tiers: the one that is given takes the other's place."""


class Override(BaseModel):
    """What a charge of an item costs instead, `[from, to)`; what is not given stays the book's.

    A plain price is in the customer's currency.
    """

    model_config = STRICT

    charge: Key
    start: Date | None = Field(default=None, alias="from")
    end: Date | None = Field(default=None, alias="to")
    amount: Price | None = None
    unit_price: Price | None = None
    tiers: tuple[TierPrice, ...] | None = Field(default=None, min_length=1, max_length=1000)
    package_size: Amount | None = Field(default=None, gt=0)
    package_price: Price | None = None
    percent: Percent | None = None
    fixed_fee: Price | None = None
    event_minimum: Price | None = None
    event_maximum: Price | None = None
    prices: tuple[PriceWhen, ...] | None = Field(default=None, max_length=10_000)
    default: Price | None = None
    rates: tuple[TimeRate, ...] | None = Field(default=None, max_length=100)
    markup: Percent | None = None
    commitment: Price | None = None
    overage: Amount | None = Field(default=None, ge=0)
    included: Amount | None = Field(default=None, gt=0)
    rollover: Rollover | None = None
    minimum: Price | None = None
    maximum: Price | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.prices_given:
            raise ValueError(f"override of charge {self.charge} gives no price")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"override of charge {self.charge} ends before it starts")
        return self

    @property
    def prices_given(self) -> dict[str, Any]:
        """The fields of a charge that it replaces, JSON-ready."""
        content = to_content(self)
        return {name: content[name] for name in content if name not in ("charge", "from", "to")}

    def all_prices(self) -> list[Price]:
        """Return every price it gives."""
        found: list[Price | None] = [getattr(self, name) for name in PRICES]
        found += [one.unit_price for one in self.prices or ()]
        found += [one.unit_price for one in self.rates or ()]
        found += [price for tier in self.tiers or () for price in (tier.unit_price, tier.flat_fee)]
        return [price for price in found if price is not None]


def overridden(charge: Charge, override: Override) -> Charge:
    """Return a charge with other prices; raises ValidationError where it cannot have them."""
    content, given = to_content(charge), override.prices_given
    if charge.model in _EITHER:
        for name, other in (("unit_price", "tiers"), ("tiers", "unit_price")):
            if name in given:
                content.pop(other, None)
    found = Charge.model_validate({**content, **given})
    found.mark_agreed(given)
    return found


def with_included(charge: Charge, quantity: Decimal) -> Charge:
    """Return a charge of which a quantity is free; raises ValidationError where none can be."""
    content = to_content(charge)
    content.pop("included", None)
    given = {"included": str(quantity)} if quantity else {}
    return Charge.model_validate({**content, **given})


_At = TypeVar("_At", date, datetime)


def priced_parts(
    charge: Charge,
    overrides: Sequence[Override],
    bounds: tuple[_At, _At],
    at: Callable[[date], _At],
) -> Iterator[tuple[_At, _At, Charge]]:
    """Yield the parts of an interval, each with the charge as it is priced there.

    `at` says where a day begins.
    """
    start, end = bounds
    own: list[tuple[_At, _At, Override]] = []
    marks: list[_At] = [start, end]
    for one in overrides:
        if one.charge == charge.key:
            first = start if one.start is None else at(one.start)
            last = end if one.end is None else at(one.end)
            own.append((first, last, one))
            marks += [mark for mark in (first, last) if start < mark < end]
    for since, until in pairwise(sorted(set(marks))):
        found = next((one for first, last, one in own if first <= since < last), None)
        yield since, until, charge if found is None else overridden(charge, found)


def override_faults(
    overrides: Sequence[Override], versions: Sequence[BookVersion], currency: str
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield where an item's overrides are wrong, and how, given the versions of its book."""
    charges = _charges_of(versions)
    for number, one in enumerate(overrides):
        what = f"override of charge {one.charge}"
        if one.charge not in charges:
            yield (number, "charge"), f"{what}, which its price book does not have"
        for since, until, charge in charges.get(one.charge, ()):
            if not _meet((one.start, one.end), (since, until)):
                continue
            try:
                overridden(charge, one)
            except ValidationError as error:
                for detail in error.errors(include_url=False):
                    message = str(detail["msg"]).removeprefix("Value error, ")
                    yield (number, *_named(one, message)), f"{what}: {_plain(message, charge)}"
        lacking = any(isinstance(p, dict) and currency not in p for p in one.all_prices())
        if lacking:
            yield (number,), f"{what} has no price in {currency}"
        if any(
            _meet((one.start, one.end), (other.start, other.end))
            for other in overrides[:number]
            if other.charge == one.charge
        ):
            yield (number,), f"{what} overlaps another of it: say until when with to:"


def _named(override: Override, message: str) -> tuple[str, ...]:
    """Return the field that a message is about, where it names one that is given."""
    words = message.replace(",", " ").split()
    return next(((name,) for name in override.prices_given if name in words), ())


def _plain(message: str, charge: Charge) -> str:
    return message.removeprefix(f"charge {charge.key}: ")


_Days = tuple[date | None, date | None]


def _meet(one: _Days, other: _Days) -> bool:
    return (one[0] is None or other[1] is None or one[0] < other[1]) and (
        other[0] is None or one[1] is None or other[0] < one[1]
    )


def _charges_of(
    versions: Sequence[BookVersion],
) -> dict[str, list[tuple[date | None, date | None, Charge]]]:
    """Return what each charge is from when to when."""
    found: dict[str, list[tuple[date | None, date | None, Charge]]] = {}
    ordered = sorted(versions, key=lambda version: version.version)
    for version, following in zip_longest(ordered, ordered[1:]):
        until = None if following is None else following.effective_from
        for charge in version.charges:
            found.setdefault(charge.key, []).append((version.effective_from, until, charge))
    return found
