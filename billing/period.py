"""Periods of a cadence, from an anchor, in the customer's zone, as contiguous instants."""

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


def instant(moment: datetime | date, zone: ZoneInfo) -> datetime:
    """Return an instant as it is, and a date as its midnight in the zone."""
    return moment if isinstance(moment, datetime) else midnight(moment, zone)


def local_date(at: datetime, zone: ZoneInfo) -> date:
    """Return the local day an instant lies in."""
    return at.astimezone(zone).date()


def add_months(month: date, count: int) -> date:
    """Return the first day of the month `count` months after that of a date."""
    index = month.year * 12 + month.month - 1 + count
    return date(index // 12, index % 12 + 1, 1)


def whole_month(on: date) -> date:
    """Return the first day of the month a day lies in."""
    return on.replace(day=1)


@dataclass(frozen=True, slots=True)
class Cadence:
    """How long a period is: so many calendar months, or so many days."""

    months: int = 0
    days: int = 0

    def __post_init__(self) -> None:
        assert (self.months > 0) != (self.days > 0)  # noqa: S101


CALENDAR_MONTHS = date(2000, 1, 1)
CALENDAR_DAYS = date(2001, 1, 1)
"""A Monday, on which weeks begin."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where whole periods begin: every cadence before and after an anchor.

    A month too short for the anchor's day begins its period on its last day, and the next one goes
    back to the anchor's day: 31 January, 28 February, 31 March.
    """

    cadence: Cadence
    anchor_on: date

    def boundary(self, number: int) -> date:
        """Return the day the period of a number begins; that at the anchor is 0."""
        if self.cadence.days:
            return self.anchor_on + timedelta(days=number * self.cadence.days)
        month = add_months(self.anchor_on, number * self.cadence.months)
        return month.replace(day=min(self.anchor_on.day, last_day(month).day))

    def number(self, on: date) -> int:
        """Return the number of the whole period a day lies in."""
        if self.cadence.days:
            return (on - self.anchor_on).days // self.cadence.days
        months = 12 * (on.year - self.anchor_on.year) + on.month - self.anchor_on.month
        number = months // self.cadence.months
        return number if self.boundary(number) <= on else number - 1

    def whole(self, on: date) -> tuple[date, date]:
        """Return the whole period a day lies in, `[from, until)`."""
        number = self.number(on)
        return self.boundary(number), self.boundary(number + 1)


def calendar(cadence: Cadence) -> Grid:
    """Return the grid of the calendar: weeks from Monday, quarters from January."""
    return Grid(cadence, CALENDAR_DAYS if cadence.days else CALENDAR_MONTHS)


def period_between(start: datetime, end: datetime, grid: Grid, zone: ZoneInfo) -> Period:
    """Return a period of two instants that lie in one whole period of a grid."""
    starts_on = local_date(start, zone)
    return Period(starts_on, last_date(end, zone), start, end, *grid.whole(starts_on))


def last_date(end: datetime, zone: ZoneInfo) -> date:
    """Return the first local day of which nothing lies before an instant."""
    on = local_date(end, zone)
    return on if midnight(on, zone) == end else on + timedelta(days=1)


def periods(
    start: datetime | date, end: datetime | date | None, grid: Grid, zone: ZoneInfo
) -> Iterator[Period]:
    """Yield the periods of a grid from a start, without end where none is given.

    The first and last period may be stubs.
    """
    at, last = instant(start, zone), None if end is None else instant(end, zone)
    while last is None or at < last:
        _, whole_until = grid.whole(local_date(at, zone))
        until = midnight(whole_until, zone)
        until = until if last is None else min(until, last)
        yield period_between(at, until, grid, zone)
        at = until


def month_of(text: str) -> date:
    """Return the first day of a month written as `2013-01`; raises ValueError."""
    day = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    if f"{day:%Y-%m}" != text:
        raise ValueError(f"not a month like 2013-01: {text}")
    return day


def last_day(month: date) -> date:
    """Return the last day of a month."""
    return add_months(month, 1) - timedelta(days=1)
