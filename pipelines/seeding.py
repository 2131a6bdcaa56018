"""A version of a meter whose history is not all counted yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.cut import Proposal
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
    audits: Sequence[Proposal] = ()
    """The audits that did not count it: all of the tenant's chain up to the last of them."""
    seeded_us: int | None = None
    """Windows that start before are written."""
    events_done: int = 0

    @property
    def last_audit(self) -> int:
        """The number of the last audit that did not count it, or 0."""
        return max((proposal.number for proposal in self.audits), default=0)
