"""Answers what was used: any interval, in local windows, by subject, customer and dimensions.

One path for billing and for questions. ClickHouse adds up the whole windows of the meter, and with
them what raw events add: the edges that a bound divides, and the piece of a segment that a fixed
cut divides, folded by the workers' own `fold`. An answer without a cut is live: it has at least
what is processed when it is asked.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from ingest.event import microseconds
from pipelines.aggregation import value_of
from pipelines.cut import AsOf, CutChain, EffectiveMeter, Ranges
from pipelines.edges import (
    Audited,
    RawRead,
    edge_reads,
    event_types_of,
    fold_raw,
    fold_samples,
    piece_read,
)
from pipelines.fold import Worth, combine
from pipelines.local_windows import DAY_US, HOUR_US, WINDOWS_MAX, Grid
from pipelines.position import LogPartition
from pipelines.question import (
    WHOLE_ANSWER,
    Page,
    SeriesKey,
    TooMuchError,
    UnknownNameError,
    UsageKey,
    UsageQuestion,
    UsageRow,
)
from pipelines.selection import (
    EARLIEST_US,
    LATEST_US,
    Selection,
    check_names,
    largest_window_us,
    select,
)
from pipelines.usage import Cut

Folded = Mapping[tuple[UsageKey, str], Worth]
"""What raw events add, by key and item."""

_Key = TypeVar("_Key", UsageKey, SeriesKey)
_LONG_US = WINDOWS_MAX * DAY_US
"""Of a longer interval only the part with usage is cut into windows."""
_VALUES_MAX = 2_000_000
_FOLDED_FEW = 50_000
_FOLDED_MANY = 500_000
"""A part of an answer that is all raw events grows and shrinks until it holds so many worths."""


class UsageTables(Protocol):
    """What is asked of the tables of usage."""

    def extent(
        self, versions: Sequence[EffectiveMeter], question: UsageQuestion, as_of: AsOf | None
    ) -> tuple[int, int] | None:
        """Return first start and last end, in microseconds, of the windows of what is asked."""

    def totals(
        self, selection: Selection, folded: Folded, page: Page
    ) -> Iterator[tuple[UsageKey, Worth]]:
        """Yield, in order, what whole windows and folded events come to; see `value_of`."""

    def integrals(
        self, selection: Selection, folded: Mapping[tuple[SeriesKey, str], Worth], page: Page
    ) -> Iterator[tuple[UsageKey, Worth]]:
        """Yield, in order, what samples times microseconds come to; see `value_of`."""

    def raw(self, read: RawRead, ranges: Ranges, audited: Audited | None) -> Iterator[Any]:
        """Yield stored events, and signed events of corrections, by where they stand in the log.

        And what audits took back of them, where that is asked. Tables are of `SIGNED_SCHEMA`, in
        no order, and fit in memory.
        """

    def changed(
        self,
        tenant: str,
        ranges: Ranges,
        until: AsOf,
        audits: tuple[int, int],
        open_us: tuple[int, int],
    ) -> Iterable[tuple[str, str, int, int]]:
        """Return (meter, subject, start, end) of what offsets touched, in order.

        Or what audits touched, from after the first number up to the second.

        Times are in microseconds since 1970; one row per UTC month. Samples that are carried reach
        to the next one as of `until`, or to the end of `open`, an interval that counts for all
        whose samples are.
        """

    def touched(
        self, version: EffectiveMeter, ranges: Ranges, audits: tuple[int, int]
    ) -> Iterable[tuple[str, str, int, int]]:
        """Return (meter, subject, start, end) of the windows of raw events; see `changed`.

        Samples that are carried reach to the end of time.
        """


@dataclass(slots=True)
class UsageQueries:
    """Answers questions from the log as counted so far, or as of a fixed cut."""

    cuts: CutChain
    tables: UsageTables
    progress: Callable[[], Mapping[LogPartition, int]]

    def ask(
        self, tenant: str, question: UsageQuestion, now: datetime, page: Page = WHOLE_ANSWER
    ) -> Iterator[UsageRow]:
        """Return the rows in order as they are read; windows without usage are left out.

        What lasts until the next sample, and there is none yet, lasts until now; as of a cut,
        until when that was fixed for.

        Raises:
            LookupError: the tenant has no such meter.
            UnknownNameError: the meter has no such dimension, or the chain no such cut.
            TooMuchError: it has more windows than may be asked at once.
        """
        cut = self._cut(tenant, question)
        versions = self.cuts.meter_versions(tenant, question.meter, cut)
        check_names(question, versions[-1].meter.definition)
        as_of, until_us = None, microseconds(now)
        if cut is not None:
            as_of, until_us = self.cuts.as_of(cut), microseconds(cut.at)
        interval = self._interval(versions, question, as_of, until_us)
        if interval[0] >= interval[1]:
            return iter(())
        selection = select(tenant, versions, question, as_of, interval, until_us)
        if selection.owned is not None and not selection.owned:
            return iter(())
        if selection.definition.is_carried:
            return self._integrated(selection, page)
        if isinstance(selection.windows, Grid) and not selection.has_whole:
            return self._in_parts(selection, page)
        return self._rows(selection, self.tables.totals(selection, self._folded(selection), page))

    def values(
        self, tenant: str, question: UsageQuestion, now: datetime
    ) -> Iterator[tuple[UsageKey, Decimal, int]]:
        """Yield, in order, how many events measured which value; see `UsageReader.values`.

        Raw events are folded, however long ago they were.

        Raises:
            TooMuchError: there are more values than memory holds.
        """
        cut = self._cut(tenant, question)
        versions = self.cuts.meter_versions(tenant, question.meter, cut)
        definition = versions[-1].meter.definition
        if definition.aggregation == "count":
            for row in self.ask(tenant, question, now):
                yield row.key, Decimal(1), int(row.value)
            return
        assert question.start is not None and question.end is not None  # noqa: S101, PT018
        check_names(question, definition)
        interval = (microseconds(question.start), microseconds(question.end))
        as_of = None if cut is None else self.cuts.as_of(cut)
        by_value = [version.by_value() for version in versions]
        selection = select(tenant, by_value, question, as_of, interval, interval[1])
        folded = self._folded(selection)
        if len(folded) > _VALUES_MAX:
            raise TooMuchError(f"{question.meter} has more than {_VALUES_MAX:,} values")
        for (key, item), (count, _) in sorted(folded.items()):
            if count:
                yield key, Decimal(item), count

    def _cut(self, tenant: str, question: UsageQuestion) -> Cut | None:
        if question.cut is None:
            return None
        cut = self.cuts.by_number(tenant, question.cut)
        if cut is None:
            raise UnknownNameError("cut", f"there is no cut {question.cut}")
        return cut

    def _interval(
        self,
        versions: Sequence[EffectiveMeter],
        question: UsageQuestion,
        as_of: AsOf | None,
        until_us: int,
    ) -> tuple[int, int]:
        """Return what is asked, or so much of it as has usage; empty where nothing has."""
        start_us = None if question.start is None else microseconds(question.start)
        end_us = None if question.end is None else microseconds(question.end)
        is_long = start_us is None or end_us is None or end_us - start_us > _LONG_US
        if start_us is not None and end_us is not None and not (question.window and is_long):
            return start_us, end_us
        found = [self.tables.extent(versions, question, as_of)]
        by_rows, raw = _by_mode(versions, as_of)
        if by_rows and as_of is not None and as_of.is_straddled:
            found.append(self._extent_of_raw(by_rows, question, _pieces(as_of)))
        if raw:
            found.append(self._extent_of_raw(raw, question, _up_to(self._ends(as_of))))
        extents = [extent for extent in found if extent is not None]
        if not extents:
            return 0, 0
        first_us, last_us = min(at for at, _ in extents), max(at for _, at in extents)
        if versions[-1].meter.definition.is_carried:
            last_us = until_us
        if question.window is None:
            return first_us if start_us is None else start_us, last_us if end_us is None else end_us
        starts = [at for at in (start_us, first_us) if at is not None]
        ends = [at for at in (end_us, last_us) if at is not None]
        return max(starts), min(ends)

    def _extent_of_raw(
        self, versions: Sequence[EffectiveMeter], question: UsageQuestion, ranges: Ranges
    ) -> tuple[int, int] | None:
        """Return the extent of raw events, in whole windows."""
        size_us = largest_window_us(versions)
        read = RawRead(
            versions[0].meter.tenant,
            event_types_of(versions),
            [(EARLIEST_US, LATEST_US)],
            question.named_subjects,
        )
        found: list[int] = []
        for events in self.tables.raw(read, ranges, None):
            if events.num_rows:
                times = pc.min_max(events.column("time").cast(pa.int64()))
                found += [times["min"].as_py(), times["max"].as_py()]
        if not found:
            return None
        return min(found) // size_us * size_us, (max(found) // size_us + 1) * size_us

    def _in_parts(self, selection: Selection, page: Page) -> Iterator[UsageRow]:
        """Yield the rows of an answer that is all raw events, so many windows at a time."""
        at_us, width_us, rows = selection.start_us, DAY_US, 0
        while at_us < selection.end_us:
            limit = None if page.limit is None else page.limit - rows
            if limit == 0:
                return
            stop_us = min(selection.windows.bounds(at_us + width_us)[0], selection.end_us)
            part = select(
                selection.tenant,
                selection.versions,
                selection.question,
                selection.as_of,
                (at_us, stop_us),
                stop_us,
            )
            folded = self._folded(part)
            totals = self.tables.totals(part, folded, replace(page, limit=limit))
            for row in self._rows(part, totals):
                rows += 1
                yield row
            at_us = stop_us
            if len(folded) < _FOLDED_FEW:
                width_us *= 2
            elif len(folded) > _FOLDED_MANY and width_us > HOUR_US:
                width_us //= 2

    def _integrated(self, selection: Selection, page: Page) -> Iterator[UsageRow]:
        """Yield the rows of a meter whose samples are carried; they have no edges."""
        folded: dict[tuple[SeriesKey, str], Worth] = {}
        if selection.has_whole:
            for part, ranges, audited in self._uncounted(selection):
                for events in self.tables.raw(piece_read(part), ranges, audited):
                    _add(folded, fold_samples(part, events))
            integrals = self.tables.integrals(selection, folded, page)
            yield from self._rows(selection, integrals)

    def _rows(
        self, selection: Selection, totals: Iterable[tuple[UsageKey, Worth]]
    ) -> Iterator[UsageRow]:
        for key, worth in totals:
            value = value_of(selection.definition, worth)
            yield UsageRow(key, selection.windows.bounds(key.start_us)[1], value)

    def _folded(self, selection: Selection) -> Folded:
        """Fold what is not read whole: edges, and what is in no rows."""
        folded: dict[tuple[UsageKey, str], Worth] = {}
        as_of = selection.as_of
        by_rows, _ = _by_mode(selection.versions, as_of)
        part = replace(selection, versions=by_rows)
        if by_rows and (reads := edge_reads(part)):
            below = self.progress() if as_of is None else as_of.whole_below
            # Rows hold what audits took back of the pieces of segments too; edges hold it here.
            audited = self._audited(as_of, below)
            for read in reads:
                for events in self.tables.raw(read, _up_to(below), audited):
                    _add(folded, fold_raw(part, read, events, are_edges=True))
        for part, ranges, audited_too in self._uncounted(selection):
            read = piece_read(part)
            for events in self.tables.raw(read, ranges, audited_too):
                _add(folded, fold_raw(part, read, events, are_edges=False))
        return folded

    def _uncounted(
        self, selection: Selection
    ) -> Iterator[tuple[Selection, Ranges, Audited | None]]:
        """Yield what is in no rows: pieces of segments that a cut divides, and raw versions."""
        as_of = selection.as_of
        by_rows, raw = _by_mode(selection.versions, as_of)
        if by_rows and as_of is not None and as_of.is_straddled:
            yield replace(selection, versions=by_rows), _pieces(as_of), None
        if raw:
            ends = self._ends(as_of)
            yield replace(selection, versions=raw), _up_to(ends), self._audited(as_of, ends)

    def _ends(self, as_of: AsOf | None) -> Mapping[LogPartition, int]:
        return self.progress() if as_of is None else as_of.next_offset

    def _audited(self, as_of: AsOf | None, below: Mapping[LogPartition, int]) -> Audited:
        if as_of is None:
            return Audited(_up_to(below), None)
        return Audited(_up_to(as_of.next_offset), as_of.audits)


def _by_mode(
    versions: Sequence[EffectiveMeter], as_of: AsOf | None
) -> tuple[list[EffectiveMeter], list[EffectiveMeter]]:
    """Return the versions that are read by rows, and those that are folded from raw events."""
    raw = [version for version in versions if version.is_raw(as_of)]
    return [version for version in versions if version not in raw], raw


def _up_to(ends: Mapping[LogPartition, int]) -> Ranges:
    return {at: (0, end) for at, end in ends.items()}


def _add(folded: dict[tuple[_Key, str], Worth], worths: Iterable[tuple[_Key, str, Worth]]) -> None:
    for key, item, worth in worths:
        held = folded.get((key, item))
        folded[key, item] = worth if held is None else combine(held, worth)


def _pieces(as_of: AsOf) -> Ranges:
    return {at: (as_of.whole_below[at], end) for at, end in as_of.next_offset.items()}
