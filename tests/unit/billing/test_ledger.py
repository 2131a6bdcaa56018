import uuid
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.ledger import (
    Entry,
    IssuedLine,
    Posting,
    accrual_entries,
    apply_credit,
    open_day,
    recognition_entries,
    reversal,
)
from billing.period import add_months


def issued(amount_minor: int, since: date, until: date) -> IssuedLine:
    return IssuedLine(
        uuid.UUID(int=1), "N-1", 1, "main", "UA", "USD", "access", amount_minor, since, until
    )


@given(
    amount=st.integers(-(10**9), 10**9),
    start=st.integers(0, 27),
    months=st.integers(1, 13),
)
def test_what_the_months_recognise_adds_up_to_what_was_billed(
    amount: int, start: int, months: int
) -> None:
    since = date(2013, 1, 1 + start)
    until = add_months(since, months)
    line = issued(amount, since, until)
    recognised = 0
    for number in range(months):
        for entry in recognition_entries([line], add_months(since, number)):
            assert sum(posting.amount_minor for posting in entry.postings) == 0
            recognised += entry.postings[0].amount_minor
    assert recognised == amount


def test_an_accrual_is_reversed_on_the_first_of_the_next_month() -> None:
    [(entry, opposite)] = accrual_entries(
        [issued(500, date(2013, 1, 1), date(2013, 2, 1))], date(2013, 1, 1)
    )
    assert (entry.effective_on, opposite.effective_on) == (date(2013, 1, 31), date(2013, 2, 1))
    assert [(p.account, p.amount_minor) for p in entry.postings] == [
        ("unbilled_receivable", 500),
        ("revenue:access", -500),
    ]
    assert [p.amount_minor for p in opposite.postings] == [-500, 500]
    assert opposite.reverses == entry.posting_key
    assert reversal(opposite, entry.effective_on).postings == entry.postings


def test_an_entry_that_does_not_sum_to_zero_cannot_be_made() -> None:
    with pytest.raises(AssertionError):
        Entry("k", "invoice", date(2013, 1, 1), "", "main", "UA", "USD",
              (Posting("receivable", 5), Posting("revenue:a", -4)))  # fmt: skip


def test_a_credit_goes_to_open_invoices_in_order_and_no_further() -> None:
    one, two = uuid.UUID(int=1), uuid.UUID(int=2)
    assert apply_credit(70, [(one, 40), (two, 20)]) == [(one, 40), (two, 20)]
    assert apply_credit(50, [(one, 40), (two, 20)]) == [(one, 40), (two, 10)]
    assert apply_credit(50, []) == []


def test_nothing_is_booked_into_a_locked_day() -> None:
    assert open_day(date(2013, 1, 15), None) == date(2013, 1, 15)
    assert open_day(date(2013, 1, 15), date(2013, 1, 31)) == date(2013, 2, 1)
    assert open_day(date(2013, 2, 15), date(2013, 1, 31)) == date(2013, 2, 15)
    days = [open_day(date(2013, 1, day), date(2013, 1, 10)) for day in range(1, 20)]
    assert all(one <= other for one, other in pairwise(days))
