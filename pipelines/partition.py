"""Keeps one partition in order: segments, verdicts, windows, and what a flush has to write.

Feeding the same records again, from the start of a segment, gives the same rows again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipelines.correcting import (
    CORRECTED_SCHEMA,
    CorrectionTables,
    Place,
    apply,
    counted,
)
from pipelines.correction import CorrectionRecord
from pipelines.dead_letter import conflict_letter
from pipelines.fold import ActiveMeter, Rejection, fold_all, negated
from pipelines.identity import body_hashes, identities
from pipelines.position import LogPartition, Position
from pipelines.quarantine import BAD_EVENTS_MAX, StreamCounts
from pipelines.record import (
    COUNTED_SCHEMA,
    DeadLetter,
    Decoded,
    Record,
    positioned,
    refused_record,
)
from pipelines.replacement import Replacement, ReplacementRecord
from pipelines.replacing import (
    Closed,
    ReplacementTables,
    Scope,
    closed,
    held_rows,
    reverted,
    without_strays,
)
from pipelines.segment import (
    Segment,
    SegmentProgress,
    SlicePlan,
    SliceStart,
    first_segment,
    next_segment,
    starts_segment,
)
from pipelines.verdict import Claims, Judge, Seen
from pipelines.window_rows import WindowBlock
from pipelines.windows import SegmentWindows


class SegmentBook(Protocol):
    """Where workers agree on segments."""

    def agree(self, segment: Segment) -> Segment:
        """Return the agreed segment: this one, or one stored before, with its definitions.

        Raises SegmentMismatchError where the stored one starts elsewhere.
        """

    def meters(self, definitions: Sequence[int]) -> list[ActiveMeter]:
        """Return meter definitions by id."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a partition needs to carry second thoughts out."""

    settle: Callable[["Flush"], None]
    """Writes a flush, and all that were taken before it, before returning."""
    corrections: CorrectionTables
    replacing: ReplacementTables
    replacement: Callable[[str, str], Replacement | None]
    """Finds a replacement by tenant and name; it is opened before events are sent for it."""


