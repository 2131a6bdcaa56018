"""Rows stand in the order of a table's key, as Python's own sorting of whole rows puts them."""

import random
from typing import Any

import pyarrow as pa
import pytest

from pipelines.key_order import in_order

TIME = pa.timestamp("ms", tz="UTC")
NAMES = ("tenant", "subject", "start", "segment")


def rows_of(table: Any) -> list[tuple[bytes, bytes, int, int]]:
    columns = [[text.encode() for text in table.column(name).to_pylist()] for name in NAMES[:2]] + [
        table.column(name).cast(pa.int64()).to_pylist() for name in NAMES[2:]
    ]
    return list(zip(*columns, strict=True))


def table_of(rows: list[tuple[str, str, int, int]]) -> Any:
    tenants, subjects, starts, segments = zip(*rows, strict=True)
    return pa.table(
        {
            "tenant": pa.array(tenants).dictionary_encode(),
            "subject": pa.array(subjects).dictionary_encode(),
            "start": pa.array(starts, pa.int64()).cast(TIME),
            "segment": pa.array(segments, pa.uint64()),
        }
    )


@pytest.mark.parametrize("widest", [1, 1000, 1 << 50, 1 << 61])
def test_rows_stand_as_python_sorts_them(widest: int) -> None:
    dice = random.Random(widest)
    rows = [
        (
            dice.choice("ab"),
            dice.choice(["a", "a\x00", "ä", "Z", "z", "", "a-1", "a-10", "\U0001f600", "\uffff"]),
            dice.randrange(-widest, widest) // 4,
            dice.choice([0, 1, 1 << 62]),
        )
        for _ in range(300)
    ]
    table = table_of(rows)
    ordered = in_order(table, NAMES)
    assert rows_of(ordered) == sorted(rows_of(table))


def test_rows_of_several_chunks_stand_in_one_order() -> None:
    parts = [
        table_of([("t", name, start, segment) for name in names for start in (3, 1, 2)])
        for names, segment in (("cab", 7), ("dba", 8), ("b", 9))
    ]
    table = pa.concat_tables(parts).append_column("count", pa.array(range(21)))
    ordered = in_order(table.unify_dictionaries(), NAMES)
    assert all(column.num_chunks == 1 for column in ordered.columns)
    assert ordered.schema == table.schema
    whole = list(zip(rows_of(table), range(21), strict=True))
    kept = list(zip(rows_of(ordered), ordered.column("count").to_pylist(), strict=True))
    assert kept == sorted(whole)


def test_a_table_without_rows_stays_as_it_is() -> None:
    empty = table_of([("t", "s", 1, 1)]).slice(0, 0).combine_chunks()
    assert in_order(empty, NAMES).num_rows == 0
