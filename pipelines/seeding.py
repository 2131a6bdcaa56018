"""A version of a meter whose history is not all counted yet."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.fold import ActiveMeter
from pipelines.position import LogPartition


@dataclass(frozen=True, slots=True)
class Seeding:
    """What is left to count of a version, as it is written down."""

    meter: ActiveMeter
    start_us: int | None
    """Where it comes into force, in microseconds since 1970; None is since ever."""
    activated: Mapping[LogPartition, int]
    """The offset of each partition from which segments count it; all below is history."""
    seeded_us: int | None = None
    """Windows that start before are written."""
    events_done: int = 0
