"""Answers billing: quantities as of fixed cuts (`pipelines.usage.UsageReader`).

What was used is asked of `UsageQueries`, as every question is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingest.event import microseconds
from pipelines.chain import Chain
from pipelines.cut import CutChain
from pipelines.query import UsageQueries
from pipelines.question import UsageQuestion
from pipelines.usage import ChangedUsage, Cut, Quantity, Span, ValueCount

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Reader:
    """A `UsageReader` over the log, Postgres and ClickHouse."""

    cuts: CutChain
    chain: Chain
    queries: UsageQueries

    def activate_meters(self, tenant: str) -> None:
        """Return when every partition counts every meter of the tenant; see `Chain`."""
        self.chain.activate_meters(tenant)

    def fix_cut(self, tenant: str, at: datetime) -> Cut:
        """Fix the next cut; see `UsageReader.fix_cut`."""
        return self.chain.fix_cut(tenant, at)

    def latest_cut(self, tenant: str) -> Cut | None:
        """Return the last fixed cut; see `UsageReader`."""
        return self.cuts.latest(tenant)

    def cut(self, tenant: str, number: int) -> Cut:
        """Return a fixed cut; see `UsageReader`."""
        found = self.cuts.by_number(tenant, number)
        if found is None:
            raise KeyError(f"there is no cut {number}")
        return found

    def quantities(
        self,
        cut: Cut,
        meter: str,
        spans: Sequence[Span],
        start: datetime,
        end: datetime,
        group_by: Sequence[str] = (),
    ) -> list[Quantity]:
        """Return quantities per owner and dimensions; see `UsageReader.quantities`."""
        question = _by_owner(cut, meter, spans, start, end, group_by)
        return [
            Quantity(row.key.owner, dict(zip(group_by, row.key.dimensions, strict=True)), row.value)
            for row in self.queries.ask(cut.tenant, question, cut.at)
        ]

    def values(
        self,
        cut: Cut,
        meter: str,
        spans: Sequence[Span],
        start: datetime,
        end: datetime,
        group_by: Sequence[str] = (),
    ) -> list[ValueCount]:
        """Return how many events measured which value; see `UsageReader.values`."""
        question = _by_owner(cut, meter, spans, start, end, group_by)
        return [
            ValueCount(key.owner, dict(zip(group_by, key.dimensions, strict=True)), value, count)
            for key, value, count in self.queries.values(cut.tenant, question, cut.at)
        ]

    def subjects(self, cut: Cut, meter: str, start: datetime, end: datetime) -> list[str]:
        """Return the subjects with usage; see `UsageReader.subjects`."""
        question = UsageQuestion(meter=meter, start=start, end=end, by_subject=True, cut=cut.number)
        return [row.key.subject for row in self.queries.ask(cut.tenant, question, cut.at)]

    def changed(self, since: Cut, until: Cut) -> list[ChangedUsage]:
        """Return what may differ between two cuts; see `UsageReader.changed`."""
        below, later = self.cuts.as_of(since).whole_below, self.cuts.as_of(until)
        ranges = {at: (below.get(at, 0), end) for at, end in later.next_offset.items()}
        found = self.queries.tables.changed(
            until.tenant,
            ranges,
            later,
            (since.number, until.number),
            (microseconds(since.at), microseconds(until.at)),
        )
        rows = [*found]
        # What a version counts below its activation is history, which belongs to no segment.
        before = self.cuts.as_of(since)
        for version in self.cuts.known_versions(until):
            if version.is_raw(before):
                is_carried = version.meter.definition.is_carried
                reads = {
                    at: (0 if is_carried else start, end) for at, (start, end) in ranges.items()
                }
                audits = (since.number, until.number)
                rows += self.queries.tables.touched(version, reads, audits)
        return [
            ChangedUsage(meter, subject, _moment(start_us), _moment(end_us))
            for meter, subject, start_us, end_us in sorted(set(rows))
        ]


def _by_owner(
    cut: Cut,
    meter: str,
    spans: Sequence[Span],
    start: datetime,
    end: datetime,
    group_by: Sequence[str],
) -> UsageQuestion:
    return UsageQuestion(
        meter=meter,
        start=start,
        end=end,
        spans=tuple(spans),
        group_by=tuple(group_by),
        by_owner=True,
        cut=cut.number,
    )


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)
