"""Where segments start, and how positions and versions sort."""

import bisect
import random

import pytest

from pipelines.position import LogPartition, version_of
from pipelines.segment import (
    SEGMENT_BYTES_MAX,
    SegmentProgress,
    SlicePlan,
    SliceStart,
    first_segment,
    next_segment,
    starts_segment,
)

AT = LogPartition(0, 3)
MINUTE = 60_000


def test_a_segment_ends_with_its_minute_and_not_before() -> None:
    segment = first_segment(AT, 0, append_ms=10 * MINUTE)
    progress = SegmentProgress(segment.started_at_ms)
    assert not starts_segment(segment, progress, 11 * MINUTE - 1, forced=False)
    assert starts_segment(segment, progress, 11 * MINUTE, forced=False)


def test_a_broker_clock_that_steps_back_starts_no_segment() -> None:
    segment = first_segment(AT, 0, append_ms=10 * MINUTE)
    assert not starts_segment(segment, SegmentProgress(0), 3 * MINUTE, forced=False)


def test_a_segment_ends_after_its_bytes_and_at_a_tick_that_says_so() -> None:
    segment = first_segment(AT, 0, append_ms=0)
    full = SegmentProgress(0, value_bytes=SEGMENT_BYTES_MAX)
    assert starts_segment(segment, full, 1, forced=False)
    assert starts_segment(segment, SegmentProgress(0), 1, forced=True)


def test_the_horizon_moves_by_whole_slices() -> None:
    plan = SlicePlan(slice_events=10, slices_max=2)
    segment = first_segment(AT, 0, append_ms=0)
    starts = {0: SliceStart(0, 0, 0)}
    seen = []
    for step in range(1, 7):
        progress = SegmentProgress(segment.started_at_ms, events=5)
        segment = next_segment(segment, progress, step, step * MINUTE, plan, starts)
        seen.append((segment.slice, segment.horizon_slice, segment.horizon_offset))
    assert seen == [(0, 0, 0), (1, 0, 0), (1, 0, 0), (2, 1, 2), (2, 1, 2), (3, 2, 4)]


def test_slices_go_on_under_a_plan_of_larger_ones() -> None:
    """A number that fell would look for copies in slices that are not there."""
    small, large = (
        SlicePlan(slice_events=10, slices_max=2),
        SlicePlan(slice_events=30, slices_max=3),
    )
    segment = first_segment(AT, 0, append_ms=0)
    starts = {0: SliceStart(0, 0, 0)}
    seen = []
    for step in range(1, 13):
        plan = small if step <= 4 else large
        progress = SegmentProgress(segment.started_at_ms, events=10)
        segment = next_segment(segment, progress, step, step * MINUTE, plan, starts)
        seen.append((segment.slice, segment.horizon_slice))
    assert seen[:4] == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert seen[4:] == [(4, 2), (4, 2), (5, 3), (5, 3), (5, 3), (6, 4), (6, 4), (6, 4)]


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_at_a_whole_minute_falls_on_the_start_of_a_segment(seed: int) -> None:
    """Where such a cut lies: at the first record appended in that minute or later."""
    rnd = random.Random(seed)
    appended = sorted(rnd.randrange(20 * MINUTE) for _ in range(60))
    segment = first_segment(AT, 0, appended[0])
    progress = SegmentProgress(segment.started_at_ms)
    starts = {0, len(appended)}
    for offset, append_ms in enumerate(appended[1:], 1):
        if starts_segment(segment, progress, append_ms, forced=False):
            starts.add(offset)
            segment = next_segment(
                segment, progress, offset, append_ms, SlicePlan(), {0: SliceStart(0, 0, 0)}
            )
            progress = SegmentProgress(segment.started_at_ms)
        progress.add(append_ms, 1, 1)
    for minute in range(21):
        assert bisect.bisect_left(appended, minute * MINUTE) in starts


def test_a_rebuild_outranks_every_offset() -> None:
    def number(generation: int, offset: int) -> int:
        return int.from_bytes(version_of(generation, offset), "little")

    assert number(0, 5) < number(0, 6) < number(0, 2**48) < number(1, 0)
