"""Row numbers by key, against a dictionary."""

import random

import numpy as np
import pytest

from pipelines.rows import RowByKey


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


def test_repeated_numbers_have_one_row() -> None:
    table = RowByKey()
    assert table.codes(np.array([5, 7, 5, 5])).tolist() in ([0, 1, 0, 0], [1, 0, 1, 1])
    assert len(set(table.codes(np.array([5, 9, 7])).tolist())) == 3
    assert table.count == 3
