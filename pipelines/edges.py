"""What raw events add to an answer: edges, and the pieces of segments that a cut divides.

Events are folded by the workers' own `fold`, in cells instead of windows: no cell reaches over a
bound of anything that is asked, so that each belongs wholly to its owners and its local window.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.cut import EffectiveMeter, Ranges
from pipelines.fold import WindowKey, Worth, fold_signed
from pipelines.question import SeriesKey, UsageKey
from pipelines.selection import EARLIEST_US, Owned, Selection


@dataclass(frozen=True, slots=True)
class RawRead:
    """Which stored events are read."""

    tenant: str
    event_types: Sequence[str]
    intervals: Sequence[tuple[int, int]]
    """Of event time, in microseconds, in order"""
    subjects: Sequence[str] | None = None
    """None for all"""
    windows: Sequence[tuple[str, int]] | None = None
    """(subject, start) of the windows of `size_us` to which the intervals are narrowed"""
    size_us: int = 1


@dataclass(frozen=True, slots=True)
class Audited:
    """Which of what audits took back is read: of these offsets, by audits up to a number."""

    ranges: Ranges
    audits: int | None
    """None for all"""


@dataclass(frozen=True, slots=True)
class _Cells:
    """Per event the number of its cell, and per cell where it lies.

    That is where its window of the answer and its window of the meter start, and its first instant:
    the last of these starts and of the bounds of spans.
    """

    numbers: Any
    starts_us: Any
    windows_us: Any
    since_us: Any


def event_types_of(versions: Sequence[EffectiveMeter]) -> list[str]:
    """Return the types of events that any version counts."""
    return sorted({t for version in versions for t in version.meter.definition.types})


def edge_reads(selection: Selection) -> list[RawRead]:
    """Return the reads that together hold every edge once."""
    if selection.definition.keeps_samples:
        return []
    size_us = selection.size_us
    if not selection.has_whole:
        return [_read(selection, [(selection.start_us, selection.end_us)])]
    reads = []
    intervals = [(at, at + size_us) for at in sorted(selection.divided)]
    ends = [(selection.start_us, selection.first_us), (selection.last_us, selection.end_us)]
    intervals += [(start, end) for start, end in ends if start < end]
    if intervals:
        reads.append(_read(selection, sorted(intervals)))
    common = {start // size_us * size_us for start, _ in intervals}
    divided = {
        (one.subject, bound // size_us * size_us)
        for one in selection.owned or ()
        for bound in (one.start_us, one.end_us)
        if bound % size_us and bound // size_us * size_us not in common
    }
    if divided:
        windows = sorted(divided)
        starts = [window for _, window in windows]
        within = [(min(starts), max(starts) + size_us)]
        reads.append(_read(selection, within, windows))
    return reads


def piece_read(selection: Selection) -> RawRead:
    """Return the read of the pieces of segments that a cut divides."""
    since_us = EARLIEST_US if selection.definition.is_carried else selection.start_us
    return _read(selection, [(since_us, selection.end_us)])


def _read(
    selection: Selection,
    intervals: Sequence[tuple[int, int]],
    windows: Sequence[tuple[str, int]] | None = None,
) -> RawRead:
    return RawRead(
        tenant=selection.tenant,
        event_types=event_types_of(selection.versions),
        intervals=intervals,
        subjects=selection.subjects if windows is None else sorted({name for name, _ in windows}),
        windows=windows,
        size_us=selection.size_us,
    )


def fewer(intervals: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Join ordered intervals over the smallest gaps, until there are few."""
    gaps = [after[0] - before[1] for before, after in pairwise(intervals)]
    allowed = sorted(gaps, reverse=True)[most - 1] if len(gaps) >= most else -1
    joined = [*intervals[:1]]
    for gap, interval in zip(gaps, intervals[1:], strict=True):
        if gap <= allowed:
            joined[-1] = (joined[-1][0], interval[1])
        else:
            joined.append(interval)
    return joined


