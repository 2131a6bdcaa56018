"""Rows of windows stand in the order of their table, as Python's own sorting of whole rows does."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import window_rows
from pipelines.decimals import limbs_of
from pipelines.fold import ActiveMeter
from pipelines.meter import MeterDefinition
from pipelines.position import LogPartition, version_of
from pipelines.segment import AUDIT_SEGMENTS, Segment, first_segment
from pipelines.values import VALUE_TYPE
from pipelines.window_rows import WINDOW_ROW_SCHEMA, WindowBlock, window_table

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEXTS = ["a", "a\x00", "ä", "Z", "z", "", "a-1", "a-10", "\U0001f600", "\uffff"]
ORDER = (
    "tenant", "meter", "subject", "window_start", "meter_version", "dimensions", "item", "log",
    "partition", "segment",
)  # fmt: skip

Window = tuple[str, str, str, int, int, Decimal]
"""Subject, dimensions, item, start in minutes, count and sum."""


def meter(tenant: str, key: str, version: int, minutes: int = 1) -> ActiveMeter:
    fields = {"key": key, "event_type": "call", "aggregation": "count", "window": f"{minutes}m"}
    return ActiveMeter(version, tenant, version, MeterDefinition.model_validate(fields))


def coded(texts: list[str]) -> Any:
    column = pa.array(texts, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(column.indices.cast(pa.int32()), column.dictionary)


def block_of(of: ActiveMeter, segment: Segment, last_offset: int, held: list[Window]) -> Any:
    subjects, dimensions, items, starts, counts, sums = zip(*held, strict=True)
    starts_us = list(dict.fromkeys([*starts, 7]))  # one that no window has is there, too
    return WindowBlock(
        of,
        segment,
        last_offset,
        coded(list(subjects)),
        coded(list(dimensions)),
        coded(list(items)),
        np.array([starts_us.index(start) for start in starts], np.int32),
        np.array(starts_us, np.int64) * 60_000_000,
        np.array(counts, np.int64),
        limbs_of(pa.array(sums, VALUE_TYPE)),
    )


def naive(of: ActiveMeter, segment: Segment, last_offset: int, window: Window) -> dict[str, Any]:
    subject, dimensions, item, start, count, total = window
    size = of.definition.window_size
    return {
        "tenant": of.tenant,
        "meter": of.definition.key,
        "meter_version": of.version,
        "aggregation": "count",
        "subject": subject,
        "dimensions": dimensions,
        "item": item,
        "window_start": EPOCH + timedelta(minutes=start),
        "window_end": EPOCH + timedelta(minutes=start) + size,
        "log": segment.at.log,
        "partition": segment.at.partition,
        "segment": segment.start_offset,
        "segment_at": EPOCH + timedelta(milliseconds=segment.started_at_ms),
        "version": version_of(0, last_offset),
        "count": count,
        "sum": total,
    }


def by_key(row: dict[str, Any]) -> tuple[Any, ...]:
    parts = (row[name] for name in ORDER)
    return tuple(part.encode() if isinstance(part, str) else part for part in parts)


@pytest.mark.parametrize("bits_max", [63, 30])
@pytest.mark.parametrize("widest", [1, 40, 10_000_000])
@pytest.mark.parametrize("subjects", [TEXTS, [f"customer-{n}" for n in range(5_000)]], ids=len)
def test_rows_stand_as_python_sorts_them(
    bits_max: int, widest: int, subjects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # With few bits, keys of the widest rows are two numbers instead of one.
    monkeypatch.setattr(window_rows, "_BITS_MAX", bits_max)
    dice = random.Random(widest)
    meters = [meter("b", "n", 1), meter("b", "n", 2, 15), meter("a", "n", 1), meter("b", "m", 1)]
    segments = [
        first_segment(LogPartition(log, partition), start, 1_700_000_000_123)
        for log, partition, start in [(0, 3, 5), (0, 1, AUDIT_SEGMENTS + 2), (2, 1, 1 << 62)]
    ]
    blocks, wanted = [], []
    for of in meters:
        for segment in segments:
            keys = {
                (
                    dice.choice(subjects),
                    dice.choice(["{}", '{"a":"x"}', '{"a":"\N{GREEK SMALL LETTER PI}"}']),
                    dice.choice(["", "7", "10"]),
                    dice.randrange(-widest, widest),
                )
                for _ in range(dice.randrange(1, 400))
            }
            held = [
                (*key, dice.randrange(-9, 9), Decimal(dice.randrange(-(10**24), 10**24)) / 10**6)
                for key in dice.sample(sorted(keys), len(keys))
            ]
            last_offset = dice.randrange(1 << 40)
            blocks.append(block_of(of, segment, last_offset, held))
            wanted += [naive(of, segment, last_offset, window) for window in held]
    found = window_table(dice.sample(blocks, len(blocks)))
    assert found.schema == WINDOW_ROW_SCHEMA
    assert all(column.num_chunks == 1 for column in found.columns)
    assert found.to_pylist() == sorted(wanted, key=by_key)


def test_a_window_of_two_flushes_of_its_segment_stands_there_twice() -> None:
    segment, of = first_segment(LogPartition(0, 0), 0, 0), meter("t", "m", 1)
    window: Window = ("s", "{}", "", 0, 1, Decimal(0))
    blocks = [block_of(of, segment, last_offset, [window]) for last_offset in (9, 8)]
    versions = window_table(blocks).column("version").to_pylist()
    assert versions == [version_of(0, 8), version_of(0, 9)]


def test_no_blocks_are_no_rows() -> None:
    assert window_table([]).num_rows == 0
    assert window_table([]).schema == WINDOW_ROW_SCHEMA
