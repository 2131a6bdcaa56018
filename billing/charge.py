"""The schema of a charge: a rule that turns quantities, or time, into money.

One class for all models; `billing.charge_models` says what each takes. A charge keeps its key,
cadence, timing, meters and dimensions over all versions of its price book.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from billing.charge_models import ADDITIVE, MODELS, Model, faults_of
from billing.formula import Formula
from billing.money import is_currency
from billing.period import Cadence
from billing.tiers import Tier

_AMOUNT = re.compile(r"^-?[0-9]{1,18}(\.[0-9]{1,12})?$")
_CADENCE = re.compile(r"^([1-9][0-9]?) (day|week|month|quarter|year)s?$")
_UNITS = {
    "day": Cadence(days=1),
    "week": Cadence(days=7),
    "month": Cadence(months=1),
    "quarter": Cadence(months=3),
    "year": Cadence(months=12),
}


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

Percent = Annotated[Decimal, BeforeValidator(parse_amount), Field(ge=0, le=1000)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):(00|15|30|45)$")]
"""By quarters of an hour, as windows are."""


class TierPrice(BaseModel):
    """A tier as it is written: prices may differ by currency."""

    model_config = STRICT

    up_to: Amount | None
    unit_price: Price = Decimal(0)
    flat_fee: Price = Decimal(0)


class PriceWhen(BaseModel):
    """A price of a matrix: that of usage whose dimensions have these values."""

    model_config = STRICT

    when: Mapping[MeterKey, str] = Field(min_length=1, max_length=8)
    unit_price: Price


class TimeRate(BaseModel):
    """A price of a time of day, `[from, to)` by the customer's clock; over midnight if it must."""

    model_config = STRICT

    name: MeterKey
    start: TimeOfDay = Field(alias="from")
    end: TimeOfDay = Field(alias="to")
    days: tuple[Day, ...] = Field(default=DAYS, min_length=1, max_length=7)
    """The days it begins on."""
    unit_price: Price

    @model_validator(mode="after")
    def _takes_time(self) -> Self:
        if self.start == self.end and self.start != "00:00":
            raise ValueError(f"rate {self.name} ends where it starts: the whole day is 00:00-00:00")
        return self


class Rollover(BaseModel):
    """How an allowance that is left is carried on; written as `true` it is for ever."""

    model_config = STRICT

    periods: Annotated[int, Field(ge=1, le=1200)] | None = None
    """Over how many periods, or for ever."""
    up_to: Amount | None = None
    """No more than so much is carried."""

    @model_validator(mode="before")
    @classmethod
    def _from_true(cls, data: Any) -> Any:
        return {} if data is True else data


