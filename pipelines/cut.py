"""Cuts laid over the log: which segments count whole, and which one is cut in the middle.

Also what fixing and reading them needs of the servers, as protocols.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
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
    """A version of a meter with the interval it is in force for, in microseconds since 1970.

    Segments count it from `activated` on; what lies below is history, which is in rows of
    HISTORY_SEGMENT, with what earlier audits took back, once it is live.
    """

    meter: ActiveMeter
    start_us: int
    end_us: int
    activated: Mapping[LogPartition, int] = field(default_factory=dict)
    """Where it is not said, segments count it from the first on."""
    is_live: bool = True

    def is_raw(self, as_of: AsOf | None) -> bool:
        """Tell whether its usage is folded from raw events alone.

        That is so until its history is counted; and as of a cut that lies before an activation,
        since rows of history stand for all below it.
        """
        if as_of is None:
            return not self.is_live
        ends = as_of.next_offset
        return not self.is_live or any(
            start > ends.get(at, 0) for at, start in self.activated.items()
        )

    def by_value(self) -> "EffectiveMeter":
        """Return this version as one that tells values apart, folded from raw events alone."""
        definition = self.meter.definition.model_copy(update={"aggregation": "max"})
        return replace(self, meter=replace(self.meter, definition=definition), is_live=False)

    def in_force(self, events: Any) -> Any:
        """Return the events in whose windows this version is in force, of an Arrow table."""
        size = self.meter.definition.window_size // timedelta(microseconds=1)
        windows = events.column("time").cast(pa.int64()).to_numpy() // size * size
        return events.filter(pa.array((windows >= self.start_us) & (windows < self.end_us)))


Ranges = Mapping[LogPartition, tuple[int, int]]
"""Offsets `[start, end)` per partition."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A cut that is being fixed: its number and vector are settled, and outlive a crash."""

    tenant: str
    number: int
    at: datetime
    offsets: Mapping[LogPartition, int]
    definitions: tuple[int, ...]
    """The versions of meters that its audit counts; later ones are seeded with what it wrote."""


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

    def meter_versions(self, tenant: str, key: str, cut: Cut | None = None) -> list[EffectiveMeter]:
        """Return the versions of a meter, as known at a cut, and when they are in force."""

    def known_versions(self, cut: Cut) -> list[EffectiveMeter]:
        """Return the versions of all meters of a tenant as known at a cut."""

    def lacking_activation(self, tenant: str) -> list[LogPartition]:
        """Return the partitions of open logs that do not yet count every meter of a tenant."""


class Ticks(Protocol):
    """Moves partitions, and finds offsets by append time."""

    def send(self, log: Log, partitions: Sequence[int], tick: Tick) -> dict[int, int]:
        """Send a tick into each partition; return its offset in each."""

    def offsets_at(self, log: Log, partitions: Sequence[int], at_ms: int) -> dict[int, int]:
        """Return per partition the first offset appended at or after `at_ms`."""
