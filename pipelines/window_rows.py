"""Rows of windows as their table takes them: bare columns of many meters and partitions, as one.

Rows stand in the order of the table's key. A server that is handed rows in order need not compare
them again, text by text: that is most of what it spends on an insert.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.decimals import column_of
from pipelines.fold import ActiveMeter
from pipelines.position import version_of
from pipelines.segment import Segment
from pipelines.values import VALUE_TYPE

_TIME = pa.timestamp("ms", tz="UTC")
_TEXT = pa.dictionary(pa.int32(), pa.string())
"""Few of many rows have texts of their own: neither side copies or parses one text twice."""
_BITS_MAX = 63

WINDOW_ROW_SCHEMA = pa.schema(
    [
        pa.field("tenant", _TEXT),
        pa.field("meter", _TEXT),
        pa.field("meter_version", pa.uint32()),
        pa.field("aggregation", _TEXT),
        pa.field("subject", _TEXT),
        pa.field("dimensions", _TEXT),
        pa.field("item", _TEXT),
        pa.field("window_start", _TIME),
        pa.field("window_end", _TIME),
        pa.field("log", pa.uint16()),
        pa.field("partition", pa.uint16()),
        pa.field("segment", pa.uint64()),
        pa.field("segment_at", _TIME),
        pa.field("version", pa.binary(16)),
        pa.field("count", pa.int64()),
        pa.field("sum", VALUE_TYPE),
    ]
)


@dataclass(frozen=True, slots=True)
class WindowBlock:
    """Windows of one meter, absolute within one segment up to an offset, by column.

    `subjects`, `dimensions` and `items` are texts as dictionaries; `starts` are codes of
    `starts_us`, which may hold others, too; `sums` are limbs.
    """

    meter: ActiveMeter
    segment: Segment
    last_offset: int
    subjects: Any
    dimensions: Any
    items: Any
    starts: Any
    starts_us: Any
    counts: Any
    sums: Any

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Where it stands among others of its meter."""
        at = self.segment.at
        return at.log, at.partition, self.segment.start_offset, self.last_offset


