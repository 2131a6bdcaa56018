"""What the current segment of a partition adds to each window: a worker's whole state.

Merged in place by key, so that a batch costs what it touches, not what the segment holds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pyarrow as pa

from pipelines.fold import VALUE_TYPE, ActiveMeter, Fold, WindowKey, Worth, combine
from pipelines.position import version_of
from pipelines.segment import Segment

_TIME = pa.timestamp("ms", tz="UTC")

WINDOW_ROW_SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.string()),
        pa.field("meter", pa.string()),
        pa.field("meter_version", pa.uint32()),
        pa.field("aggregation", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("dimensions", pa.string()),
        pa.field("item", pa.string()),
        pa.field("window_start", _TIME),
        pa.field("window_end", _TIME),
        pa.field("log", pa.uint16()),
        pa.field("partition", pa.uint16()),
        pa.field("segment", pa.uint64()),
        pa.field("segment_at", _TIME),
        pa.field("version", pa.binary(16)),
        pa.field("count", pa.uint64()),
        pa.field("sum", VALUE_TYPE),
        pa.field("min", VALUE_TYPE),
        pa.field("max", VALUE_TYPE),
    ]
)


@dataclass(slots=True)
class SegmentWindows:
    """The windows touched in one segment, per meter, and which of them are not yet written."""

    segment: Segment
    _worth: dict[ActiveMeter, dict[WindowKey, Worth]] = field(default_factory=dict)
    _touched: dict[ActiveMeter, set[WindowKey]] = field(default_factory=dict)

    def add(self, folds: Iterable[Fold]) -> None:
        """Add what a batch of the segment's events is worth."""
        for fold in folds:
            worth = self._worth.setdefault(fold.meter, {})
            for key, added in fold.worth_by_key.items():
                held = worth.get(key)
                worth[key] = added if held is None else combine(held, added)
            self._touched.setdefault(fold.meter, set()).update(fold.worth_by_key)

    @property
    def touched(self) -> int:
        """Windows touched since the last `take_rows`."""
        return sum(len(keys) for keys in self._touched.values())

    def take_rows(self, last_offset: int) -> Any:
        """Return the touched windows as rows, absolute within the segment up to `last_offset`."""
        tables = [self._rows(meter, keys, last_offset) for meter, keys in self._touched.items()]
        self._touched = {}
        return pa.concat_tables(tables) if tables else WINDOW_ROW_SCHEMA.empty_table()

    def _rows(self, meter: ActiveMeter, keys: set[WindowKey], last_offset: int) -> Any:
        ordered = sorted(keys)
        held = self._worth[meter]
        worths = [held[key] for key in ordered]
        rows = len(ordered)
        size_ms = meter.definition.window_size // timedelta(milliseconds=1)
        starts = pa.array([key[3] // 1000 for key in ordered], pa.int64())
        ends = pa.array([key[3] // 1000 + size_ms for key in ordered], pa.int64())
        segment = self.segment
        columns = [
            _repeat(meter.tenant, rows),
            _repeat(meter.definition.key, rows),
            _repeat(meter.version, rows, pa.uint32()),
            _repeat(meter.definition.aggregation, rows),
            pa.array([key[0] for key in ordered], pa.string()),
            pa.array([key[1] for key in ordered], pa.string()),
            pa.array([key[2] for key in ordered], pa.string()),
            starts.cast(_TIME),
            ends.cast(_TIME),
            _repeat(segment.at.log, rows, pa.uint16()),
            _repeat(segment.at.partition, rows, pa.uint16()),
            _repeat(segment.start_offset, rows, pa.uint64()),
            _repeat(segment.started_at_ms, rows, pa.int64()).cast(_TIME),
            _repeat(version_of(0, last_offset), rows, pa.binary(16)),
            pa.array([worth[0] for worth in worths], pa.uint64()),
            pa.array([worth[1] for worth in worths], VALUE_TYPE),
            pa.array([worth[2] for worth in worths], VALUE_TYPE),
            pa.array([worth[3] for worth in worths], VALUE_TYPE),
        ]
        return pa.table(columns, schema=WINDOW_ROW_SCHEMA)


def _repeat(value: Any, rows: int, kind: Any = None) -> Any:
    return pa.repeat(pa.scalar(value, kind or pa.string()), rows)
