"""What declaring a meter makes of it: nothing new, or a version, and from when that counts.

A version counts for windows that start from its instant on, so that this must be a boundary of
the windows before and after, and no earlier than what has been billed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from billing.declaration import Declarations, Meter
from pipelines.meter import MeterDefinition

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class KnownMeter:
    """The latest version of a meter; `effective_at` of None has been in force since ever."""

    definition: MeterDefinition
    version: int = 1
    effective_at: datetime | None = None
    is_archived: bool = False


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version to be stored; `effective_at` of None is in force since ever."""

    definition: MeterDefinition
    version: int
    effective_at: datetime | None
    is_archived: bool


class EffectiveError(ValueError):
    """An instant from which no version can count; `earliest` is one from which it could."""

    def __init__(self, reason: str, earliest: datetime, *, rewrites: bool) -> None:
        super().__init__(f"{reason}; the earliest is {instant_text(earliest)}")
        self.earliest = earliest
        self.rewrites = rewrites
        """True where it would change what has been counted for a bill, or been superseded."""


def new_version(
    meter: Meter, before: KnownMeter | None, billed_until: datetime | None, now: datetime
) -> NewVersion | None:
    """Return the version that a declared meter makes, or None where it changes nothing.

    Raises:
        EffectiveError: it cannot count from the instant that is asked for.
    """
    asked = _instant(meter)
    sizes = [meter.definition.window_size]
    if before is None:
        if asked is not None and (asked - _EPOCH) % sizes[0]:
            raise EffectiveError(_not_a_boundary(asked), _boundary(asked, sizes[0]), rewrites=False)
        return NewVersion(meter.definition, 1, asked, is_archived=False)
    if before.definition == meter.definition and before.is_archived == meter.archives:
        return None
    size = max(*sizes, before.definition.window_size)
    since = before.effective_at
    if since is not None and meter.archives:
        since += size  # what is archived was in force for a window at least
    bounds = [at for at in (billed_until, since) if at is not None]
    earliest = _boundary(max(bounds), size) if bounds else None
    if asked is None:
        asked = max([_boundary(now, size), *([earliest] if earliest else [])])
    elif earliest is not None and asked < earliest:
        what = "usage until then has been billed"
        if billed_until is None or _boundary(billed_until, size) < earliest:
            what = f"version {before.version} counts from then on"
        reason = f"it cannot count from {instant_text(asked)}: {what}"
        raise EffectiveError(reason, earliest, rewrites=True)
    elif (asked - _EPOCH) % size:
        raise EffectiveError(_not_a_boundary(asked), _boundary(asked, size), rewrites=False)
    return NewVersion(meter.definition, before.version + 1, asked, is_archived=meter.archives)


def check_changes(
    declared: Declarations,
    known: Mapping[str, KnownMeter],
    billed_until: Mapping[str, datetime],
    now: datetime,
) -> dict[str, NewVersion | None]:
    """Return what becomes of each declared meter, and note every fault."""
    found: dict[str, NewVersion | None] = {}
    for key, meter in declared.meters.items():
        try:
            found[key] = new_version(meter, known.get(key), billed_until.get(key), now)
        except EffectiveError as error:
            declared.fault("meters", key, f"meter {key}: effective_at: {error}")
    return found


def instant_text(at: datetime) -> str:
    """Return an instant in UTC, as it is written in files and answers."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _not_a_boundary(asked: datetime) -> str:
    return f"{instant_text(asked)} is no boundary of its windows"


def _boundary(at: datetime, size: timedelta) -> datetime:
    """Return the first start of a window at or after an instant."""
    return at + (_EPOCH - at) % size


def _instant(meter: Meter) -> datetime | None:
    asked = meter.effective_at
    if asked is None or isinstance(asked, datetime):
        return asked
    return datetime.combine(asked, time(), UTC)
