"""States of a subscription: the table of moves, and what its terms make fall due."""

from datetime import UTC, datetime
from typing import get_args
from zoneinfo import ZoneInfo

import pytest

from billing.clock import later
from billing.customer import Subscription
from billing.lifecycle import MOVES, State, Work, first_state, moved_by, work_of
from tests.unit.billing.test_run import BOOK, CUSTOMERS
from tests.unit.billing.world import METERS, faults_of

NEW_YORK = ZoneInfo("America/New_York")


def subscription(**given: object) -> Subscription:
    items = [{"key": "main", "price_book": "airport"}]
    content = {"key": "S", "customer": "UA", "start": "2013-01-01", "items": items, **given}
    return Subscription.model_validate(content)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def test_every_state_has_its_moves_and_canceled_has_none() -> None:
    assert set(MOVES) == set(get_args(State))
    assert MOVES["canceled"] == frozenset()
    assert all("canceled" in moves for state, moves in MOVES.items() if state != "canceled")
    assert all("draft" not in moves for moves in MOVES.values())


def test_it_is_a_draft_until_its_first_day_begins_where_the_customer_is() -> None:
    one = subscription(end="2013-03-10")
    assert first_state(one, NEW_YORK, utc(2013, 1, 1, 4, 59)) == "draft"
    assert first_state(one, NEW_YORK, utc(2013, 1, 1, 5)) == "active"
    assert work_of(one, NEW_YORK, "draft") == [
        Work("S", utc(2013, 1, 1, 5), "start"), Work("S", utc(2013, 3, 10, 5), "end"),
    ]  # fmt: skip
    assert work_of(one, NEW_YORK, "active") == [Work("S", utc(2013, 3, 10, 5), "end")]
    assert work_of(one, NEW_YORK, "canceled") == []


def test_due_work_moves_only_along_the_table_and_twice_as_once() -> None:
    for state in get_args(State):
        for kind in ("start", "end"):
            to = moved_by(kind, state)
            assert to == state or to in MOVES[state]
            assert moved_by(kind, to) == to


@pytest.mark.parametrize(
    ("span", "until"),
    [
        ("1 month", utc(2013, 2, 28, 12)), ("2 months", utc(2013, 3, 31, 12)),
        ("1 year", utc(2014, 1, 31, 12)), ("36 hours", utc(2013, 2, 2)),
        ("1 week", utc(2013, 2, 7, 12)),
    ],
)  # fmt: skip
def test_a_span_is_counted_from_an_instant(span: str, until: datetime) -> None:
    assert later(utc(2013, 1, 31, 12), span) == until


@pytest.mark.parametrize("span", ["", "0 days", "-1 day", "1.5 days", "1 fortnight", "99999 years"])
def test_what_is_no_span_or_too_far_is_refused(span: str) -> None:
    with pytest.raises(ValueError, match=r"not a span|too far"):
        later(utc(2013, 1, 31, 12), span)


def test_a_successor_names_one_of_its_customer_that_has_ended() -> None:
    old = "S-UA, customer: UA, start: 2013-01-01,"
    successor = (
        "- {{key: N, customer: {}, start: {}, predecessor: {},"
        " items: [{{key: m, price_book: airport}}]}}"
    )

    def faults(customer: str, start: str, predecessor: str) -> list[str]:
        ended = CUSTOMERS.replace(old, f"{old} end: 2013-03-01,")
        text = ended + successor.format(customer, start, predecessor)
        return faults_of(METERS, BOOK, text)

    assert faults("UA", "2013-03-01", "S-UA") == []
    assert "has not ended by 2013-02-01" in str(faults("UA", "2013-02-01", "S-UA"))
    assert "is of customer UA" in str(faults("DL", "2013-03-01", "S-UA"))
    assert "no subscription X" in str(faults("UA", "2013-03-01", "X"))
    assert "no subscription N" in str(faults("UA", "2013-03-01", "N"))
