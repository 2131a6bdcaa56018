"""The filter of identities: never wrong about what it was told, seldom about the rest."""

import numpy as np
import pytest

from pipelines.identity_filter import IdentityFilter


@pytest.mark.parametrize("identities", [1, 1_000, 100_000])
def test_what_was_added_is_held_and_most_else_is_not(identities: int) -> None:
    dice = np.random.default_rng(identities)
    words = dice.integers(0, 1 << 32, (2 * identities, 2), dtype=np.uint32)
    held = IdentityFilter(identities)
    for part in np.array_split(words[:identities], 7):
        held.add(part)
    assert held.may_hold(words[:identities]).all()
    assert np.count_nonzero(held.may_hold(words[identities:])) <= 1 + identities // 30


def test_an_empty_filter_holds_nothing() -> None:
    words = np.zeros((3, 2), np.uint32)
    assert not IdentityFilter(100).may_hold(words).any()
    assert IdentityFilter(100).may_hold(words[:0]).shape == (0,)
