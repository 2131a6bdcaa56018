"""Answers what was used: any interval, in local windows, by subject, customer and dimensions.

Whole windows of the meter are added up by ClickHouse. Where a bound of the interval, of a local
window or of a customer's span divides one of the meter's windows, that window's raw events are
folded by the workers' own `fold`; so is the piece of a segment that a fixed cut divides. An answer
without a cut is live: it has at least what is processed when it is asked.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.aggregation import answer
from pipelines.cut import AsOf, CutChain, EffectiveMeter, Ranges, since_activation
from pipelines.fold import Worth, combine, fold_all
from pipelines.local_windows import MINUTE_US, Grid, LocalWindows, local_windows
from pipelines.meter import MeterDefinition
from pipelines.position import LogPartition
from pipelines.question import TooMuchError, UnknownNameError, UsageKey, UsageQuestion, UsageRow
from pipelines.usage import Span

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Selection:
    """A question laid over a meter's windows.

    Whole windows lie in `[start_us, end_us)` and do not start at one of `divided`; everything else
    is read raw, in `intervals`.
    """

    tenant: str
    versions: Sequence[EffectiveMeter]
    question: UsageQuestion
    windows: LocalWindows
    start_us: int
    end_us: int
    divided: tuple[int, ...]
    intervals: tuple[tuple[int, int], ...]
    bounds: tuple[int, ...]
    """What divides minutes: no minute of a fold may reach over one."""
    has_whole: bool

    @property
    def subjects(self) -> list[str] | None:
        """The subjects that can be in the answer, or None for all."""
        named, spans = self.question.subjects, self.question.spans
        if spans is None:
            return sorted(named) if named else None
        return sorted({span.subject for span in spans if not named or span.subject in named})


class UsageTables(Protocol):
    """What is asked of the tables of usage."""

    def extent(self, tenant: str, meter: str) -> tuple[int, int] | None:
        """Return the first start and last end of a meter's windows in microseconds, or None."""

    def whole(
        self, selection: Selection, as_of: AsOf | None
    ) -> Iterable[tuple[UsageKey, str, Worth]]:
        """Return (key, item, worth) of whole windows, added up per local window."""

    def raw(
        self, selection: Selection, intervals: Sequence[tuple[int, int]], ranges: Ranges
    ) -> Any:
        """Return stored events as a table of `COUNTED_SCHEMA`, in log order."""


@dataclass(slots=True)
class UsageQueries:
    """Answers questions from the log as counted so far, or as of a fixed cut."""

    cuts: CutChain
    tables: UsageTables
    progress: Callable[[], Mapping[LogPartition, int]]

    def ask(self, tenant: str, question: UsageQuestion) -> list[UsageRow]:
        """Return the rows in order; windows without usage are left out.

        Raises:
            LookupError: the tenant has no such meter.
            UnknownNameError: the meter has no such dimension, or the chain no such cut.
            TooMuchError: the answer would take more than one request may.
        """
        versions = self.cuts.meter_versions(tenant, question.meter)
        definition = versions[-1].meter.definition
        selection = self._selection(tenant, versions, question)
        if selection is None:
            return []
        worths: dict[UsageKey, dict[str, Worth]] = {}
        for key, item, worth in self._worths(selection):
            of_key = worths.setdefault(key, {})
            of_key[item] = combine(of_key[item], worth) if item in of_key else worth
        rows = []
        for key, of_key in sorted(worths.items()):
            value = answer(definition, of_key.items())
            if value is not None:
                rows.append(UsageRow(key, selection.windows.bounds(key.start_us)[1], value))
        return rows

    def _selection(
        self, tenant: str, versions: Sequence[EffectiveMeter], question: UsageQuestion
    ) -> Selection | None:
        """Lay a question over the meter's windows; None where there is nothing to find."""
        extent = self.tables.extent(tenant, question.meter)
        if extent is None:
            return None
        start_us = extent[0] if question.start is None else _us(question.start)
        end_us = extent[1] if question.end is None else _us(question.end)
        if question.window is not None:
            start_us, end_us = max(start_us, extent[0]), min(end_us, extent[1])
        return select(tenant, versions, question, start_us, end_us) if start_us < end_us else None

    def _worths(self, selection: Selection) -> Iterator[tuple[UsageKey, str, Worth]]:
        as_of, raw_below = None, dict(self.progress())
        if selection.question.cut is not None:
            cut = self.cuts.by_number(selection.tenant, selection.question.cut)
            if cut is None:
                raise UnknownNameError("cut", f"there is no cut {selection.question.cut}")
            as_of = self.cuts.as_of(self.cuts.offsets(cut))
            raw_below = dict(as_of.whole_below)
        if selection.has_whole:
            yield from self.tables.whole(selection, as_of)
        if selection.intervals:
            ranges = {at: (0, end) for at, end in raw_below.items()}
            yield from self._folded(selection, selection.intervals, ranges)
        if as_of is not None and as_of.is_straddled:
            ranges = {at: (as_of.whole_below[at], end) for at, end in as_of.next_offset.items()}
            yield from self._folded(selection, [(selection.start_us, selection.end_us)], ranges)

    def _folded(
        self, selection: Selection, intervals: Sequence[tuple[int, int]], ranges: Ranges
    ) -> Iterator[tuple[UsageKey, str, Worth]]:
        counted = since_activation(self.cuts, selection.versions, ranges)
        events = self.tables.raw(selection, intervals, counted)
        times = events.column("time").cast(pa.int64())
        for start_us, end_us in _cut_at(intervals, selection.bounds):
            inside = pc.and_(pc.greater_equal(times, start_us), pc.less(times, end_us))
            yield from fold_selected(selection, events.filter(inside), start_us)


