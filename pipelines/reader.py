"""Answers billing: fixes cuts, and reads quantities as of them (`pipelines.usage.UsageReader`).

What was used is asked of `UsageQueries`, as every question is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingest.topic import Tick
from pipelines.cut import CutChain, Ticks
from pipelines.outage import TransientError
from pipelines.position import Log, LogPartition
from pipelines.query import UsageQueries
from pipelines.question import UsageQuestion
from pipelines.selection import microseconds
from pipelines.usage import ChangedUsage, Cut, Quantity, Span

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAUSE_SECONDS = 0.05


@dataclass(slots=True)
class Reader:
    """A `UsageReader` over the log, Postgres and ClickHouse."""

    cuts: CutChain
    ticks: Ticks
    queries: UsageQueries
    progress: Callable[[], Mapping[LogPartition, int]]
    pause: Callable[[float], None]
    patience_s: float = 120.0

    def activate_meters(self, tenant: str) -> None:
        """Return when every partition counts every meter of the tenant from its next event on.

        Raises:
            TimeoutError: some partition's worker did not start a segment in time.
        """
        partitions = range(self.cuts.current_log().partitions)
        if not self.cuts.lacking_activation(tenant):
            return
        self.ticks.send(partitions, Tick("activate", start=True))
        for _ in self._patience():
            lacking = self.cuts.lacking_activation(tenant)
            if not lacking:
                return
        raise TimeoutError(_lagging("new meters wait for partitions", lacking))

    def fix_cut(self, tenant: str, at: datetime) -> Cut:
        """Fix the next cut; see `UsageReader.fix_cut`."""
        with self.cuts.chain_locked(tenant):
            log = self.cuts.current_log()
            offsets = self._offsets_at(tenant, at, log)
            previous = self.cuts.latest(tenant)
            if previous is not None:
                for place, end in self.cuts.offsets(previous).items():
                    offsets[place] = max(offsets.get(place, 0), end)
            self._await_counted(offsets)
            return self.cuts.fix(tenant, at, offsets)

    def latest_cut(self, tenant: str) -> Cut | None:
        """Return the last fixed cut; see `UsageReader`."""
        return self.cuts.latest(tenant)

    def cut(self, tenant: str, number: int) -> Cut:
        """Return a fixed cut; see `UsageReader`."""
        found = self.cuts.by_number(tenant, number)
        if found is None:
            raise KeyError(f"tenant {tenant} has no cut {number}")
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
        question = UsageQuestion(
            meter=meter,
            start=start,
            end=end,
            spans=tuple(spans),
            group_by=tuple(group_by),
            by_owner=True,
            cut=cut.number,
        )
        return [
            Quantity(row.key.owner, dict(zip(group_by, row.key.dimensions, strict=True)), row.value)
            for row in self.queries.ask(cut.tenant, question)
        ]

    def subjects(self, cut: Cut, meter: str, start: datetime, end: datetime) -> list[str]:
        """Return the subjects with usage; see `UsageReader.subjects`."""
        question = UsageQuestion(meter=meter, start=start, end=end, by_subject=True, cut=cut.number)
        return [row.key.subject for row in self.queries.ask(cut.tenant, question)]

    def changed(self, since: Cut, until: Cut) -> list[ChangedUsage]:
        """Return what may differ between two cuts; see `UsageReader.changed`."""
        below = self.cuts.as_of(self.cuts.offsets(since)).whole_below
        ranges = {at: (below.get(at, 0), end) for at, end in self.cuts.offsets(until).items()}
        return [
            ChangedUsage(meter, subject, _moment(first_us), _moment(last_us))
            for meter, subject, first_us, last_us in self.queries.tables.changed(
                until.tenant, ranges
            )
        ]

    def _offsets_at(self, tenant: str, at: datetime, log: Log) -> dict[LogPartition, int]:
        partitions = range(log.partitions)
        if self.cuts.cuts_at_asking(tenant):
            found = self.ticks.send(partitions, Tick(f"cut of {tenant}", start=True))
        else:
            at_ms = microseconds(at) // 1000
            found = self.ticks.offsets_at(partitions, at_ms)
            idle = [p for p in partitions if p not in found]
            if idle:
                self.ticks.send(idle, Tick(f"cut of {tenant}", start=False))
                found |= self.ticks.offsets_at(idle, at_ms)
            if len(found) < log.partitions:
                raise ValueError(f"a cut at {at.isoformat()} lies in the broker's future")
        return {LogPartition(log.log, p): offset for p, offset in found.items()}

    def _await_counted(self, offsets: Mapping[LogPartition, int]) -> None:
        behind = list(offsets)
        for _ in self._patience():
            try:
                progress = self.progress()
            except TransientError:
                continue
            behind = [at for at, end in offsets.items() if progress.get(at, 0) < end]
            if not behind:
                return
        raise TimeoutError(_lagging("the cut waits for partitions", behind))

    def _patience(self) -> Iterable[int]:
        for attempt in range(int(self.patience_s / _PAUSE_SECONDS)):
            yield attempt
            self.pause(_PAUSE_SECONDS)


def _lagging(what: str, places: Sequence[LogPartition]) -> str:
    named = ", ".join(str(place) for place in places)
    return f"{what} {named}: see that their workers run (`tollbook status`)"


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)