class SegmentMismatchError(RuntimeError):
    """Another worker computed another segment from the same log: stop and raise an alarm."""

    def __init__(self, at: LogPartition, reason: str) -> None:
        super().__init__(reason)
        self.at = at


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A copy of an event, with the position of the one that counts."""

    tenant: str
    source: str
    id: str
    offset: int
    index: int
    first: Seen


@dataclass(slots=True)
class Flush:
    """What a partition has to write, all tables; everything below `next_offset` is then stored."""

    at: LogPartition
    next_offset: int
    time_max_us: int
    events: list[Any] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    quarantined: list[Any] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    corrections: list[Any] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    windows: list[WindowBlock] = field(default_factory=list)


STORED_SCHEMA = pa.schema([*COUNTED_SCHEMA, pa.field("body_hash", pa.binary(8))])
"""New events as they are stored."""


@dataclass(slots=True)
class PartitionLog:
    """The state of one partition in a worker: its current segment and what is not yet written."""

    at: LogPartition
    book: SegmentBook
    judge: Judge
    desk: Desk
    seed: int
    plan: SlicePlan
    partitions: int
    segment: Segment | None
    slice_starts: dict[int, SliceStart]
    next_offset: int
    time_max_us: int = 0
    bad_events_max: int = BAD_EVENTS_MAX
    """See `pipelines.quarantine`."""
    _progress: SegmentProgress = field(default_factory=lambda: SegmentProgress(0))
    _windows: SegmentWindows | None = None
    _meters: list[ActiveMeter] = field(default_factory=list)
    _pending: Flush = field(init=False)
    _flushed: int = field(init=False)

    def __post_init__(self) -> None:
        self._flushed = self.next_offset
        self._pending = Flush(self.at, self.next_offset, self.time_max_us)
        if self.segment is not None:
            self._enter(self.segment)

    @property
    def pending_rows(self) -> int:
        """Rows that the next flush has to write, roughly."""
        events = sum(int(table.num_rows) for table in self._pending.events)
        return events + (self._windows.touched if self._windows is not None else 0)

    @property
    def is_behind(self) -> bool:
        """True where records were read that no flush covers yet."""
        return self.next_offset > self._flushed

    def feed(self, decoded: Iterable[Decoded]) -> Iterator[Flush]:
        """Take records in order; yield a flush for each segment that ends among them."""
        run: list[Decoded] = []
        for item in decoded:
            if item.record.offset < self.next_offset:
                continue
            if self._starts_next(item):
                self._count(run)
                run = []
                if self.segment is not None and self.is_behind:
                    yield self.take_flush()
                self._roll(item)
            self._progress.add(item.record.append_ms, len(item.record.value), item.event_count)
            self._watch(item)
            if item.second_thought is not None:
                self._count(run)
                run = []
                self._think_again(item.record, item.second_thought)
            self.next_offset = item.record.offset + 1
            run.append(item)
        self._count(run)

    def take_flush(self) -> Flush:
        """Return what is to be written, and start anew."""
        flush = self._pending
        flush.next_offset = self.next_offset
        flush.time_max_us = self.time_max_us
        if self._windows is not None:
            flush.windows = self._windows.take(self.next_offset - 1)
        self._pending = Flush(self.at, self.next_offset, self.time_max_us)
        self._flushed = self.next_offset
        return flush

    def _starts_next(self, item: Decoded) -> bool:
        if self.segment is None:
            return True
        if item.record.offset == self.segment.start_offset:
            return False
        append_ms, forced = item.record.append_ms, item.starts_segment
        return starts_segment(self.segment, self._progress, append_ms, forced=forced)

    def _watch(self, item: Decoded) -> None:
        """Count what streams send, where any of it is bad."""
        streams = self._progress.streams
        if item.dead_letter is not None:
            streams.add_unreadable(item.dead_letter)
        elif item.batch is not None:
            streams.add_readable(item.batch)

    def _roll(self, item: Decoded) -> None:
        offset, append_ms = item.record.offset, item.record.append_ms
        if self.segment is None:
            computed = first_segment(self.at, offset, append_ms)
            self.slice_starts = {0: SliceStart(offset, append_ms, 0)}
        else:
            computed = next_segment(
                self.segment,
                self._progress,
                offset,
                append_ms,
                self.plan,
                self.slice_starts,
                item.release,
            )
        self._enter(self.book.agree(computed))

    def _enter(self, segment: Segment) -> None:
        if self.segment is not None and segment.horizon_slice > self.segment.horizon_slice:
            self.judge.memory.drop_before(segment)
        self.segment = segment
        self.slice_starts = {
            number: start
            for number, start in self.slice_starts.items()
            if number >= segment.horizon_slice
        }
        streams = StreamCounts(segment.streams, self.bad_events_max)
        self._progress = SegmentProgress(segment.started_at_ms, streams=streams)
        self._windows = SegmentWindows(segment)
        self._meters = self.book.meters(segment.definitions)

    def _think_again(self, record: Record, wanted: CorrectionRecord | ReplacementRecord) -> None:
        """Carry second thoughts out, once all that lies before them is stored."""
        if self.is_behind:
            self.desk.settle(self.take_flush())
        place = Place(self.at, record.offset, record.append_ms)
        if isinstance(wanted, CorrectionRecord):
            targets = self.desk.corrections.targets(
                wanted.tenant, wanted.corrections, self.at, place.offset
            )
            applied = apply(wanted, place, targets)
            self._pending.dead_letters += applied.letters
            if applied.rows:
                signed = pa.Table.from_pylist(applied.rows, CORRECTED_SCHEMA)
                self._pending.corrections.append(signed)
                self._add_signed(signed)
            return
        replacement = self.desk.replacement(wanted.tenant, wanted.replacement)
        if replacement is None:
            reason = f"tenant {wanted.tenant} has no replacement {wanted.replacement}"
            self._pending.dead_letters.append(refused_record(record, reason))
            return
        scope = Scope(self.at, place.offset, self.partitions)
        carry_out = closed if wanted.action == "close" else reverted
        for signed in carry_out(replacement, place, scope, self.desk.replacing):
            # Many events: their rows need not wait in memory for the windows that they touch.
            early = Flush(self.at, self.next_offset, self.time_max_us, corrections=[signed])
            self.desk.settle(early)
            self._add_signed(signed)
        self._pending.closed.append(Closed(replacement, wanted.action, place.offset))

    def _add_signed(self, signed: Any) -> None:
        """Fold signed events into every meter that the segment counts, whenever it was made.

        A meter made after an event has what that added in its history.
        """
        assert self._windows is not None  # noqa: S101
        added = fold_all(counted(signed, 1), self._meters)
        self._windows.add(added)
        self._windows.add(map(negated, fold_all(counted(signed, -1), self._meters)))
        for fold in added:
            self._pending.rejections += fold.rejections

    def _count(self, run: list[Decoded]) -> None:
        """Judge and fold a run of records of the current segment."""
        streams = self._progress.streams
        unreadable = [d.dead_letter for d in run if d.dead_letter is not None]
        letters, aside = streams.sorted_out(unreadable)
        let_in, more = streams.let_in(positioned(run))
        events, strays = without_strays(let_in, self.at, self.desk.replacement, self.desk.replacing)
        self._pending.dead_letters += [*letters, *strays]
        self._pending.quarantined += [*aside, *more]
        conflicts = self._judge(events) if events.num_rows else []
        streams.add_judged(let_in, [*strays, *conflicts])

    def _judge(self, events: Any) -> list[DeadLetter]:
        """Judge events and fold the new ones; return the conflicts among them."""
        assert self.segment is not None  # noqa: S101 - a run lies in a segment
        assert self._windows is not None  # noqa: S101
        claims = self._claims(events)
        times_us = events.column("time").cast(pa.int64()).to_numpy()
        verdicts = self.judge.judge(
            self.segment, self.slice_starts, self.next_offset, claims, times_us // 1000
        )
        stored = events
        for name, hashes in (("identity", claims.identities), ("body_hash", claims.body_hashes)):
            stored = stored.append_column(STORED_SCHEMA.field(name), _fixed_binary(hashes))
        conflicts = []
        if verdicts.repeats:
            conflicts = self._set_aside(events, claims, verdicts.repeats)
            stored = stored.take(pa.array(np.flatnonzero(verdicts.is_new)))
            times_us = times_us[verdicts.is_new]
        if not stored.num_rows:
            return conflicts
        held = held_rows(stored)
        live = stored if held is None else stored.filter(pa.array(~held))
        folds = fold_all(live, self._meters)
        self._windows.add(folds)
        for fold in folds:
            self._pending.rejections += fold.rejections
        self._pending.events.append(stored)
        self.time_max_us = max(self.time_max_us, int(times_us.max()))
        return conflicts

    def _claims(self, events: Any) -> Claims:
        return Claims(
            identities(events, self.seed),
            body_hashes(events, self.seed),
            events.column("offset").to_numpy(),
            events.column("index").to_numpy(),
        )

    def _set_aside(self, events: Any, claims: Claims, repeats: Any) -> list[DeadLetter]:
        """Keep copies by position; a copy with another body is a conflict, kept with its bytes."""
        conflicts = []
        rows = sorted(repeats)
        for row, event in zip(rows, events.take(pa.array(rows)).to_pylist(), strict=True):
            first: Seen = repeats[row]
            if claims.body_hashes[row].tobytes() == first.body_hash:
                duplicate = Duplicate(
                    event["tenant"],
                    event["source"],
                    event["id"],
                    event["offset"],
                    event["index"],
                    first,
                )
                self._pending.duplicates.append(duplicate)
            else:
                counting = Position(self.at, first.offset, first.index)
                conflicts.append(conflict_letter(self.at, event, counting))
        self._pending.dead_letters += conflicts
        return conflicts


def _fixed_binary(rows: Any) -> Any:
    """Return an array of so many bytes a row as an Arrow column."""
    kind = pa.binary(rows.shape[1])
    return pa.Array.from_buffers(kind, len(rows), [None, pa.py_buffer(rows.tobytes())])
