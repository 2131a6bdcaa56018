"""Customers, the subjects whose usage they pay for, and their subscriptions, as declared."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from billing.charge import STRICT, Amount, Key
from billing.discount import Discount
from billing.override import Override
from billing.period import CALENDAR_MONTHS, Cadence, Grid, calendar, instant, local_date, midnight
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
    """How many seats there are from a moment on."""

    model_config = STRICT

    start: Moment | None = Field(default=None, alias="from")
    quantity: Amount = Field(ge=0)


class Pin(BaseModel):
    """By which version of the book there are prices from a moment on."""

    model_config = STRICT

    start: Moment | None = Field(default=None, alias="from")
    version: Literal["follow"] | int


class Pause(BaseModel):
    """When nothing is billed, and usage does not count."""

    model_config = STRICT

    start: Moment = Field(alias="from")
    end: Moment | None = Field(default=None, alias="to")
    """None until it is resumed."""


class Item(BaseModel):
    """One price book of a subscription."""

    model_config = STRICT

    key: Key
    price_book: Key
    version: Literal["follow"] | int | tuple[Pin, ...] = "follow"
    """Which version prices it: those in force, one for ever, or others from moments on."""
    start: Moment | None = None
    """The subscription's where it is not given."""
    end: Moment | None = None
    """From when on it is no more; None with the subscription."""
    replaces: Key | None = None
    """The item that it follows: an upgrade or a downgrade."""

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
            _check_order(f"item {self.key}: quantities of {key}", changes)
        if isinstance(self.version, tuple):
            _check_order(f"item {self.key}: its versions", self.version)
        for key, count in Counter(one.key for one in self.discounts).items():
            if count > 1:
                raise ValueError(f"item {self.key}: discount {key} is given {count} times")
        return self

    @property
    def pins(self) -> tuple[Pin, ...]:
        """Which version prices it from when on."""
        if isinstance(self.version, tuple):
            return self.version
        return (Pin(version=self.version),)


def _check_order(what: str, changes: Sequence[SeatChange | Pin]) -> None:
    if not changes:
        raise ValueError(f"{what}: give at least one")
    if any(one.start is None for one in changes[1:]):
        raise ValueError(f"{what}: only the first has no from")
    starts = [instant(one.start, _UTC) for one in changes if one.start is not None]
    if sorted(set(starts)) != starts:
        raise ValueError(f"{what} are not in order of time")


_UTC = ZoneInfo("UTC")


class Trial(BaseModel):
    """Days at the start for which nothing is billed, and what follows them."""

    model_config = STRICT

    days: int | None = Field(default=None, ge=1, le=3660)
    ends: Date | None = None
    """The first day after it."""
    then: Literal["active", "past_due", "canceled"] = "active"
    payment_method: Literal["not_needed", "needed", "given"] = "not_needed"
    """Whether `then` follows only with a payment method, and whether there is one by now."""
    without: Literal["past_due", "canceled"] = "past_due"
    """What follows it where a payment method is needed and none was given."""
    remind_days: tuple[Annotated[int, Field(ge=0, le=3660)], ...] = Field((), max_length=10)
    """How many days before its end an event reminds of it."""
    again: bool = False
    """Whether it may be another one of the same customer and price book."""
    allowance: Mapping[Key, Annotated[Amount, Field(ge=0)]] = Field(
        default_factory=dict, max_length=100
    )
    """How much usage is free in it, by charge; more is billed at its end. Of others, all is."""

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if (self.days is None) == (self.ends is None):
            raise ValueError("a trial has either days, or the day it ends")
        return self

    @property
    def outcome(self) -> Literal["active", "past_due", "canceled"]:
        """What follows it, as things stand."""
        return self.without if self.payment_method == "needed" else self.then


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
    end: Moment | None = None
    """From when on it is no more."""
    credit_unused: bool = True
    """Whether what was billed in advance for the time after its end is credited."""
    anchor: Anchor = "calendar"
    """Where whole periods begin: on the calendar, with the subscription's start, on a day of the
    month (weeks and days then lie on the calendar), or counted from a date."""

    trial: Trial | None = None
    predecessor: Key | None = None
    """The one of the same customer that it follows, which has ended."""
    proration: Literal["day", "second"] = "day"
    """What a part of a period is measured by; a moment counts from the start of its day by day."""
    pauses: tuple[Pause, ...] = Field(default=(), max_length=1000)
    items: tuple[Item, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        # One that ends as it starts was canceled before it began, and is never billed.
        if self.trial is not None and self.billed_from <= self.start:
            raise ValueError(f"subscription {self.key}: its trial ends before it starts")
        if self.end is not None and instant(self.end, _UTC) < instant(self.start, _UTC):
            raise ValueError(f"subscription {self.key}: ends before it starts")
        self._check_pauses()
        for key, count in Counter(item.key for item in self.items).items():
            if count > 1:
                raise ValueError(f"subscription {self.key}: item {key} is given {count} times")
        return self

    def _check_pauses(self) -> None:
        ends: list[Moment | None] = [self.billed_from]
        for pause in self.pauses:
            last = ends[-1]
            if last is None or instant(pause.start, _UTC) < instant(last, _UTC):
                raise ValueError(
                    f"subscription {self.key}: pause from {pause.start} begins before what is"
                    " billed, or before the pause that precedes it ends"
                )
            if pause.end is not None and instant(pause.end, _UTC) <= instant(pause.start, _UTC):
                raise ValueError(f"subscription {self.key}: pause from {pause.start} is empty")
            ends.append(pause.end)

    @property
    def billed_from(self) -> date:
        """The first day that is billed: that after a trial."""
        if self.trial is None:
            return self.start
        return self.trial.ends or self.start + timedelta(days=self.trial.days or 0)

    def point(self, moment: Moment, zone: ZoneInfo) -> datetime:
        """Return the instant from which a change counts: by day, the start of its local day."""
        if self.proration == "day" and isinstance(moment, datetime):
            return midnight(local_date(moment, zone), zone)
        return instant(moment, zone)

    def end_at(self, zone: ZoneInfo) -> datetime | None:
        """Return the instant from which it is no more: of a trial that leads to nothing, its end.

        One that ends as it starts was canceled before it began, and is never billed.
        """
        end = None if self.end is None else self.point(self.end, zone)
        if self.trial is not None and self.trial.outcome == "canceled":
            lapse = midnight(self.billed_from, zone)
            return lapse if end is None else min(end, lapse)
        return end

    def paused(self, zone: ZoneInfo) -> list[tuple[datetime, datetime | None]]:
        """Return when it is paused, in order."""
        return [
            (self.point(one.start, zone), None if one.end is None else self.point(one.end, zone))
            for one in self.pauses
        ]

    def grid(self, cadence: Cadence) -> Grid:
        """Return where whole periods of a cadence begin."""
        if self.anchor == "anniversary":
            return Grid(cadence, self.billed_from)
        if isinstance(self.anchor, date):
            return Grid(cadence, self.anchor)
        if isinstance(self.anchor, int) and cadence.months:
            return Grid(cadence, CALENDAR_MONTHS.replace(day=self.anchor))
        return calendar(cadence)
