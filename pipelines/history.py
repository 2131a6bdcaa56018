"""Counts the history of meters made later: what lies below the offsets of their activation.

The rows have segment HISTORY_SEGMENT, one set per partition. A piece of work is some windows with
all their events, so that each row is written once and whole: whoever does a piece, how often,
and however the work is divided, writes the same rows. Where a definition stands is noted after
each piece; readers use the rows once all are written, and fold raw events until then.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from pipelines.cut import Ranges
from pipelines.edges import RawRead
from pipelines.fold import Rejection, fold_signed
from pipelines.position import LogPartition
from pipelines.seeding import Seeding
from pipelines.segment import HISTORY_SEGMENT, Segment
from pipelines.selection import EARLIEST_US, LATEST_US
from pipelines.windows import SegmentWindows

PIECE_EVENTS = 500_000
_DAY_US = 86_400_000_000


class HistoryTables(Protocol):
    """What seeding needs of the tables."""

    def raw(self, read: RawRead, ranges: Ranges) -> Iterator[Any]:
        """Yield stored events and signed events of corrections, as tables that fit in memory."""

    def counts(self, read: RawRead, ranges: Ranges, step_us: int) -> list[tuple[int, int]]:
        """Return (start, events) of the steps of time that have events, in order."""

    def subjects(self, read: RawRead, ranges: Ranges) -> list[tuple[str, int]]:
        """Return the subjects with their number of events."""

    def write(self, at: LogPartition, windows: Any, rejections: Sequence[Rejection]) -> None:
        """Write rows of windows, and rejections, of one partition."""


class SeedingBook(Protocol):
    """Where it is written down how far a seeding is."""

    def begin(self, seeding: Seeding, first_us: int, events_total: int) -> None:
        """Write down that it has begun; a beginning that is there stays."""

    def advance(self, seeding: Seeding, seeded_us: int, events_done: int) -> None:
        """Write down that all windows before an instant are written; never goes back."""

    def finish(self, seeding: Seeding) -> None:
        """Let readers use the history."""


@dataclass(slots=True)
class Seeder:
    """Seeds one definition after the other."""

    tables: HistoryTables
    book: SeedingBook
    progress: Callable[[], Mapping[LogPartition, int]]
    is_stopping: Callable[[], bool] = lambda: False
    piece_events: int = PIECE_EVENTS

    def seed(self, seeding: Seeding) -> bool:
        """Count a definition's history from where it stands; tell whether it is live now.

        It is not where events below an activation are not all stored yet, or on stopping.
        """
        progress = self.progress()
        if any(progress.get(at, 0) < end for at, end in seeding.activated.items()):
            return False
        ranges = {at: (0, end) for at, end in seeding.activated.items() if end}
        size_us = seeding.meter.definition.window_size // timedelta(microseconds=1)
        start_us = EARLIEST_US if seeding.start_us is None else seeding.start_us
        first_us = max(start_us if seeding.seeded_us is None else seeding.seeded_us, start_us)
        first_us = first_us // size_us * size_us
        counts = self._counts(seeding, ranges, first_us, size_us)
        done = seeding.events_done
        self.book.begin(seeding, first_us, sum(events for *_, events in counts))
        for begin_us, end_us, events in _pieces(counts, self.piece_events):
            if self.is_stopping():
                return False
            for subjects in self._subjects(seeding, ranges, (begin_us, end_us), events):
                self._write(seeding, ranges, _read(seeding, (begin_us, end_us), subjects))
            done += events
            self.book.advance(seeding, end_us, done)
        self.book.finish(seeding)
        return True

    def _counts(
        self, seeding: Seeding, ranges: Ranges, first_us: int, size_us: int
    ) -> list[tuple[int, int, int]]:
        """Return (start, end, events): days, or windows of days that have too much."""
        if not ranges:
            return []
        found = []
        days = self.tables.counts(_read(seeding, (first_us, LATEST_US)), ranges, _DAY_US)
        for start_us, events in days:
            begin_us, end_us = max(start_us, first_us), start_us + _DAY_US
            if events <= self.piece_events or size_us == _DAY_US:
                found.append((begin_us, end_us, events))
                continue
            day = _read(seeding, (begin_us, end_us))
            found += [
                (start, start + size_us, of_window)
                for start, of_window in self.tables.counts(day, ranges, size_us)
            ]
        return found

    def _subjects(
        self, seeding: Seeding, ranges: Ranges, piece: tuple[int, int], events: int
    ) -> Iterator[list[str] | None]:
        """Yield the subjects to read at once: all (None), or so many that memory holds them."""
        if events <= self.piece_events:
            yield None
            return
        together: list[str] = []
        held = 0
        for subject, of_subject in self.tables.subjects(_read(seeding, piece), ranges):
            if together and held + of_subject > self.piece_events:
                yield together
                together, held = [], 0
            together.append(subject)
            held += of_subject
        if together:
            yield together

    def _write(self, seeding: Seeding, ranges: Ranges, read: RawRead) -> None:
        for at, (_, end) in ranges.items():
            windows = SegmentWindows(_history(at))
            rejections: list[Rejection] = []
            for signed in self.tables.raw(read, {at: (0, end)}):
                folds = fold_signed(signed, [seeding.meter])
                windows.add(folds)
                for fold in folds:
                    rejections += fold.rejections
            self.tables.write(at, windows.take_rows(end - 1), rejections)


def _pieces(counts: Sequence[tuple[int, int, int]], most: int) -> Iterator[tuple[int, int, int]]:
    """Join neighbours as long as they do not have too many events together."""
    joined: tuple[int, int, int] | None = None
    for start_us, end_us, events in counts:
        if joined is not None and joined[2] + events <= most:
            joined = (joined[0], end_us, joined[2] + events)
            continue
        if joined is not None:
            yield joined
        joined = (start_us, end_us, events)
    if joined is not None:
        yield joined


def _read(
    seeding: Seeding, interval: tuple[int, int], subjects: Sequence[str] | None = None
) -> RawRead:
    meter = seeding.meter
    return RawRead(meter.tenant, meter.definition.types, [interval], subjects)


def _history(at: LogPartition) -> Segment:
    """Return the segment that history rows have; it never ends, and starts at no time."""
    return Segment(
        at=at,
        sequence=0,
        start_offset=HISTORY_SEGMENT,
        started_at_ms=0,
        events_before=0,
        slice=0,
        horizon_slice=0,
        horizon_offset=0,
        horizon_at_ms=0,
    )
