"""What the current segment of a partition adds to each window: a worker's whole state.

Columnar, and merged in place by key: a batch costs what it touches, not what the segment holds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.decimals import limbs_of
from pipelines.fold import ActiveMeter, Fold
from pipelines.segment import Segment
from pipelines.window_rows import WindowBlock, window_table

if TYPE_CHECKING:
    from pipelines.code_by_text import CodeByText
    from pipelines.rows import RowByKey

_CODE_BITS = 21
"""A segment is bounded by its bytes, so that it has fewer distinct values than this holds."""
_CODE_MAX = (1 << _CODE_BITS) - 1


@dataclass(slots=True)
class SegmentWindows:
    """The windows touched in one segment, per meter, and which of them are not yet written."""

    segment: Segment
    _meters: dict[ActiveMeter, "_MeterWindows"] = field(default_factory=dict)

    def add(self, folds: Iterable[Fold]) -> None:
        """Add what a batch of the segment's events is worth."""
        for fold in folds:
            if len(fold.windows):
                self._of(fold.meter).add(fold)

    def _of(self, meter: ActiveMeter) -> "_MeterWindows":
        if meter not in self._meters:
            self._meters[meter] = _MeterWindows()
        return self._meters[meter]

    @property
    def touched(self) -> int:
        """Windows touched since the last `take_rows`."""
        return sum(windows.touched_count for windows in self._meters.values())

    def take(self, last_offset: int) -> list[WindowBlock]:
        """Return the touched windows, absolute within the segment up to `last_offset`."""
        return [
            windows.take(meter, self.segment, last_offset)
            for meter, windows in self._meters.items()
            if windows.touched_count
        ]

    def take_rows(self, last_offset: int) -> Any:
        """Return the same as rows of their table."""
        return window_table(self.take(last_offset))


def _row_by_key() -> "RowByKey":
    # Loading what is compiled takes a second: commands that count no windows do without.
    from pipelines.rows import RowByKey  # noqa: PLC0415

    return RowByKey()


def _code_by_text() -> "CodeByText":
    from pipelines.code_by_text import CodeByText  # noqa: PLC0415 - see `_row_by_key`

    return CodeByText()


@dataclass(slots=True)
class _MeterWindows:
    """The windows of one meter in one segment: row numbers by key, and growing columns."""

    touched_count: int = 0
    _subjects: "CodeByText" = field(default_factory=_code_by_text)
    _dimensions: "CodeByText" = field(default_factory=_code_by_text)
    _items: "CodeByText" = field(default_factory=_code_by_text)
    _groups: "RowByKey" = field(default_factory=_row_by_key)
    """(dimensions, item) as one code."""
    _starts: "RowByKey" = field(default_factory=_row_by_key)
    _rows: "RowByKey" = field(default_factory=_row_by_key)
    """By subject, group and start, as one code."""
    _counts: Any = field(default_factory=lambda: np.zeros(0, np.int64))
    _sums: Any = field(default_factory=lambda: np.zeros((0, 2), np.uint64))
    """As limbs."""
    _touched: Any = field(default_factory=lambda: np.zeros(0, bool))

    def add(self, fold: Fold) -> None:
        """Add a fold."""
        from pipelines.sums import add_up  # noqa: PLC0415 - see `_row_by_key`

        rows = self._numbered(fold)
        self._grow(self._rows.count)
        limbs = np.zeros((0, 2), np.uint64) if fold.sums is None else limbs_of(fold.sums)
        held = (self._counts, self._sums, self._touched)
        self.touched_count += add_up(rows, fold.counts, limbs, *held)

    def take(self, meter: ActiveMeter, segment: Segment, last_offset: int) -> WindowBlock:
        """Return the windows touched since the last time."""
        rows = np.flatnonzero(self._touched[: self._rows.count])
        self._touched[rows] = False
        self.touched_count = 0
        keys = self._rows.keys.take(rows)
        groups = self._groups.keys[(keys >> _CODE_BITS) & _CODE_MAX]
        return WindowBlock(
            meter,
            segment,
            last_offset,
            self._subjects.column(keys >> (2 * _CODE_BITS)),
            self._dimensions.column(groups >> _CODE_BITS),
            self._items.column(groups & _CODE_MAX),
            (keys & _CODE_MAX).astype(np.int32),
            self._starts.keys,
            self._counts.take(rows),
            self._sums.take(rows, axis=0),
        )

    def _numbered(self, fold: Fold) -> Any:
        """Return the row of each window of a fold; new windows get new rows."""
        subjects = self._subjects.codes(fold.subjects.texts)[fold.subjects.codes]
        dimensions = self._dimensions.codes(fold.dimensions.texts)[fold.dimensions.codes]
        items = self._items.codes(fold.items.texts)[fold.items.codes]
        groups = self._groups.rows((dimensions << _CODE_BITS) | items)
        starts = self._starts.rows(fold.windows)
        numbered = (self._subjects, self._dimensions, self._items, self._groups, self._starts)
        assert max(each.count for each in numbered) <= _CODE_MAX  # noqa: S101 - see _CODE_BITS
        return self._rows.rows((subjects << (2 * _CODE_BITS)) | (groups << _CODE_BITS) | starts)

    def _grow(self, rows: int) -> None:
        if rows <= len(self._counts):
            return
        more = max(1024, 2 * rows) - len(self._counts)
        self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)])
        self._sums = np.concatenate([self._sums, np.zeros((more, 2), np.uint64)])
        self._touched = np.concatenate([self._touched, np.zeros(more, bool)])
