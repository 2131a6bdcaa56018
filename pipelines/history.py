"""Counts the history of meters made later: what lies below the offsets of their activation.

That is: events, what corrections that stand there added, whatever they are of; and what the audits
took back that were proposed before the meter was made. Segments and audits since then count it
themselves, so that all that the log adds is in one row, once.

The rows have segment HISTORY_SEGMENT, one set per partition; those of an audit have its own, as if
the audit had written them. A piece of work is some windows with all that is added to them, so that
each row is written once and whole: whoever does a piece, how often, and however the work is
divided, writes the same rows. Where a definition stands is noted after each piece; readers use the
rows once all are written, and fold raw events until then.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from pipelines.audit import audit_segment
from pipelines.cut import Ranges
from pipelines.edges import Audited, RawRead
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

    def raw(self, read: RawRead, ranges: Ranges, audited: Audited | None) -> Iterator[Any]:
        """Yield what the log adds; see `UsageTables.raw`."""

    def voids(self, read: RawRead, last_audit: int) -> Iterator[tuple[int, LogPartition, Any]]:
        """Yield (audit, where the copies stand, table of `SIGNED_SCHEMA`), up to an audit."""

    def counts(
        self, read: RawRead, ranges: Ranges, last_audit: int, step_us: int
    ) -> list[tuple[int, int]]:
        """Return (start, signed events) of the steps of time that have any, in order."""

    def subjects(self, read: RawRead, ranges: Ranges, last_audit: int) -> list[tuple[str, int]]:
        """Return the subjects with their number of signed events."""

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
        # Samples are carried into the first window from before it.
        is_whole = seeding.start_us is None or seeding.meter.definition.is_carried
        start_us = EARLIEST_US if is_whole else seeding.start_us
        first_us = (start_us if seeding.seeded_us is None else seeding.seeded_us) or 0
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
        found = []
        last, whole = seeding.last_audit, _read(seeding, (first_us, LATEST_US))
        days = self.tables.counts(whole, ranges, last, _DAY_US)
        for start_us, events in days:
            begin_us, end_us = max(start_us, first_us), start_us + _DAY_US
            if events <= self.piece_events or size_us == _DAY_US:
                found.append((begin_us, end_us, events))
                continue
            day = _read(seeding, (begin_us, end_us))
            found += [
                (start, start + size_us, of_window)
                for start, of_window in self.tables.counts(day, ranges, last, size_us)
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
        read = _read(seeding, piece)
        for subject, of_subject in self.tables.subjects(read, ranges, seeding.last_audit):
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
            for signed in self.tables.raw(read, {at: (0, end)}, None):
                folds = fold_signed(signed, [seeding.meter])
                windows.add(folds)
                for fold in folds:
                    rejections += fold.rejections
            self.tables.write(at, windows.take_rows(end - 1), rejections)
        proposals = {proposal.number: proposal for proposal in seeding.audits}
        taken: dict[tuple[int, LogPartition], SegmentWindows] = {}
        for audit, at, signed in self.tables.voids(read, seeding.last_audit):
            if (audit, at) not in taken:
                taken[audit, at] = SegmentWindows(audit_segment(at, proposals[audit]))
            taken[audit, at].add(fold_signed(signed, [seeding.meter]))
        for (audit, at), windows in taken.items():
            rows = windows.take_rows(proposals[audit].offsets[at] - 1)
            self.tables.write(at, rows, ())


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
