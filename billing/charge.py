"""The schema of a charge: a rule that turns one quantity, or time, into money.

A charge keeps its key, cadence, timing, meter and dimensions over all versions of its price book;
models of later days are refused by name.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from billing.money import is_currency
from billing.tiers import Tier

MODELS = ("flat", "per_unit", "graduated")
MODELS_LATER = ("volume", "stairstep", "package", "per_seat", "percentage", "matrix")
KEYS_LATER = frozenset(
    {"included", "rollover", "minimum", "maximum", "per", "percent", "fixed_fee", "round_each"}
    | {"package_size", "package_price", "prices", "default", "dimensions", "prorate", "by"}
    | {"quantity_from", "commitment", "discounts"}
)

_AMOUNT = re.compile(r"^-?[0-9]{1,18}(\.[0-9]{1,12})?$")
_CADENCE = re.compile(r"^([1-9][0-9]?) (month|year)s?$")


def parse_amount(value: object) -> Decimal:
    """Return the decimal an amount, price or quantity was written as."""
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str) or not _AMOUNT.match(value):
        raise ValueError(f'not an amount like "12.50" (18 digits, 12 decimals): {value}')
    return Decimal(value)


def _parse_price(value: object) -> object:
    if isinstance(value, Mapping):
        for currency in value:
            if not is_currency(str(currency)):
                raise ValueError(f"not a currency: {currency}")
        return {currency: parse_amount(amount) for currency, amount in value.items()}
    return parse_amount(value)


Amount = Annotated[Decimal, BeforeValidator(parse_amount)]
Price = Annotated[Decimal | dict[str, Decimal], BeforeValidator(_parse_price)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
MeterKey = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]

STRICT = ConfigDict(extra="forbid", frozen=True)


class TierPrice(BaseModel):
    """A tier as it is written: prices may differ by currency."""

    model_config = STRICT

    up_to: Amount | None
    unit_price: Price = Decimal(0)
    flat_fee: Price = Decimal(0)


class Charge(BaseModel):
    """One charge of one version of a price book."""

    model_config = STRICT

    key: Key
    model: Literal["flat", "per_unit", "graduated"]
    every: str = "1 month"
    timing: Literal["advance", "arrears"] = "arrears"
    product: Key | None = None
    revenue: Literal["ratable"] = "ratable"
    tax_code: str = ""
    description: str = ""
    amount: Price | None = None
    meter: MeterKey | None = None
    group_by: tuple[MeterKey, ...] = Field(default=(), max_length=8)
    filter: Mapping[MeterKey, str] = Field(default_factory=dict, max_length=8)
    unit_price: Price | None = None
    tiers: tuple[TierPrice, ...] = Field(default=(), max_length=1000)
    on_change: Literal["continue", "next_period"] | None = None
    when_zero: Literal["charge", "skip"] = "charge"
    shared: bool = False

    @model_validator(mode="before")
    @classmethod
    def _is_supported(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            name = f"charge {data.get('key', '?')}"
            if data.get("model") in MODELS_LATER:
                raise ValueError(f"{name}: model {data['model']} is not supported yet")
            if later := [key for key in data if key in KEYS_LATER]:
                raise ValueError(f"{name}: {', '.join(later)} not supported yet")
            if data.get("on_change") == "restart":
                raise ValueError(f"{name}: on_change restart is not supported yet")
        return data

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        takes = {
            "flat": {"amount"},
            "per_unit": {"meter", "unit_price"},
            "graduated": {"meter", "tiers"},
        }
        for name in ("amount", "meter", "unit_price", "tiers"):
            is_given = getattr(self, name) not in (None, ())
            if is_given != (name in takes[self.model]):
                verb = "takes no" if is_given else "needs"
                raise ValueError(f"charge {self.key}: model {self.model} {verb} {name}")
        if self.model == "flat" and (self.group_by or self.filter):
            raise ValueError(f"charge {self.key}: model flat takes no group_by or filter")
        if self.model != "flat" and self.timing == "advance":
            raise ValueError(f"charge {self.key}: usage cannot be billed in advance")
        if set(self.group_by) & set(self.filter) or len(set(self.group_by)) != len(self.group_by):
            raise ValueError(f"charge {self.key}: a dimension is named twice")
        if not _CADENCE.match(self.every):
            raise ValueError(f"charge {self.key}: every {self.every} is not like 1 month, 1 year")
        self._check_tiers()
        return self

    def _check_tiers(self) -> None:
        bounds = [tier.up_to for tier in self.tiers]
        if self.tiers and (bounds[-1] is not None or None in bounds[:-1]):
            raise ValueError(f"charge {self.key}: the last tier, and only it, has up_to: null")
        inner = [bound for bound in bounds if bound is not None]
        if any(low >= high for low, high in zip([Decimal(0), *inner], inner, strict=False)):
            raise ValueError(f"charge {self.key}: up_to must rise from tier to tier, from above 0")

    @property
    def months(self) -> int:
        """How many calendar months a period of the charge has."""
        match = _CADENCE.match(self.every)
        assert match is not None  # noqa: S101 - held by the validator
        return int(match.group(1)) * (12 if match.group(2) == "year" else 1)

    @property
    def revenue_product(self) -> str:
        """The product whose revenue account the charge's lines are posted to."""
        return self.product or self.key

    @property
    def lasting(self) -> tuple[object, ...]:
        """What may not change from version to version of a price book."""
        return (
            self.months,
            self.timing,
            self.meter,
            self.group_by,
            tuple(sorted(self.filter.items())),
            self.on_change,
        )

    def prices(self) -> list[Price]:
        """Return every price of the charge."""
        single = [price for price in (self.amount, self.unit_price) if price is not None]
        return single + [price for tier in self.tiers for price in (tier.unit_price, tier.flat_fee)]

    def tiers_in(self, currency: str) -> list[Tier]:
        """Return the tiers in a currency; a price per unit is one tier without bound."""
        if self.unit_price is not None:
            return [Tier(None, price_in(self.unit_price, currency))]
        return [
            Tier(tier.up_to, price_in(tier.unit_price, currency), price_in(tier.flat_fee, currency))
            for tier in self.tiers
        ]


def price_in(price: Price, currency: str) -> Decimal:
    """Return a price in a currency; KeyError where it has none."""
    return price[currency] if isinstance(price, dict) else price


def has_price_in(price: Price, currency: str, own: str) -> bool:
    """Return whether a price of a version in currency `own` can be charged in another.

    Nothing is free in every currency.
    """
    if isinstance(price, dict):
        return currency in price
    return currency == own or price == 0
