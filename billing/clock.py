"""The time by which a tenant lives: the world's, or its own, which moves only when told to."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from billing.period import add_months, last_day

_SPAN = re.compile(r"([1-9][0-9]{0,4}) (second|minute|hour|day|week|month|year)s?")
_MONTHS = {"month": 1, "year": 12}


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is for a tenant."""

    at: datetime
    is_virtual: bool = False
    """True where only `advance` moves it."""


def later(at: datetime, span: str) -> datetime:
    """Return an instant that lies a span such as `1 month` or `36 hours` later, in UTC.

    A month from the 31st ends on the last day of a shorter month.

    Raises:
        ValueError: not a span, or beyond the years there are.
    """
    match = _SPAN.fullmatch(span.strip())
    if match is None:
        raise ValueError(f"not a span like 1 month, 30 days or 36 hours: {span}")
    count, unit = int(match[1]), match[2]
    try:
        if unit in _MONTHS:
            month = add_months(at.date(), count * _MONTHS[unit])
            day = min(at.day, last_day(month).day)
            return at.replace(year=month.year, month=month.month, day=day)
        return at + timedelta(**{f"{unit}s": count})
    except (OverflowError, ValueError) as error:
        raise ValueError(f"too far: {span}") from error
