"""Customers, the subjects whose usage they pay for, and their subscriptions, as declared."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from billing.charge import STRICT, Amount, Key
from billing.discount import Discount
from billing.override import Override
from billing.period import CALENDAR_MONTHS, Cadence, Grid, calendar, midnight
from billing.price_book import Currency, Date


def _known_zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"not a time zone like America/New_York: {name}") from error


def parse_moment(text: str) -> datetime | date:
    """Return an instant written with its offset, or a date like 2013-01-31; raises ValueError."""
    if len(text) == len("2013-01-31"):
        return date.fromisoformat(text)
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"an instant needs its offset, like 2013-01-31T12:00:00Z: {text}")
    return at.astimezone(UTC)


def _parse_moment(value: object) -> object:
    return parse_moment(value) if isinstance(value, str) else value


Moment = Annotated[datetime | date, BeforeValidator(_parse_moment)]


def instant(moment: datetime | date, zone: ZoneInfo) -> datetime:
    """Return an instant as it is, and a date as its midnight in the zone."""
    return moment if isinstance(moment, datetime) else midnight(moment, zone)


class Subject(BaseModel):
    """A subject and since when, until when and on which subscription it is paid for."""

    model_config = STRICT

    key: str = Field(min_length=1, max_length=1024)
    start: Moment | None = Field(default=None, alias="from")
    end: Moment | None = Field(default=None, alias="to")
    subscription: Key | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return {"key": data} if isinstance(data, str) else data


class Customer(BaseModel):
    """Who pays."""

    model_config = STRICT

    key: Key
    name: str = Field(min_length=1, max_length=512)
    legal_entity: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")] = "main"
    currency: Currency
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    payment_terms_days: int = Field(default=30, ge=0, le=3650)
    subjects: tuple[Subject, ...] | None = Field(default=None, max_length=1_000_000)
    """All of its subjects; where they are not given, they stay as they are."""

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which the customer's days and months begin."""
        return ZoneInfo(self.time_zone)


class SeatChange(BaseModel):
    """How many seats there are from a day on."""

    model_config = STRICT

    start: Date | None = Field(default=None, alias="from")
    quantity: Amount = Field(ge=0)


class Item(BaseModel):
    """One price book of a subscription."""

    model_config = STRICT

    key: Key
    price_book: Key
    version: Literal["follow"] | int = "follow"
    start: Date | None = None
    """The subscription's where it is not given."""

    quantities: Mapping[Key, tuple[SeatChange, ...]] = Field(default_factory=dict)
    """Seats by charge; a plain quantity is since the item's start."""
    discounts: tuple[Discount, ...] = Field(default=(), max_length=100)
    overrides: tuple[Override, ...] = Field(default=(), max_length=1000)

    @model_validator(mode="before")
    @classmethod
    def _read_quantities(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("quantities"), Mapping):
            plain = {
                key: [{"quantity": one}] if isinstance(one, str) else one
                for key, one in data["quantities"].items()
            }
            return {**data, "quantities": plain}
        return data

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        for key, changes in self.quantities.items():
            if any(one.start is None for one in changes[1:]):
                raise ValueError(f"item {self.key}: quantity of {key}: only the first has no from")
            days = [one.start for one in changes if one.start is not None]
            if sorted(set(days)) != days:
                raise ValueError(f"item {self.key}: quantities of {key} are not in order of time")
        for key, count in Counter(one.key for one in self.discounts).items():
            if count > 1:
                raise ValueError(f"item {self.key}: discount {key} is given {count} times")
        return self

    def seats(self, charge: str) -> list[tuple[date, Decimal]]:
        """Return since when there are how many seats of a charge."""
        return [(one.start or date.min, one.quantity) for one in self.quantities.get(charge, ())]


class Trial(BaseModel):
    """Days at the start for which nothing is billed, and what follows them."""

    model_config = STRICT

    days: int | None = Field(default=None, ge=1, le=3660)
    ends: Date | None = None
    """The first day after it."""
    then: Literal["active", "past_due", "canceled"] = "active"
    remind_days: tuple[Annotated[int, Field(ge=0, le=3660)], ...] = Field((), max_length=10)
    """How many days before its end an event reminds of it."""
    again: bool = False
    """Whether it may be another one of the same customer and price book."""

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if (self.days is None) == (self.ends is None):
            raise ValueError("a trial has either days, or the day it ends")
        return self


_MONTH_DAYS = frozenset(str(day) for day in range(1, 32))


def _parse_anchor(value: object) -> object:
    if value in ("calendar", "anniversary"):
        return value
    if str(value) in _MONTH_DAYS:
        return int(str(value))
    try:
        return value if isinstance(value, date) else date.fromisoformat(str(value))
    except ValueError as error:
        known = "calendar, anniversary, a day from 1 to 31 or a date"
        raise ValueError(f"not {known}: {value}") from error


Anchor = Annotated[Literal["calendar", "anniversary"] | int | date, BeforeValidator(_parse_anchor)]


class Subscription(BaseModel):
    """A customer's agreement: which price books, since when, until when."""

    model_config = STRICT

    key: Key
    customer: Key
    start: Date
    end: Date | None = None
    anchor: Anchor = "calendar"
    """Where whole periods begin: on the calendar, with the subscription's start, on a day of the
    month (weeks and days then lie on the calendar), or counted from a date."""

    trial: Trial | None = None
    predecessor: Key | None = None
    """The one of the same customer that it follows, which has ended."""
    items: tuple[Item, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        # One that ends as it starts was canceled before it began, and is never billed.
        if self.trial is not None and self.billed_from <= self.start:
            raise ValueError(f"subscription {self.key}: its trial ends before it starts")
        if self.end is not None and self.end < self.start:
            raise ValueError(f"subscription {self.key}: ends before it starts")
        for key, count in Counter(item.key for item in self.items).items():
            if count > 1:
                raise ValueError(f"subscription {self.key}: item {key} is given {count} times")
        return self

    @property
    def billed_from(self) -> date:
        """The first day that is billed: that after a trial."""
        if self.trial is None:
            return self.start
        return self.trial.ends or self.start + timedelta(days=self.trial.days or 0)

    @property
    def ends_on(self) -> date | None:
        """The day from which it is no more: of a trial that leads to nothing, its end."""
        if self.trial is not None and self.trial.then == "canceled":
            return self.billed_from if self.end is None else min(self.end, self.billed_from)
        return self.end

    def grid(self, cadence: Cadence) -> Grid:
        """Return where whole periods of a cadence begin."""
        if self.anchor == "anniversary":
            return Grid(cadence, self.billed_from)
        if isinstance(self.anchor, date):
            return Grid(cadence, self.anchor)
        if isinstance(self.anchor, int) and cadence.months:
            return Grid(cadence, CALENDAR_MONTHS.replace(day=self.anchor))
        return calendar(cadence)