def window_table(blocks: Sequence[WindowBlock]) -> Any:
    """Return the rows of blocks as a table of `WINDOW_ROW_SCHEMA`, in the order of its key."""
    # Loading what is compiled takes a second: commands that write no windows do without.
    from pipelines.window_order import laid_out  # noqa: PLC0415

    blocks = sorted((block for block in blocks if len(block.counts)), key=lambda each: each.place)
    if not blocks:
        return WINDOW_ROW_SCHEMA.empty_table()
    subjects, of_subject = _ranked([block.subjects for block in blocks])
    dimensions, of_dimensions = _ranked([block.dimensions for block in blocks])
    items, of_item = _ranked([block.items for block in blocks])
    starts_us, of_start = _distinct([block.starts_us for block in blocks])
    heads = _ranks([(b.meter.tenant.encode(), b.meter.definition.key.encode()) for b in blocks])
    versions = _ranks([block.meter.version for block in blocks])
    high = _Word((max(heads) + 1, len(subjects), len(starts_us), max(versions) + 1))
    low = _Word((len(dimensions), len(items), len(blocks)))
    held = [
        _sorted(
            block,
            (high, low),
            (heads[number] << high.shifts[0] | versions[number] << high.shifts[3], number),
            (
                of_subject[number] << high.shifts[1],
                of_start[number] << high.shifts[2],
                of_dimensions[number] << low.shifts[0],
                of_item[number] << low.shifts[1],
            ),
        )
        for number, block in enumerate(blocks)
    ]
    highs, lows, counts, sums = _merged(held, low.bits if high.bits + low.bits <= _BITS_MAX else 0)
    names = [
        _coded([block.meter.tenant for block in blocks]),
        _coded([block.meter.definition.key for block in blocks]),
        _coded([block.meter.definition.rule for block in blocks]),
    ]
    parts = np.array([high.part(1), high.part(2), low.part(0), low.part(1), low.part(2)])
    shared = _shared(blocks, [codes for codes, _ in names])
    columns = laid_out(highs, lows, parts, shared, starts_us // 1000)
    texts = [*(texts for _, texts in names), subjects, dimensions, items]
    return _table(columns, texts, counts, column_of(sums))


def _sorted(
    block: WindowBlock, words: tuple["_Word", "_Word"], base: tuple[int, int], parts: Any
) -> tuple[Any, ...]:
    """Return the two words of the keys of a block's rows, counts and sums, in order of the keys.

    Block by block, all that is looked at is in the processor's cache.
    """
    from pipelines.window_order import keys_of, order_of  # noqa: PLC0415 - see `window_table`

    subjects, dimensions, items = (
        column.indices.to_numpy() for column in (block.subjects, block.dimensions, block.items)
    )
    keys = keys_of(base, (subjects, block.starts, dimensions, items), parts)
    order = np.arange(len(block.counts))
    for word, column in reversed(list(zip(words, keys, strict=True))):
        order = order_of(column, word.bits, order)
    return tuple(column.take(order, axis=0) for column in (*keys, block.counts, block.sums))


def _merged(held: Sequence[tuple[Any, ...]], low_bits: int) -> tuple[Any, ...]:
    """Return rows of blocks that are in order as rows in order; 0 where a number holds no key."""
    highs, lows, counts, sums = (np.concatenate(parts) for parts in zip(*held, strict=True))
    if low_bits:
        # A stable sort is one that finds what is in order already.
        order = np.argsort(highs << low_bits | lows, kind="stable")
    else:
        order = np.lexsort((lows, highs))
    return tuple(column.take(order, axis=0) for column in (highs, lows, counts, sums))


def _shared(blocks: Sequence[WindowBlock], names: Sequence[Sequence[int]]) -> tuple[Any, Any, Any]:
    """Return what the rows of each block have in common, as `laid_out` takes it."""
    versions = [block.meter.version for block in blocks]
    numbers = [
        (
            block.meter.definition.window_size // timedelta(milliseconds=1),
            block.segment.started_at_ms,
            block.segment.at.log,
            block.segment.at.partition,
        )
        for block in blocks
    ]
    marks = [
        block.segment.start_offset.to_bytes(8, "little") + version_of(0, block.last_offset)
        for block in blocks
    ]
    return (
        np.array([*names, versions], np.int32).T.copy(),
        np.array(numbers, np.int64),
        np.frombuffer(b"".join(marks), np.uint64).reshape(-1, 3).copy(),
    )


def _table(columns: tuple[Any, ...], texts: Sequence[Any], counts: Any, sums: Any) -> Any:
    """Return what `laid_out` returns as a table; `texts` are those of its codes."""
    codes, shorts, times, segments, versions = columns
    tenant, meter, aggregation, subject, dimensions, item = (
        pa.DictionaryArray.from_arrays(pa.array(of_rows), of)
        for of_rows, of in zip(codes[:6], texts, strict=True)
    )
    start, end, segment_at = (pa.array(each).cast(_TIME) for each in times)
    arrays = [
        tenant,
        meter,
        pa.array(codes[6].view(np.uint32)),
        aggregation,
        subject,
        dimensions,
        item,
        start,
        end,
        pa.array(shorts[0]),
        pa.array(shorts[1]),
        pa.array(segments),
        segment_at,
        pa.Array.from_buffers(pa.binary(16), len(counts), [None, pa.py_buffer(versions)]),
        pa.array(counts),
        sums,
    ]
    return pa.table(arrays, schema=WINDOW_ROW_SCHEMA)


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of a key: so many bits each for ranks below some sizes, the first ones highest."""

    sizes: tuple[int, ...]

    @property
    def bits(self) -> int:
        """How many bits it has."""
        bits = sum((size - 1).bit_length() for size in self.sizes)
        assert bits <= _BITS_MAX  # noqa: S101 - rows are few enough to be in memory
        return bits

    @property
    def shifts(self) -> list[int]:
        """Where each rank stands."""
        return [_Word(self.sizes[place + 1 :]).bits for place in range(len(self.sizes))]

    def part(self, place: int) -> tuple[int, int]:
        """Return where a rank stands, and its bits as a mask."""
        return self.shifts[place], (1 << (self.sizes[place] - 1).bit_length()) - 1


def _ranked(columns: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Return all texts of some dictionaries in order of their bytes, and the ranks of each."""
    encoded = pa.concat_arrays([column.dictionary for column in columns]).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary.cast(pa.binary()))
    ranks = np.empty(len(order), np.int64)
    ranks[order.to_numpy()] = np.arange(len(order))
    sizes = [len(column.dictionary) for column in columns]
    return encoded.dictionary.take(order), _split(ranks[encoded.indices.to_numpy()], sizes)


def _distinct(columns: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Return all numbers of some arrays in order, and the ranks of each."""
    numbers, ranks = np.unique(np.concatenate(columns), return_inverse=True)
    return numbers, _split(ranks, [len(column) for column in columns])


def _split(ranks: Any, sizes: Sequence[int]) -> list[Any]:
    return np.split(ranks, np.cumsum(sizes)[:-1])


def _ranks(values: Sequence[Any]) -> list[int]:
    rank_by_value = {value: rank for rank, value in enumerate(sorted(set(values)))}
    return [rank_by_value[value] for value in values]


def _coded(values: Sequence[str]) -> tuple[list[int], Any]:
    texts = list(dict.fromkeys(values))
    return [texts.index(value) for value in values], pa.array(texts, pa.string())
