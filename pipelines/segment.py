"""Segments: a partition's log cut into pieces that a worker counts in memory.

Where a segment starts is a function of the log alone, so that every worker computes the same
starts; the row in Postgres settles it, and adds what the log does not say: the meters counted.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from pipelines.position import LogPartition
from pipelines.quarantine import StreamCounts, Streams
from pipelines.record import ReleaseRecord

SEGMENT_BYTES_MAX = 64 * 1024 * 1024
"""Bounds the memory of a worker: a segment ends after this many bytes of record values."""
SLICE_EVENTS = 2_000_000
"""A slice of the memory of identities ends at the first segment after this many events."""
SLICES_MAX = 4
"""Verdicts look back over so many slices, the current one included."""

HISTORY_SEGMENT = 1 << 62
"""Stands, in rows of windows, for all that lies below the offset at which a meter was activated."""
AUDIT_SEGMENTS = 1 << 63
"""Rows of audit n of a tenant's chain of cuts stand in segment `AUDIT_SEGMENTS` + n."""

_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Segment:
    """One agreed segment of a partition; all but `definitions` is a function of the log."""

    at: LogPartition
    sequence: int
    start_offset: int
    started_at_ms: int
    """Running maximum of append times at the start, the starting record included."""
    events_before: int
    slice: int
    horizon_slice: int
    horizon_offset: int
    horizon_at_ms: int
    streams: Streams = field(default_factory=Streams)
    """Streams that are set aside, or may come to be; see `pipelines.quarantine`."""
    definitions: tuple[int, ...] = ()


@dataclass(slots=True)
class SegmentProgress:
    """What of the current segment has been read: decides where the next one starts."""

    append_ms_max: int
    value_bytes: int = 0
    events: int = 0
    streams: StreamCounts = field(default_factory=StreamCounts)

    def add(self, append_ms: int, value_bytes: int, events: int) -> None:
        """Account for one record of the segment."""
        self.append_ms_max = max(self.append_ms_max, append_ms)
        self.value_bytes += value_bytes
        self.events += events


class SliceStart(NamedTuple):
    """Where a slice starts: its first segment's offset, append time, and events before it."""

    offset: int
    at_ms: int
    events_before: int


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """How many events a slice holds and how many slices are looked at."""

    slice_events: int = SLICE_EVENTS
    slices_max: int = SLICES_MAX


def starts_segment(
    segment: Segment, progress: SegmentProgress, append_ms: int, *, forced: bool
) -> bool:
    """Tell whether a record with this append time is the first of the next segment."""
    return (
        forced
        or append_ms // _MINUTE_MS > segment.started_at_ms // _MINUTE_MS
        or progress.value_bytes >= SEGMENT_BYTES_MAX
        or progress.streams.has_turned
    )


def first_segment(at: LogPartition, offset: int, append_ms: int) -> Segment:
    """Return the segment that starts at the first record of a partition."""
    return Segment(
        at=at,
        sequence=0,
        start_offset=offset,
        started_at_ms=append_ms,
        events_before=0,
        slice=0,
        horizon_slice=0,
        horizon_offset=offset,
        horizon_at_ms=append_ms,
    )


def next_segment(
    segment: Segment,
    progress: SegmentProgress,
    offset: int,
    append_ms: int,
    plan: SlicePlan,
    slice_starts: dict[int, SliceStart],
    release: ReleaseRecord | None = None,
) -> Segment:
    """Return the segment that starts at `offset`, with a release where that is what stands there.

    `slice_starts` gives the start of each slice from the horizon on, the current one included; the
    new slice, if one begins here, is added to it. Slices are counted, not computed from the number
    of events: a plan of other slices goes on where the one before it stopped.
    """
    events_before = segment.events_before + progress.events
    started_at_ms = max(progress.append_ms_max, append_ms)
    slice_number = segment.slice
    if events_before - slice_starts[slice_number].events_before >= plan.slice_events:
        slice_number += 1
        slice_starts[slice_number] = SliceStart(offset, started_at_ms, events_before)
    oldest = min(s for s in slice_starts if s > slice_number - plan.slices_max)
    horizon = slice_starts[oldest]
    return Segment(
        at=segment.at,
        sequence=segment.sequence + 1,
        start_offset=offset,
        started_at_ms=started_at_ms,
        events_before=events_before,
        slice=slice_number,
        horizon_slice=oldest,
        horizon_offset=horizon.offset,
        horizon_at_ms=horizon.at_ms,
        streams=progress.streams.next_streams(release),
    )