class Charge(BaseModel):
    """One charge of one version of a price book."""

    model_config = STRICT

    key: Key
    model: Model
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
    quantity_from: Literal["item"] | None = None
    package_size: Amount | None = Field(default=None, gt=0)
    package_price: Price | None = None
    percent: Percent | None = None
    fixed_fee: Price | None = None
    """For each event."""
    event_minimum: Price | None = None
    event_maximum: Price | None = None
    per: Literal["event"] | None = None
    round_each: bool = False
    """Round what each event costs; else their sum."""
    dimensions: tuple[MeterKey, ...] = Field(default=(), max_length=8)
    prices: tuple[PriceWhen, ...] = Field(default=(), max_length=10_000)
    default: Price | None = None
    rates: tuple[TimeRate, ...] = Field(default=(), max_length=100)
    meters: Mapping[MeterKey, MeterKey] = Field(default_factory=dict, max_length=20)
    formula: Formula | None = None
    markup: Percent | None = None
    charges: tuple[Key, ...] = Field(default=(), max_length=1000)
    """What a commitment counts; all usage charges of the subscription where none is named."""
    commitment: Price | None = None
    overage: Amount | None = Field(default=None, ge=0)
    """How many times its price what is above the commitment costs."""
    included: Amount | None = Field(default=None, gt=0)
    rollover: Rollover | None = None
    minimum: Price | None = None
    maximum: Price | None = None
    prorate: bool = True
    """Whether allowance, minimum, maximum and commitment shrink with a period cut short."""
    on_change: Literal["continue", "next_period", "restart"] | None = None
    when_zero: Literal["charge", "skip"] = "charge"
    shared: bool = False
    _agreed: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = {name for name in type(self).model_fields if getattr(self, name) != _UNSET[name]}
        for fault in faults_of(self.model, given):
            raise ValueError(f"charge {self.key}: {fault}")
        if self.per is None and not given.isdisjoint(_PER_EVENT):
            names = ", ".join(sorted(given & _PER_EVENT))
            raise ValueError(f"charge {self.key}: {names} need per: event")
        if self.group_by and not given.isdisjoint(_WHOLE):
            names = ", ".join(sorted(given & _WHOLE))
            raise ValueError(f"charge {self.key}: {names} cannot be split with group_by")
        if self.rollover is not None and self.included is None:
            raise ValueError(f"charge {self.key}: rollover needs included")
        if self.on_change == "continue" and not self.can_continue:
            raise ValueError(f"charge {self.key}: its price cannot change within a period")
        dimensions = [*self.group_by, *self.dimensions, *self.filter]
        if len(set(dimensions)) != len(dimensions):
            raise ValueError(f"charge {self.key}: a dimension is named twice")
        if not _CADENCE.match(self.every):
            raise ValueError(f"charge {self.key}: every {self.every} is not like 2 weeks, 1 month")
        self._check_tiers()
        self._check_names()
        return self

    def _check_tiers(self) -> None:
        bounds = [tier.up_to for tier in self.tiers]
        if self.tiers and (bounds[-1] is not None or None in bounds[:-1]):
            raise ValueError(f"charge {self.key}: the last tier, and only it, has up_to: null")
        inner = [bound for bound in bounds if bound is not None]
        if any(low >= high for low, high in zip([Decimal(0), *inner], inner, strict=False)):
            raise ValueError(f"charge {self.key}: up_to must rise from tier to tier, from above 0")
        if self.model == "stairstep" and any(tier.unit_price for tier in self.tiers):
            raise ValueError(f"charge {self.key}: a stairstep has flat fees, no unit_price")
        if self.model == "per_seat" and (self.unit_price is None) == (not self.tiers):
            raise ValueError(f"charge {self.key}: give either unit_price or tiers")
        if self.model == "formula" and (self.unit_price is None) == (not self.tiers):
            raise ValueError(f"charge {self.key}: give either unit_price or tiers")

    def _check_names(self) -> None:
        for price in self.prices:
            if odd := sorted(set(price.when) - set(self.dimensions)):
                raise ValueError(f"charge {self.key}: {odd[0]} is none of its dimensions")
        seen = [tuple(sorted(price.when.items())) for price in self.prices]
        if len(set(seen)) != len(seen):
            raise ValueError(f"charge {self.key}: two prices are for the same values")
        rates = [rate.name for rate in self.rates]
        if len({*rates, "other"}) != len(rates) + 1:
            raise ValueError(f"charge {self.key}: each rate needs a name of its own, not other")
        if self.formula is not None and (
            odd := sorted(self.formula.names.symmetric_difference(self.meters))
        ):
            known = "is no name of its meters" if odd[0] not in self.meters else "is not used"
            raise ValueError(f"charge {self.key}: formula: {odd[0]} {known}")
        if self.model == "commitment" and self.commitment is None and self.maximum is None:
            raise ValueError(f"charge {self.key}: model commitment needs commitment or maximum")
        if self.overage is not None and self.commitment is None:
            raise ValueError(f"charge {self.key}: overage needs commitment")
        if self.key in self.charges:
            raise ValueError(f"charge {self.key}: it cannot count itself")

    @cached_property
    def agreed(self) -> tuple[str, ...]:
        """Which of its fields are not the book's, but agreed with one customer.

        Kept, since every line asks and private attributes of a model are slow.
        """
        return self._agreed

    def mark_agreed(self, fields: Iterable[str]) -> None:
        """Say which fields are agreed with one customer; before anybody asks."""
        assert "agreed" not in self.__dict__  # noqa: S101
        self._agreed = tuple(fields)

    @property
    def is_once(self) -> bool:
        """True where it is billed once, when its item starts."""
        return self.model == "one_time"

    @property
    def is_time(self) -> bool:
        """True where time is what it bills, prorated by days."""
        return self.model in ("flat", "per_seat")

    @property
    def can_continue(self) -> bool:
        """True where a new price may take effect within a period; see money.md section 4."""
        return self.model in ADDITIVE and not {
            name for name in _WHOLE if getattr(self, name) is not None
        }

    @property
    def asked_dimensions(self) -> tuple[str, ...]:
        """The dimensions of usage that its price depends on."""
        return (*self.group_by, *self.dimensions, *sorted(self.filter))

    @property
    def all_meters(self) -> tuple[str, ...]:
        """Every meter that its quantities come from."""
        return (self.meter,) if self.meter is not None else tuple(sorted(self.meters.values()))

    @property
    def cadence(self) -> Cadence:
        """How long a period of the charge is."""
        match = _CADENCE.match(self.every)
        assert match is not None  # noqa: S101 - held by the validator
        count, unit = int(match.group(1)), _UNITS[match.group(2)]
        return Cadence(count * unit.months, count * unit.days)

    @property
    def revenue_product(self) -> str:
        """The product whose revenue account the charge's lines are posted to."""
        return self.product or self.key

    @property
    def lasting(self) -> tuple[object, ...]:
        """What may not change from version to version of a price book."""
        return (
            MODELS[self.model].family,
            self.cadence,
            self.timing,
            self.meter,
            tuple(sorted(self.meters.items())),
            self.group_by,
            self.dimensions,
            tuple(sorted(self.filter.items())),
            self.per,
            self.on_change,
        )

    def all_prices(self) -> list[Price]:
        """Return every price of the charge."""
        single: list[Price | None] = [getattr(self, name) for name in PRICES]
        single += [one.unit_price for one in self.prices]
        single += [one.unit_price for one in self.rates]
        single += [price for tier in self.tiers for price in (tier.unit_price, tier.flat_fee)]
        return [price for price in single if price is not None]

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


PRICES = (
    *("amount", "unit_price", "package_price", "fixed_fee", "event_minimum", "event_maximum"),
    *("default", "commitment", "minimum", "maximum"),
)
_PER_EVENT = frozenset({"fixed_fee", "event_minimum", "event_maximum", "round_each"})
_WHOLE = frozenset({"included", "rollover", "minimum", "maximum"})
_UNSET = {
    name: field.get_default(call_default_factory=True)
    for name, field in Charge.model_fields.items()
}
