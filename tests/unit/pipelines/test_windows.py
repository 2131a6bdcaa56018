"""A segment's windows, merged in place, against a dictionary of exact numbers."""

import random
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from pipelines.decimals import column_of, limbs_of
from pipelines.fold import ActiveMeter, WindowKey, Worth, combine, fold_all
from pipelines.meter import MeterDefinition
from pipelines.position import LogPartition
from pipelines.segment import first_segment
from pipelines.sums import add_up, summed
from pipelines.values import EXACT, VALUE_TYPE
from pipelines.windows import SegmentWindows
from tests.unit.pipelines.test_fold import NOON, events

EXTREMES = [
    Decimal(0), Decimal(1), Decimal(-1), Decimal("1e-12"), Decimal("-1e-12"),
    Decimal("18446744.073709551615"), Decimal("18446744.073709551616"),
    Decimal(10) ** 18 - 1, -(Decimal(10) ** 18) + 1,
]  # fmt: skip


def column(numbers: list[Decimal]) -> pa.Array:
    return pa.array(numbers, VALUE_TYPE)


def test_limbs_add_as_numbers_do() -> None:
    pairs = [(a, b) for a in EXTREMES for b in EXTREMES]
    left, right = (limbs_of(column(list(side))) for side in zip(*pairs, strict=True))
    totals, touched, ones = left.copy(), np.zeros(len(pairs), bool), np.ones(len(pairs), np.int64)
    rows, counts = np.arange(len(pairs)), np.zeros(len(pairs), np.int64)
    assert add_up(rows, ones, right, counts, totals, touched) == len(pairs)
    assert column_of(totals).to_pylist() == [EXACT.add(a, b) for a, b in pairs]
    assert add_up(rows, ones, right, counts, totals, touched) == 0
    assert counts.tolist() == [2] * len(pairs)


def test_sums_of_groups_are_those_of_their_numbers() -> None:
    dice = random.Random(2)
    numbers = [dice.choice(EXTREMES) for _ in range(500)]
    groups = [dice.randrange(7) for _ in numbers]
    naive = [Decimal(0)] * 8
    for number, group in zip(numbers, groups, strict=True):
        naive[group] = EXACT.add(naive[group], number)
    assert column_of(summed(limbs_of(column(numbers)), np.array(groups), 8)).to_pylist() == naive


def test_limbs_of_a_slice_are_those_of_its_rows() -> None:
    whole = column(EXTREMES)
    assert column_of(limbs_of(whole.slice(2, 3))).to_pylist() == EXTREMES[2:5]


@pytest.mark.parametrize(
    "fields",
    [
        {"aggregation": "count", "dimensions": {"d": "$.d"}},
        {"aggregation": "sum", "value": "$.v", "dimensions": {"d": "$.d"}},
        {"aggregation": "max", "value": "$.v"},
        {"aggregation": "latest", "value": "$.v"},
        {"aggregation": "avg", "value": "$.v", "dimensions": {"e": "$.e"}},
        {"aggregation": "percentile", "value": "$.v", "percentile": "95"},
        {"aggregation": "unique_count", "value": "$.d", "dimensions": {"e": "$.e"}},
    ],
)
def test_merged_windows_equal_a_dictionary_of_exact_numbers(fields: dict[str, object]) -> None:
    rnd = random.Random(1)
    definition = MeterDefinition.model_validate({"key": "m", "event_type": "call"} | fields)
    meter = ActiveMeter(1, "t", 1, definition)
    windows = SegmentWindows(first_segment(LogPartition(0, 0), 0, 0))
    naive: dict[WindowKey, Worth] = {}
    stored: dict[WindowKey, Worth] = {}
    for flush in range(6):
        touched = set()
        for _ in range(3):
            texts = [
                b'{"v":%s,"d":"%d","e":%d}'
                % (str(rnd.choice(EXTREMES)).encode(), rnd.randrange(30 * flush + 1), n % 3)
                for n in range(100)
            ]
            folds = fold_all(events(*texts, minutes=rnd.randrange(3)), [meter])
            windows.add(folds)
            for fold in folds:
                for key, worth in fold.worth_by_key().items():
                    naive[key] = combine(naive[key], worth) if key in naive else worth
                    touched.add(key)
        assert windows.touched == len(touched)
        rows = windows.take_rows(flush).to_pylist()
        assert len(rows) == len(touched)
        for row in rows:
            start_us = (row["window_start"] - NOON).total_seconds() * 1_000_000
            key = (
                row["subject"],
                row["dimensions"],
                row["item"],
                int(NOON.timestamp()) * 1_000_000 + int(start_us),
            )
            stored[key] = (row["count"], row["sum"])
    assert stored == naive
    assert windows.touched == 0
    assert windows.take_rows(9).num_rows == 0


def test_sums_of_the_greatest_values_are_exact_beyond_28_digits() -> None:
    top, bit = Decimal(10) ** 18 - 1, Decimal("1e-12")
    assert combine((1, top), (1, bit))[1] == EXACT.add(top, bit)
    assert EXACT.add(top, bit) - bit == top


def test_ever_more_windows_are_merged_by_key() -> None:
    meter = ActiveMeter(1, "t", 1, MeterDefinition(key="m", event_type="call", aggregation="count"))
    windows = SegmentWindows(first_segment(LogPartition(0, 0), 0, 0))
    (fold,) = fold_all(events(*([b""] * 3000), minutes=15), [meter])
    for day in range(40):
        moved = fold.windows + np.int64(day * 3000 * 900_000_000)
        windows.add(
            [type(fold)(meter, [], fold.subjects, fold.dimensions, fold.items, moved, fold.counts)]
        )
    assert windows.touched == 120_000