def select(
    tenant: str,
    versions: Sequence[EffectiveMeter],
    question: UsageQuestion,
    start_us: int,
    end_us: int,
) -> Selection:
    """Return how an interval that is not empty is read: what whole, and what raw.

    Raises:
        UnknownNameError: the meter has no such dimension.
        TooMuchError: it has too many windows.
    """
    definition = versions[-1].meter.definition
    _check_names("group_by", question.group_by, definition)
    _check_names("filter", [name for name, _ in question.where], definition)
    try:
        windows = local_windows(question.window, question.zone, start_us, end_us)
    except ValueError as error:
        raise TooMuchError(str(error)) from error
    size_us = min(v.meter.definition.window_size for v in versions) // timedelta(microseconds=1)
    coarsest = max(v.meter.definition.window_size for v in versions) // timedelta(microseconds=1)
    edges = {start_us, end_us, *_span_bounds(question.spans or ())}
    if isinstance(windows, Grid):
        edges.update(start for start, _ in windows.pieces)
    else:
        edges.update(windows.marks)
    inside = sorted(edge for edge in edges if start_us <= edge <= end_us)
    is_whole = not isinstance(windows, Grid) or windows.is_made_of(coarsest)
    divided: list[int] = []
    intervals = [(start_us, end_us)]
    if is_whole:
        divided = sorted({edge // coarsest * coarsest for edge in inside if edge % coarsest})
        intervals = [(max(at, start_us), min(at + coarsest, end_us)) for at in divided]
    assert coarsest % size_us == 0  # noqa: S101 - windows of all sizes nest
    return Selection(
        tenant=tenant,
        versions=versions,
        question=question,
        windows=windows,
        start_us=start_us,
        end_us=end_us,
        divided=tuple(start for at in divided for start in range(at, at + coarsest, size_us)),
        intervals=tuple(intervals),
        bounds=tuple(edge for edge in inside if edge % MINUTE_US),
        has_whole=is_whole,
    )


def _check_names(parameter: str, names: Iterable[str], definition: MeterDefinition) -> None:
    for name in names:
        if name not in definition.dimensions:
            reason = f"meter {definition.key} has no dimension {name}"
            raise UnknownNameError(parameter, reason)


def fold_selected(
    selection: Selection, events: Any, start_us: int
) -> Iterator[tuple[UsageKey, str, Worth]]:
    """Yield what raw events add to an answer, minute by minute; none lies before `start_us`."""
    question = selection.question
    spans: dict[str, list[Span]] = {}
    for span in question.spans or ():
        spans.setdefault(span.subject, []).append(span)
    for (subject, dimensions, item, minute), worth in _by_minute(events, selection.versions):
        at_us = max(minute, start_us)
        values = json.loads(dimensions)
        if question.subjects and subject not in question.subjects:
            continue
        if any(values.get(name, "") not in allowed for name, allowed in question.where):
            continue
        owners = [""]
        if question.spans is not None:
            owners = [span.owner for span in spans.get(subject, ()) if _is_in(at_us, span)]
        for owner in owners:
            key = UsageKey(
                selection.windows.bounds(at_us)[0],
                owner if question.by_owner else "",
                subject if question.by_subject else "",
                tuple(values.get(name, "") for name in question.group_by),
            )
            yield key, item, worth


def _by_minute(
    events: Any, versions: Sequence[EffectiveMeter]
) -> Iterator[tuple[tuple[str, str, str, int], Worth]]:
    for version in versions:
        by_minute = version.meter.definition.model_copy(update={"window": "1m"})
        meter = replace(version.meter, definition=by_minute)
        for fold in fold_all(version.in_force(events), [meter]):
            yield from fold.worth_by_key().items()


def _cut_at(
    intervals: Sequence[tuple[int, int]], bounds: Sequence[int]
) -> Iterator[tuple[int, int]]:
    for start_us, end_us in intervals:
        inside = [bound for bound in bounds if start_us < bound < end_us]
        marks = [start_us, *inside, end_us]
        yield from pairwise(marks)


def _span_bounds(spans: Iterable[Span]) -> Iterator[int]:
    for span in spans:
        yield from (_us(bound) for bound in (span.start, span.end) if bound is not None)


def _is_in(at_us: int, span: Span) -> bool:
    return (span.start is None or _us(span.start) <= at_us) and (
        span.end is None or at_us < _us(span.end)
    )


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
