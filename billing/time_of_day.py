"""Times of day by a customer's clock, as instants."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from billing.charge import DAYS

Band = tuple[str, str, str, tuple[str, ...]]
"""(name, from, to, the days it begins on)"""

OTHER = "other"
"""The name of the time in no band."""


def bands_between(
    bands: Sequence[Band], zone_name: str, start: datetime, end: datetime
) -> list[tuple[str, datetime, datetime]]:
    """Return which band is in force when, over an interval; of several that hold, the first."""
    zone = ZoneInfo(zone_name)
    first, last = start.astimezone(zone).date(), end.astimezone(zone).date()
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    times = {text for _, since, until, _ in bands for text in (since, until)}
    marks = {start, end} | {
        at for day in days for text in times if start < (at := _at(day, text, zone)) < end
    }
    found: list[tuple[str, datetime, datetime]] = []
    for since, until in pairwise(sorted(marks)):
        name = _name_at(bands, since.astimezone(zone))
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1], until)
        else:
            found.append((name, since, until))
    return found


def _at(day: date, text: str, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.fromisoformat(text), zone).astimezone(UTC)


def _name_at(bands: Sequence[Band], local: datetime) -> str:
    now = f"{local:%H:%M}"
    today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
    for name, since, until, days in bands:
        is_over_midnight = until <= since
        if today in days and since <= now and (is_over_midnight or now < until):
            return name
        if is_over_midnight and yesterday in days and now < until:
            return name
    return OTHER
