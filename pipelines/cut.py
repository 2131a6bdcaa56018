"""Reading the log as of a cut: which segments count whole, and which one is cut in the middle."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.fold import ActiveMeter
from pipelines.position import LogPartition


@dataclass(frozen=True, slots=True)
class AsOf:
    """A cut laid over the segments.

    Segments that start below `whole_below` lie wholly before the cut; what lies between that
    bound and `next_offset` is a piece of one segment, and is folded from raw events.
    """

    next_offset: Mapping[LogPartition, int]
    whole_below: Mapping[LogPartition, int]

    @property
    def is_straddled(self) -> bool:
        """True where the cut lies inside a segment of some partition."""
        return any(self.whole_below[at] < end for at, end in self.next_offset.items())


@dataclass(frozen=True, slots=True)
class EffectiveMeter:
    """A version of a meter with the interval it is in force for, in microseconds since 1970."""

    meter: ActiveMeter
    start_us: int
    end_us: int


def aligned(start_us: int, end_us: int, size_us: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Split `[start, end)` into whole windows `[first, last)` and the edges around them."""
    first = -(-start_us // size_us) * size_us
    last = end_us // size_us * size_us
    if first >= last:
        return first, first, [(start_us, end_us)] if start_us < end_us else []
    edges = [(start_us, first), (last, end_us)]
    return first, last, [(a, b) for a, b in edges if a < b]
