"""Cuts laid over the log: which segments count whole, and which one is cut in the middle.

Also what fixing and reading them needs of the servers, as protocols.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa

from ingest.topic import Tick
from pipelines.fold import ActiveMeter
from pipelines.position import Log, LogPartition
from pipelines.progress import instant_text
from pipelines.usage import Cut


@dataclass(frozen=True, slots=True)
class AsOf:
    """A cut laid over the segments.

    Segments that start below `whole_below` lie wholly before the cut; what lies between that
    bound and `next_offset` is a piece of one segment, and is folded from raw events.
    """

    next_offset: Mapping[LogPartition, int]
    whole_below: Mapping[LogPartition, int]
    audits: int = 0
    """The audits of the chain up to this one belong to the cut."""

    @property
    def is_straddled(self) -> bool:
        """True where the cut lies inside a segment of some partition."""
        return any(self.whole_below[at] < end for at, end in self.next_offset.items())


@dataclass(frozen=True, slots=True)
class EffectiveMeter:
    """A version of a meter with the interval it is in force for, in microseconds since 1970."""

    meter: ActiveMeter
    start_us: int
    end_us: int

    def in_force(self, events: Any) -> Any:
        """Return the events in whose windows this version is in force, of an Arrow table."""
        size = self.meter.definition.window_size // timedelta(microseconds=1)
        windows = events.column("time").cast(pa.int64()).to_numpy() // size * size
        return events.filter(pa.array((windows >= self.start_us) & (windows < self.end_us)))


Ranges = Mapping[LogPartition, tuple[int, int]]
"""Offsets `[start, end)` per partition."""


def since_activation(
    cuts: "CutChain", versions: Sequence[EffectiveMeter], ranges: Ranges
) -> dict[LogPartition, tuple[int, int]]:
    """Return the part of offset ranges in which a meter counts.

    Windows hold nothing from before a meter was activated; raw events must not add it at an edge.
    """
    activated = cuts.activated_at(versions, ranges)
    return {
        at: (max(start, activated[at]), end)
        for at, (start, end) in ranges.items()
        if at in activated
    }


@dataclass(frozen=True, slots=True)
class Proposal:
    """A cut that is being fixed: its number and vector are settled, and outlive a crash."""

    tenant: str
    number: int
    at: datetime
    offsets: Mapping[LogPartition, int]


@dataclass(frozen=True, slots=True)
class FixedCut:
    """A cut of the chain with its vector, as it is shown."""

    cut: Cut
    fixed_at: datetime
    offsets: Mapping[LogPartition, int]

    def to_content(self) -> dict[str, Any]:
        """Return it as JSON content."""
        return {
            "number": self.cut.number,
            "at": instant_text(self.cut.at),
            "fixed_at": instant_text(self.fixed_at),
            "facts_revision": self.cut.facts_revision,
            "offsets": [
                {"log": at.log, "partition": at.partition, "next_offset": end}
                for at, end in sorted(self.offsets.items())
            ],
        }


class CutChain(Protocol):
    """The chain of cuts per tenant, and what it is laid over."""

    def chain_locked(self, tenant: str) -> AbstractContextManager[None]:
        """Hold the tenant's chain: one cut is fixed at a time, whoever asks."""

    def cuts_at_asking(self, tenant: str) -> bool:
        """Tell whether the tenant is on a virtual clock."""

    def open_logs(self) -> Sequence[Log]:
        """Return the logs that are consumed, oldest first; producers write to the last."""

    def closed_ends(self) -> Mapping[LogPartition, int]:
        """Return where the partitions of closed logs end."""

    def latest(self, tenant: str) -> Cut | None:
        """Return the last fixed cut of a tenant."""

    def by_number(self, tenant: str, number: int) -> Cut | None:
        """Return a fixed cut."""

    def offsets(self, cut: Cut) -> dict[LogPartition, int]:
        """Return the next offset per partition at a cut."""

    def proposed(self, tenant: str) -> Proposal | None:
        """Return the proposal that is not fixed yet, if there is one."""

    def replacements_under_way(self, tenant: str) -> list[str]:
        """Return the replacements that are being closed or reverted: no cut is fixed meanwhile."""

    def raised(self, tenant: str, offsets: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
        """Return offsets raised so that they have all records of a replacement or none."""

    def propose(self, tenant: str, at: datetime, offsets: Mapping[LogPartition, int]) -> Proposal:
        """Write down the next cut before it is audited; called with the chain locked."""

    def fix(self, proposal: Proposal) -> Cut:
        """Append a proposed cut to the chain; called with the chain locked."""

    def as_of(self, cut: Cut) -> AsOf:
        """Lay a cut over the segments."""

    def meter_versions(self, tenant: str, key: str) -> list[EffectiveMeter]:
        """Return the versions of a meter with the intervals they are in force for."""

    def activated_at(
        self, versions: Sequence[EffectiveMeter], places: Iterable[LogPartition]
    ) -> dict[LogPartition, int]:
        """Return per partition the offset from which a meter counts; none where it never did."""

    def lacking_activation(self, tenant: str) -> list[LogPartition]:
        """Return the partitions of open logs that do not yet count every meter of a tenant."""


class Ticks(Protocol):
    """Moves partitions, and finds offsets by append time."""

    def send(self, log: Log, partitions: Sequence[int], tick: Tick) -> dict[int, int]:
        """Send a tick into each partition; return its offset in each."""

    def offsets_at(self, log: Log, partitions: Sequence[int], at_ms: int) -> dict[int, int]:
        """Return per partition the first offset appended at or after `at_ms`."""
