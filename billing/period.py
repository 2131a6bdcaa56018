"""Periods of a cadence: whole calendar months in the customer's zone, as contiguous instants."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Period:
    """`[starts_at, ends_at)`, the same as local dates, and the whole period it is (a stub of)."""

    starts_on: date
    ends_on: date
    starts_at: datetime
    ends_at: datetime
    whole_from: date
    whole_until: date

    def __post_init__(self) -> None:
        assert self.starts_at < self.ends_at  # noqa: S101
        assert self.whole_from <= self.starts_on < self.ends_on <= self.whole_until  # noqa: S101


def midnight(on: date, zone: ZoneInfo) -> datetime:
    """Return the instant a local day starts, in UTC.

    Where the clock jumps over midnight that is the jump; where midnight comes twice, the first.
    """
    return datetime.combine(on, time(), zone).astimezone(UTC)


def local_date(at: datetime, zone: ZoneInfo) -> date:
    """Return the local day an instant lies in."""
    return at.astimezone(zone).date()


def add_months(month: date, count: int) -> date:
    """Return the first day of the month `count` months after that of a date."""
    index = month.year * 12 + month.month - 1 + count
    return date(index // 12, index % 12 + 1, 1)


def whole_period(on: date, months: int) -> date:
    """Return the first day of the whole calendar period of `months` that a day lies in."""
    return add_months(on, -((on.year * 12 + on.month - 1) % months))


def periods(start_on: date, end_on: date | None, months: int, zone: ZoneInfo) -> Iterator[Period]:
    """Yield the periods of `months` calendar months from a start, without end where none is given.

    Boundaries lie on the calendar (a quarter starts in January, April, July, October); the first
    and last period may be stubs.
    """
    whole_from = whole_period(start_on, months)
    at = start_on
    while end_on is None or at < end_on:
        whole_until = add_months(whole_from, months)
        until = whole_until if end_on is None else min(whole_until, end_on)
        yield Period(at, until, midnight(at, zone), midnight(until, zone), whole_from, whole_until)
        at, whole_from = until, whole_until


def month_of(text: str) -> date:
    """Return the first day of a month written as `2013-01`; raises ValueError."""
    day = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    if f"{day:%Y-%m}" != text:
        raise ValueError(f"not a month like 2013-01: {text}")
    return day


def last_day(month: date) -> date:
    """Return the last day of a month."""
    return add_months(month, 1) - timedelta(days=1)