def fold_raw(
    selection: Selection, read: RawRead, events: Any, *, are_edges: bool
) -> Iterator[tuple[UsageKey, str, Worth]]:
    """Yield (key, item, worth) of raw events; of edges only what is not read whole."""
    times_us = events.column("time").cast(pa.int64()).to_numpy()
    inside = (times_us >= selection.start_us) & (times_us < selection.end_us)
    starts, ends = np.array(read.intervals, np.int64).T
    interval = np.searchsorted(starts, times_us, "right") - 1
    inside &= (interval >= 0) & (times_us < ends[interval])
    if not inside.all():
        events, times_us = events.filter(pa.array(inside)), times_us[inside]
    if not len(times_us):
        return
    cells = _cells(selection, times_us)
    events = events.append_column("cell", pa.array(cells.numbers))
    for version in selection.versions:
        for fold in fold_signed(version.in_force(events), [version.meter]):
            yield from _keyed(selection, fold.worth_by_key(), cells, are_edges=are_edges)


def fold_samples(selection: Selection, events: Any) -> Iterator[tuple[SeriesKey, str, Worth]]:
    """Yield (series, item, worth) of raw events of a meter whose samples are carried."""
    for version in selection.versions:
        for fold in fold_signed(events, [version.meter]):
            for (subject, dimensions, item, _), worth in fold.worth_by_key().items():
                yield SeriesKey(version.meter.version, subject, dimensions), item, worth


def _cells(selection: Selection, times_us: Any) -> _Cells:
    starts_us = selection.windows.starts(times_us)
    windows_us = times_us // selection.size_us * selection.size_us
    bounds = np.array([selection.start_us, *selection.bounds], np.int64)
    since_us = bounds[np.searchsorted(bounds, times_us, "right") - 1]
    numbers = np.zeros(len(times_us), np.int64)
    for column in (starts_us, windows_us, since_us):
        values, codes = np.unique(column, return_inverse=True)
        numbers = np.unique(numbers * len(values) + codes, return_inverse=True)[1]
    first = np.unique(numbers, return_index=True)[1]
    latest = np.maximum(np.maximum(starts_us, windows_us), since_us)
    return _Cells(numbers, starts_us[first], windows_us[first], latest[first])


def _keyed(
    selection: Selection, worths: dict[WindowKey, Worth], cells: _Cells, *, are_edges: bool
) -> Iterator[tuple[UsageKey, str, Worth]]:
    question = selection.question
    values_by_dimensions: dict[str, dict[str, str]] = {}
    for (subject, dimensions, item, cell), worth in worths.items():
        if selection.owned is None and question.subjects and subject not in question.subjects:
            continue
        if dimensions not in values_by_dimensions:
            values_by_dimensions[dimensions] = json.loads(dimensions)
        values = values_by_dimensions[dimensions]
        if any(values.get(name, "") not in allowed for name, allowed in question.where):
            continue
        window_us, since_us = int(cells.windows_us[cell]), int(cells.since_us[cell])
        for owner, first_us, last_us in _owners(selection, subject, since_us):
            if are_edges and selection.is_whole(window_us, first_us, last_us):
                continue
            key = UsageKey(
                int(cells.starts_us[cell]),
                owner if question.by_owner else "",
                subject if question.by_subject else "",
                tuple(values.get(name, "") for name in question.group_by),
            )
            yield key, item, worth


def _owners(selection: Selection, subject: str, at_us: int) -> Iterator[tuple[str, int, int]]:
    """Yield (owner, first, last) of each whose usage it is, with where its windows are whole."""
    if selection.owned is None:
        yield "", selection.first_us, selection.last_us
        return
    of_subject: Sequence[Owned] = selection.owned_by_subject.get(subject, ())
    for one in of_subject:
        if one.start_us <= at_us < one.end_us:
            yield one.owner, one.first_us, one.last_us
