"""The windows of an answer: minutes, hours, local days and months of a time zone.

Windows of one kind never overlap and leave no gap. An hour in which the offset changes ends, and
the next begins, at the change, unless the offset changes by whole hours. A day starts at its first
instant: midnight, or where a change skips midnight, the change. Times are microseconds since 1970.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np

from ingest.event import EPOCH, microseconds

WindowSize = Literal["minute", "hour", "day", "month"]

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
WINDOWS_MAX = 10_000
"""As many days or months can be asked at once."""

_GRID_US = {"minute": MINUTE_US, "hour": HOUR_US}
_SCAN = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows of one length, in pieces of time: from each piece's start on, its offset holds."""

    size_us: int
    pieces: tuple[tuple[int, int], ...]
    """(start, offset from UTC), both in microseconds, in order"""

    def bounds(self, at_us: int) -> tuple[int, int]:
        """Return start and end of the window that an instant lies in."""
        index = max(bisect_right(self.pieces, at_us, key=lambda piece: piece[0]) - 1, 0)
        begins, offset = self.pieces[index]
        start = (at_us + offset) // self.size_us * self.size_us - offset
        end = start + self.size_us
        if index > 0:
            start = max(start, begins)
        if index + 1 < len(self.pieces):
            end = min(end, self.pieces[index + 1][0])
        return start, end

    def starts(self, times_us: Any) -> Any:
        """Return where the windows of an array of instants start."""
        begins, offsets = np.array(self.pieces, np.int64).T
        index = np.maximum(np.searchsorted(begins, times_us, "right") - 1, 0)
        starts = (times_us + offsets[index]) // self.size_us * self.size_us - offsets[index]
        return np.where(index > 0, np.maximum(starts, begins[index]), starts)

    def is_made_of(self, size_us: int) -> bool:
        """Tell whether every window is made of whole windows of a meter."""
        return self.size_us % size_us == 0 and all(
            offset % size_us == 0 and (index == 0 or start % size_us == 0)
            for index, (start, offset) in enumerate(self.pieces)
        )


@dataclass(frozen=True, slots=True)
class Marks:
    """Windows from each mark to the next."""

    marks: tuple[int, ...]

    def bounds(self, at_us: int) -> tuple[int, int]:
        """Return start and end of the window that an instant between the marks lies in."""
        index = bisect_right(self.marks, at_us)
        assert 0 < index < len(self.marks)  # noqa: S101 - the marks span what was asked
        return self.marks[index - 1], self.marks[index]

    def starts(self, times_us: Any) -> Any:
        """Return where the windows of an array of instants between the marks start."""
        marks = np.array(self.marks, np.int64)
        return marks[np.searchsorted(marks, times_us, "right") - 1]


LocalWindows = Grid | Marks


def local_windows(
    size: WindowSize | None, zone: ZoneInfo, start_us: int, end_us: int
) -> LocalWindows:
    """Return the windows that `[start, end)` touches; without a size it is one window.

    Raises:
        ValueError: it touches more days or months than can be asked at once.
    """
    assert start_us < end_us  # noqa: S101 - callers answer nothing to an empty interval
    if size is None:
        return Marks((start_us, end_us))
    if size in _GRID_US:
        return _grid(_GRID_US[size], zone, start_us, end_us)
    marks: list[int] = []
    for day in _days(size, _local(start_us, zone).date()):
        mark = _first_instant(day, zone)
        if not marks or mark > marks[-1]:
            marks.append(mark)
        if mark >= end_us:
            break
        if len(marks) > WINDOWS_MAX:
            raise ValueError(f"more than {WINDOWS_MAX} windows; ask for a shorter interval")
    return Marks(tuple(marks))


def _days(size: WindowSize, day: date) -> Iterator[date]:
    if size == "month":
        day = day.replace(day=1)
    while True:
        yield day
        if size == "day":
            day += timedelta(days=1)
        else:
            day = (day + timedelta(days=31)).replace(day=1)


def _first_instant(day: date, zone: ZoneInfo) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    at_us = microseconds(midnight)
    if _local(at_us, zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return at_us
    return _change(microseconds(midnight.replace(fold=1)), at_us, zone)


def _grid(size_us: int, zone: ZoneInfo, start_us: int, end_us: int) -> Grid:
    """Return the pieces of an interval, and of a window on either side."""
    start_us, end_us = start_us - size_us, end_us + size_us
    pieces = [(start_us, _offset_us(start_us, zone))]
    known_us = start_us
    while known_us < end_us:
        next_us = min(known_us + _SCAN // timedelta(microseconds=1), end_us)
        if _offset_us(next_us, zone) != _offset_us(known_us, zone):
            change = _change(known_us, next_us, zone)
            offset = _offset_us(change, zone)
            if (offset - pieces[-1][1]) % size_us:
                pieces.append((change, offset))
        known_us = next_us
    return Grid(size_us, tuple((start, offset % size_us) for start, offset in pieces))


def _change(before_us: int, after_us: int, zone: ZoneInfo) -> int:
    """Return the first second after `before` at which the offset is that of `after`."""
    wanted = _offset_us(after_us, zone)
    low, high = before_us // SECOND_US, -(-after_us // SECOND_US)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_us(middle * SECOND_US, zone) == wanted:
            high = middle
        else:
            low = middle
    return high * SECOND_US


def _offset_us(at_us: int, zone: ZoneInfo) -> int:
    offset = _local(at_us, zone).utcoffset()
    assert offset is not None  # noqa: S101 - the time has a zone
    return offset // timedelta(microseconds=1)


def _local(at_us: int, zone: ZoneInfo) -> datetime:
    return (EPOCH + timedelta(microseconds=at_us)).astimezone(zone)
