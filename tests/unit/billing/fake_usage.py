"""Usage in memory, counted naively from events: what billing is tested with."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from pipelines.meter import MeterDefinition, path_names
from pipelines.usage import ChangedUsage, Cut, Quantity, Span, ValueCount


@dataclass(frozen=True, slots=True)
class Event:
    type: str
    subject: str
    time: datetime
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass
class FakeUsage:
    """A `UsageReader` over a list of events; a cut is how many of them had arrived."""

    meters: Mapping[str, MeterDefinition]
    events: list[Event] = field(default_factory=list)
    on_cut: Callable[[Cut], None] = lambda _: None
    revision: Callable[[], int] = lambda: 1
    cuts: list[tuple[Cut, int]] = field(default_factory=list)

    def add(self, *events: Event) -> None:
        self.events.extend(events)

    def fix_cut(self, tenant: str, at: datetime) -> Cut:
        cut = Cut(tenant, len(self.cuts) + 1, at, self.revision())
        self.cuts.append((cut, len(self.events)))
        self.on_cut(cut)
        return cut

    def latest_cut(self, tenant: str) -> Cut | None:
        return next((cut for cut, _ in reversed(self.cuts) if cut.tenant == tenant), None)

    def cut(self, tenant: str, number: int) -> Cut:
        for cut, _ in self.cuts:
            if (cut.tenant, cut.number) == (tenant, number):
                return cut
        raise KeyError(number)

    def quantities(
        self,
        cut: Cut,
        meter: str,
        spans: Sequence[Span],
        start: datetime,
        end: datetime,
        group_by: Sequence[str] = (),
    ) -> list[Quantity]:
        found: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        by_subject: dict[str, list[Span]] = defaultdict(list)
        for span in spans:
            by_subject[span.subject].append(span)
        for event in self._counted(cut, meter, start, end):
            for span in by_subject[event.subject]:
                after = span.start is None or span.start <= event.time
                if after and (span.end is None or event.time < span.end):
                    values = tuple(event.data.get(name, "") for name in group_by)
                    found[span.owner, values].append(self._value(meter, event))
        return [
            Quantity(owner, dict(zip(group_by, values, strict=True)), self._folded(meter, used))
            for (owner, values), used in sorted(found.items())
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
        found: dict[tuple[str, tuple[str, ...], Decimal], int] = defaultdict(int)
        for event in self._counted(cut, meter, start, end):
            for span in spans:
                after = span.start is None or span.start <= event.time
                before = span.end is None or event.time < span.end
                if span.subject == event.subject and after and before:
                    values = tuple(event.data.get(name, "") for name in group_by)
                    found[span.owner, values, Decimal(self._value(meter, event))] += 1
        return [
            ValueCount(owner, dict(zip(group_by, values, strict=True)), value, count)
            for (owner, values, value), count in sorted(found.items())
        ]

    def subjects(self, cut: Cut, meter: str, start: datetime, end: datetime) -> list[str]:
        return sorted({event.subject for event in self._counted(cut, meter, start, end)})

    def changed(self, since: Cut, until: Cut) -> list[ChangedUsage]:
        arrived = self.events[self._size(since) : self._size(until)]
        months: dict[tuple[str, str, datetime], tuple[datetime, datetime]] = {}
        for meter, definition in self.meters.items():
            for event in arrived:
                if event.type == definition.event_type:
                    at = event.time
                    start = at - (at - datetime(1970, 1, 1, tzinfo=UTC)) % definition.window_size
                    end = start + definition.window_size
                    key = (meter, event.subject, datetime(at.year, at.month, 1, tzinfo=UTC))
                    first, last = months.get(key, (start, end))
                    months[key] = (min(first, start), max(last, end))
        return [
            ChangedUsage(meter, subject, *interval)
            for (meter, subject, _), interval in sorted(months.items())
        ]

    def _size(self, cut: Cut) -> int:
        return next(size for known, size in self.cuts if known == cut)

    def _counted(self, cut: Cut, meter: str, start: datetime, end: datetime) -> list[Event]:
        kind = self.meters[meter].event_type
        seen = self.events[: self._size(cut)]
        return [e for e in seen if e.type == kind and start <= e.time < end]

    def _value(self, meter: str, event: Event) -> str:
        path = self.meters[meter].value
        return event.data[path_names(path)[0]] if path else "1"

    def _folded(self, meter: str, values: Sequence[str]) -> Decimal:
        aggregation = self.meters[meter].aggregation
        if aggregation == "unique_count":
            return Decimal(len(set(values)))
        if aggregation == "max":
            return max(Decimal(value) for value in values)
        return sum((Decimal(value) for value in values), Decimal(0))
