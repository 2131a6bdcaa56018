"""Codes by text, against a dictionary."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import code_by_text
from pipelines.code_by_text import CodeByText


def codes_of(table: CodeByText, texts: list[str]) -> list[int]:
    found: list[int] = table.codes(pa.array(texts, pa.string())).tolist()
    return found


def naive_codes(known: dict[str, int], texts: list[str]) -> list[int]:
    return [known.setdefault(text, len(known)) for text in texts]


@settings(deadline=None)
@given(st.lists(st.lists(st.text() | st.sampled_from(["", "a", "a\0", "é", "a" * 1000]))))
def test_a_text_keeps_the_code_that_it_got_first(batches: list[list[str]]) -> None:
    table, known = CodeByText(), dict[str, int]()
    for batch in batches:
        assert codes_of(table, batch) == naive_codes(known, batch)
        assert table.count == len(known)
    codes = np.array(list(known.values())[::-2], np.int64)
    assert table.column(codes).to_pylist() == list(known)[::-2]


def test_many_texts_grow_the_table_and_a_long_one_its_bytes() -> None:
    table, known = CodeByText(), dict[str, int]()
    for batch in range(9):
        texts = [f"customer-{number % 7_000}" for number in range(batch * 900, batch * 900 + 1500)]
        texts.append("x" * 10 ** (batch % 7))
        assert codes_of(table, texts) == naive_codes(known, texts)
    assert table.column(np.arange(table.count)).to_pylist() == list(known)


def test_texts_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever is mixed with nothing comes to nothing.
    monkeypatch.setattr(code_by_text, "_SECRETS", (np.uint64(0), np.uint64(0)))
    table, known = CodeByText(), dict[str, int]()
    for batch in (["a", "b", "ab", "", "a"], [f"{number}" for number in range(600)], ["b", "599"]):
        assert codes_of(table, batch) == naive_codes(known, batch)


def test_a_column_holds_each_text_once_and_no_other() -> None:
    table = CodeByText()
    codes_of(table, ["a", "b", "c", "d"])
    column = table.column(np.array([3, 1, 3, 3, 1]))
    assert column.to_pylist() == ["d", "b", "d", "d", "b"]
    assert sorted(column.dictionary.to_pylist()) == ["b", "d"]
    column.validate(full=True)
    assert table.column(np.zeros(0, np.int64)).to_pylist() == []


def test_a_slice_of_a_column_is_read_from_where_it_starts() -> None:
    table = CodeByText()
    texts = pa.array(["a", "b", "c", "b"], pa.string())
    assert table.codes(texts.slice(1)).tolist() == [0, 1, 0]
    assert table.column(np.array([1, 0])).to_pylist() == ["c", "b"]
