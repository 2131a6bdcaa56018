"""Which tenants are due for their daily audit, and what is told of it.

An audit comes with a cut, so the daily one fixes a cut of its own, and one that anybody fixed for
another reason counts too. What a time of standstill has missed is one audit, made at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.progress import instant_text

ALARM_AFTER = 2
"""So many periods without an audit ask for a person."""


@dataclass(frozen=True, slots=True)
class LastAudit:
    """The last cut of a tenant; without any, the number is 0, and `at` is since when it may be."""

    tenant: str
    number: int
    at: datetime


def due(audits: Sequence[LastAudit], now: datetime, period: timedelta) -> list[LastAudit]:
    """Return the tenants to be audited now, the one that waits longest first."""
    late = [each for each in audits if now - each.at >= period]
    return sorted(late, key=lambda each: (each.at, each.tenant))


def note_of(audits: Sequence[LastAudit], copies: int) -> str:
    """Return what the status says of the last audits of all tenants, which found so many copies."""
    made = [each for each in audits if each.number]
    if not made:
        return "no audit yet"
    things = "1 copy" if copies == 1 else f"{copies:,} copies"
    of_tenants = f" in the last audits of {len(made)} tenants" if len(made) > 1 else ""
    last = instant_text(max(each.at for each in made))[:19]
    return f"last audit {last}Z, found {things}{of_tenants}"


def alarms_of(
    audits: Sequence[LastAudit], now: datetime, period: timedelta, failure: str
) -> list[str]:
    """Return an alarm per tenant that was not audited for too long, with what stood in the way."""
    return [
        f"tenant {each.tenant} was not audited since {instant_text(each.at)}: {failure}"
        for each in due(audits, now, ALARM_AFTER * period)
    ]
