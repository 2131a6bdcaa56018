"""Row numbers by key, against a dictionary."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rows import RowByKey

MIN, MAX = -(1 << 63), (1 << 63) - 1


@pytest.mark.parametrize("spread", [1, 1 << 21, 1 << 42])
@pytest.mark.parametrize("batch", [1, 700])
def test_a_key_keeps_the_row_that_it_got_first(spread: int, batch: int) -> None:
    rnd = random.Random(spread + batch)
    table = RowByKey()
    naive: dict[int, int] = {}
    for _ in range(12):
        keys = rnd.sample(range(-4000, 20_000), batch)
        found = table.rows(np.array(keys, np.int64) * spread).tolist()
        known = [(key, row) for key, row in zip(keys, found, strict=True) if key in naive]
        assert known == [(key, naive[key]) for key, _ in known]
        naive.update(zip(keys, found, strict=True))
        assert sorted(naive.values()) == list(range(len(naive)))
        assert table.count == len(naive)


def test_keys_of_a_batch_may_repeat() -> None:
    table = RowByKey()
    assert table.rows(np.array([5, 7, 5, 5])).tolist() == [0, 1, 0, 0]
    assert table.rows(np.array([5, 9, 7, 9])).tolist() == [0, 2, 1, 2]
    assert table.count == 3
    assert table.keys.tolist() == [5, 7, 9]
    assert table.rows(np.array([], np.int64)).tolist() == []


@given(st.lists(st.lists(st.sampled_from([0, -1, 1, MIN, MAX, 1 << 42]) | st.integers(MIN, MAX))))
def test_any_number_is_a_key(batches: list[list[int]]) -> None:
    table = RowByKey()
    naive: dict[int, int] = {}
    for batch in batches:
        rows = [naive.setdefault(key, len(naive)) for key in batch]
        assert table.rows(np.array(batch, np.int64)).tolist() == rows
    assert table.keys.tolist() == list(naive)


def test_keys_chosen_to_meet_are_found_as_quickly_as_others() -> None:
    # Each is what a table of the well-known multiplier puts at one place.
    inverse = pow(0x9E3779B97F4A7C15, -1, 1 << 64)
    keys = np.array([number * inverse % (1 << 64) for number in range(300_000)], np.uint64)
    table = RowByKey()
    assert table.rows(keys.view(np.int64)).tolist() == list(range(300_000))
