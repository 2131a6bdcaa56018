"""The contract that billing reads usage by: cuts, owners' spans of subjects, and quantities.

Everything is asked as of a fixed cut, so that the same question has the same answer however much
arrives later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from msgspec import Struct, field


@dataclass(frozen=True, slots=True)
class Cut:
    """A point in the log, fixed: billing sees usage up to it. Opaque but for its number."""

    tenant: str
    number: int
    at: datetime
    facts_revision: int


class Span(Struct, frozen=True):
    """A subject's usage in `[start, end)` counts for `owner`; an `end` of None never ends."""

    owner: str
    subject: str
    start: datetime | None = None
    end: datetime | None = None


class Quantity(Struct, frozen=True):
    """What an owner used of a meter in the asked interval, per value of the asked dimensions."""

    owner: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    value: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class ValueCount:
    """How many events of an owner measured one value, per value of the asked dimensions."""

    owner: str
    dimensions: Mapping[str, str]
    value: Decimal
    count: int


@dataclass(frozen=True, slots=True)
class ChangedUsage:
    """A meter's windows of one subject that have events between two cuts, as one interval."""

    meter: str
    subject: str
    start: datetime
    end: datetime


class UsageReader(Protocol):
    """What pipelines answers billing. All intervals are `[start, end)` in event time."""

    def fix_cut(self, tenant: str, at: datetime) -> Cut:
        """Fix and return the next cut of the tenant's chain, when all below it is counted.

        Blocks until every partition has passed the cut; raises TimeoutError if that takes longer
        than the reader's patience, naming the partitions that lag.
        """

    def latest_cut(self, tenant: str) -> Cut | None:
        """Return the last fixed cut of the tenant, or None."""

    def cut(self, tenant: str, number: int) -> Cut:
        """Return a fixed cut; raises KeyError where there is none of that number."""

    def quantities(
        self,
        cut: Cut,
        meter: str,
        spans: Sequence[Span],
        start: datetime,
        end: datetime,
        group_by: Sequence[str] = (),
    ) -> list[Quantity]:
        """Return one quantity per owner and value of the `group_by` dimensions, sorted.

        Subjects of one owner are folded together (for unique_count: distinct over all of them).
        Owners without usage do not appear.
        """

    def values(
        self,
        cut: Cut,
        meter: str,
        spans: Sequence[Span],
        start: datetime,
        end: datetime,
        group_by: Sequence[str] = (),
    ) -> list[ValueCount]:
        """Return how many events measured which value, sorted; see `quantities`.

        Of a meter that counts or sums; what a count counts has the value 1.
        """

    def subjects(self, cut: Cut, meter: str, start: datetime, end: datetime) -> list[str]:
        """Return the subjects with usage of the meter in the interval, sorted."""

    def changed(self, since: Cut, until: Cut) -> list[ChangedUsage]:
        """Return what may differ between two cuts of one tenant, sorted by meter and subject.

        Never misses a change; may name an interval in which nothing changed. One row per meter,
        subject and UTC month touched. A gauge's sample changes what follows, up to the next one.
        """
