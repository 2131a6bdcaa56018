from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import (
    amount_text,
    display,
    earned_minor,
    is_currency,
    split_minor,
    text_of,
    to_minor,
)


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("1.665", "USD", 167),
        ("-1.665", "USD", -167),
        ("0.005", "USD", 1),
        ("0.0049999999999", "USD", 0),
        ("0.5", "JPY", 1),
        ("-0.5", "JPY", -1),
        ("0.0005", "KWD", 1),
        ("123456789012345.67", "USD", 12345678901234567),
    ],
)
def test_rounds_half_away_from_zero(amount: str, currency: str, minor: int) -> None:
    assert to_minor(Decimal(amount), currency) == minor


def test_refuses_more_than_the_books_can_hold() -> None:
    with pytest.raises(OverflowError):
        to_minor(Decimal(10) ** 16, "USD")


def test_a_daily_rate_is_never_rounded() -> None:
    used = earned_minor(999, 5, 30)
    assert (used, 999 - used) == (167, 832)


@given(
    billed=st.integers(-(10**9), 10**9),
    days=st.integers(1, 400),
    data=st.data(),
)
def test_any_chain_of_changes_telescopes(billed: int, days: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, days), max_size=6)))
    bounds = [0, *cuts, days]
    parts = [
        earned_minor(billed, until, days) - earned_minor(billed, since, days)
        for since, until in pairwise(bounds)
    ]
    assert sum(parts) == billed


@given(
    amount=st.integers(-(10**12), 10**12),
    weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=20).filter(any),
)
def test_a_split_adds_up_and_is_off_by_less_than_a_unit(amount: int, weights: list[int]) -> None:
    parts = split_minor(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * sum(weights) - amount * weight) < sum(weights)


def test_a_split_gives_the_odd_cent_to_the_largest_remainder() -> None:
    assert split_minor(100, [1, 1, 1]) == [34, 33, 33]
    assert split_minor(-100, [1, 1, 1]) == [-34, -33, -33]
    assert split_minor(10, [1, 5]) == [2, 8]


def test_writes_decimals_without_exponents() -> None:
    assert [text_of(Decimal(x)) for x in ("1E+3", "1.500", "-0.0", "0", "1E-7")] == [
        "1000",
        "1.5",
        "0",
        "0",
        "0.0000001",
    ]
    assert display(-123456789, "USD") == "-1,234,567.89"
    assert display(5, "KWD") == "0.005"


def test_knows_currencies_and_nothing_else() -> None:
    assert is_currency("USD")
    assert not is_currency("usd")
    assert not is_currency("XXX")


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (0, "USD", "0.00"),
        (-1, "USD", "-0.01"),
        (1234560, "USD", "12345.60"),
        (100_000, "JPY", "100000"),
        (5, "KWD", "0.005"),
        (-(10**17), "KWD", "-100000000000000.000"),
    ],
)
def test_an_amount_in_json_has_all_decimals_of_its_currency(
    minor: int, currency: str, text: str
) -> None:
    assert amount_text(minor, currency) == text
