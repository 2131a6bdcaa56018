"""Answers billing: fixes cuts, and reads quantities as of them (`pipelines.usage.UsageReader`).

Whole windows come from ClickHouse; the piece of a segment that a cut divides, and the edges of
an interval that is not made of whole windows, are folded from raw events by the workers' own
`fold`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.topic import Tick
from pipelines.aggregation import answer
from pipelines.cut import (
    AsOf,
    CutChain,
    EffectiveMeter,
    Ranges,
    Ticks,
    aligned,
    since_activation,
)
from pipelines.fold import Worth, combine, fold_all
from pipelines.meter import MeterDefinition
from pipelines.outage import TransientError
from pipelines.position import Log, LogPartition
from pipelines.usage import ChangedUsage, Cut, Quantity, Span

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Owned:
    """A span clipped to the asked interval, split into whole windows and edges."""

    owner: str
    subject: str
    first_us: int
    last_us: int
    edges: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Reader:
    """A `UsageReader` over the log, Postgres and ClickHouse."""

    cuts: CutChain
    ticks: Ticks
    usage: Any
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
        versions = self.cuts.meter_versions(cut.tenant, meter)
        definition = versions[-1].meter.definition
        unknown = set(group_by) - set(definition.dimensions)
        if unknown:
            raise LookupError(f"meter {meter} has no dimension {', '.join(sorted(unknown))}")
        as_of = self.cuts.as_of(self.cuts.offsets(cut))
        owned = list(_owned(spans, _us(start), _us(end), definition.window_size))
        totals: dict[Any, Worth] = self.usage.totals(
            cut.tenant, versions, as_of, [o for o in owned if o.first_us < o.last_us], group_by
        )
        for key, worth in self._from_raw(cut.tenant, versions, as_of, owned, group_by):
            totals[key] = combine(totals[key], worth) if key in totals else worth
        return _quantities(definition, totals, group_by)

    def subjects(self, cut: Cut, meter: str, start: datetime, end: datetime) -> list[str]:
        """Return the subjects with usage; see `UsageReader.subjects`."""
        versions = self.cuts.meter_versions(cut.tenant, meter)
        as_of = self.cuts.as_of(self.cuts.offsets(cut))
        found = set(self.usage.subjects(cut.tenant, versions, as_of, _us(start), _us(end)))
        if as_of.is_straddled:
            events = self._raw(cut.tenant, versions, _straddled(as_of), _us(start), _us(end))
            found.update(events.column("subject").to_pylist())
        return sorted(found)

    def changed(self, since: Cut, until: Cut) -> list[ChangedUsage]:
        """Return what may differ between two cuts; see `UsageReader.changed`."""
        below = self.cuts.as_of(self.cuts.offsets(since)).whole_below
        ranges = {at: (below.get(at, 0), end) for at, end in self.cuts.offsets(until).items()}
        rows = self.usage.changed(until.tenant, ranges)
        return [
            ChangedUsage(meter, subject, _moment(first_ms), _moment(last_ms))
            for meter, subject, first_ms, last_ms in rows
        ]

    def _offsets_at(self, tenant: str, at: datetime, log: Log) -> dict[LogPartition, int]:
        partitions = range(log.partitions)
        if self.cuts.cuts_at_asking(tenant):
            found = self.ticks.send(partitions, Tick(f"cut of {tenant}", start=True))
        else:
            at_ms = _us(at) // 1000
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

    def _from_raw(
        self,
        tenant: str,
        versions: Sequence[EffectiveMeter],
        as_of: AsOf,
        owned: Sequence[_Owned],
        group_by: Sequence[str],
    ) -> Iterator[tuple[Any, Worth]]:
        """Yield what raw events add: straddled segments first, then edges."""
        if as_of.is_straddled and any(o.first_us < o.last_us for o in owned):
            first = min(o.first_us for o in owned)
            last = max(o.last_us for o in owned)
            events = self._raw(tenant, versions, _straddled(as_of), first, last)
            by_subject = _by_subject(owned)
            for (subject, dims, item, window), worth in _worths(events, versions):
                for owner in by_subject.get(subject, ()):
                    if owner.first_us <= window < owner.last_us:
                        yield (owner.owner, _picked(dims, group_by), item), worth
        everything = {at: (0, end) for at, end in as_of.next_offset.items()}
        for edge in sorted({edge for o in owned for edge in o.edges}):
            events = self._raw(tenant, versions, everything, *edge)
            by_subject = _by_subject([o for o in owned if edge in o.edges])
            for (subject, dims, item, _), worth in _worths(events, versions):
                for owner in by_subject.get(subject, ()):
                    yield (owner.owner, _picked(dims, group_by), item), worth

    def _raw(
        self,
        tenant: str,
        versions: Sequence[EffectiveMeter],
        ranges: Ranges,
        start_us: int,
        end_us: int,
    ) -> Any:
        types = [version.meter.definition.event_type for version in versions]
        counted = since_activation(self.cuts, versions, ranges)
        return self.usage.raw_events(tenant, types, counted, start_us, end_us)


def _worths(events: Any, versions: Sequence[EffectiveMeter]) -> Iterator[tuple[Any, Worth]]:
    for version in versions:
        for fold in fold_all(version.in_force(events), [version.meter]):
            yield from fold.worth_by_key().items()


def _owned(
    spans: Sequence[Span], start_us: int, end_us: int, window: timedelta
) -> Iterator[_Owned]:
    size_us = window // timedelta(microseconds=1)
    for span in spans:
        begins = start_us if span.start is None else max(start_us, _us(span.start))
        ends = end_us if span.end is None else min(end_us, _us(span.end))
        if begins < ends:
            first, last, edges = aligned(begins, ends, size_us)
            yield _Owned(span.owner, span.subject, first, last, tuple(edges))


def _by_subject(owned: Iterable[_Owned]) -> dict[str, list[_Owned]]:
    found: dict[str, list[_Owned]] = {}
    for span in owned:
        found.setdefault(span.subject, []).append(span)
    return found


def _picked(dimensions: str, group_by: Sequence[str]) -> tuple[str, ...]:
    if not group_by:
        return ()
    values = json.loads(dimensions)
    return tuple(values.get(name, "") for name in group_by)


def _straddled(as_of: AsOf) -> dict[LogPartition, tuple[int, int]]:
    return {at: (as_of.whole_below[at], end) for at, end in as_of.next_offset.items()}


def _quantities(
    definition: MeterDefinition, totals: Mapping[Any, Worth], group_by: Sequence[str]
) -> list[Quantity]:
    worths: dict[tuple[str, tuple[str, ...]], list[tuple[str, Worth]]] = {}
    for (owner, dims, item), worth in totals.items():
        worths.setdefault((owner, dims), []).append((item, worth))
    found = []
    for (owner, dims), of_owner in sorted(worths.items()):
        value = answer(definition, of_owner)
        if value is not None:
            found.append(Quantity(owner, dict(zip(group_by, dims, strict=True)), value))
    return found


def _lagging(what: str, places: Sequence[LogPartition]) -> str:
    named = ", ".join(str(place) for place in places)
    return f"{what} {named}: see that their workers run (`tollbook status`)"


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
