"""States of a subscription: the table of moves, and what its terms make fall due."""

from datetime import UTC, date, datetime
from typing import get_args
from zoneinfo import ZoneInfo

import pytest

from billing.clock import later
from billing.customer import Subscription
from billing.lifecycle import MOVES, ORDER, State, Work, first_state, moved_by, work_of
from billing.verbs import VerbError, with_payment_method, with_trial_until
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


def test_a_trial_is_reminded_of_ends_and_leads_where_it_says() -> None:
    one = subscription(trial={"days": 14, "remind_days": [3, 20, 1], "then": "past_due"})
    work = [(each.kind, each.due_at.day) for each in work_of(one, NEW_YORK, "draft")]
    assert work == [("try", 1), ("remind", 12), ("remind", 14), ("lapse", 15)]
    assert first_state(one, NEW_YORK, utc(2013, 1, 15, 4, 59)) == "trialing"
    assert first_state(one, NEW_YORK, utc(2013, 1, 15, 5)) == "active"
    lapsing = subscription(trial={"ends": "2013-01-15", "then": "canceled"}, end="2013-12-31")
    work = [(each.kind, each.due_at.day) for each in work_of(lapsing, NEW_YORK, "trialing")]
    assert work == [("end", 15)]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, "convert"),
        ({"payment_method": "needed"}, "lapse"),
        ({"payment_method": "needed", "without": "canceled"}, "end"),
        ({"payment_method": "given", "without": "canceled"}, "convert"),
        ({"payment_method": "given", "then": "past_due"}, "lapse"),
    ],
)
def test_where_a_trial_leads_hangs_on_the_payment_method_that_it_needs(
    given: dict[str, str], kind: str
) -> None:
    one = subscription(trial={"days": 14, **given})
    assert [each.kind for each in work_of(one, NEW_YORK, "trialing")] == [kind]


def test_a_payment_method_is_given_once_where_it_is_needed_and_before_the_trial_ends() -> None:
    today = date(2013, 1, 10)
    one = subscription(trial={"days": 14, "payment_method": "needed", "without": "canceled"})
    assert one.end_at(NEW_YORK) == utc(2013, 1, 15, 5)
    with pytest.raises(VerbError, match="with a payment method only"):
        with_trial_until(one, today, today)
    ready = with_payment_method(one, today)
    assert (ready.end_at(NEW_YORK), ready.billed_from) == (None, date(2013, 1, 15))
    assert with_trial_until(ready, today, today).billed_from == today
    for terms, day in ((ready, today), (one, date(2013, 1, 15)), (subscription(), today)):
        with pytest.raises(VerbError):
            with_payment_method(terms, day)


def test_a_trial_is_extended_or_converts_now_while_it_goes_on() -> None:
    one = subscription(trial={"days": 14, "then": "canceled"})
    today = date(2013, 1, 10)
    longer = with_trial_until(one, date(2013, 2, 1), today)
    assert (longer.billed_from, longer.end_at(NEW_YORK)) == (date(2013, 2, 1), utc(2013, 2, 1, 5))
    converted = with_trial_until(one, today, today)
    assert (converted.billed_from, converted.end_at(NEW_YORK)) == (today, None)
    assert with_trial_until(one, date(2013, 1, 1), date(2013, 1, 1)).trial is None
    for on, now in ((date(2013, 1, 9), today), (date(2013, 3, 1), date(2013, 1, 15))):
        with pytest.raises(VerbError):
            with_trial_until(one, on, now)


def test_a_customer_tries_a_price_book_once_unless_it_may_again() -> None:
    terms = (
        "- {{key: {}, customer: UA, start: {}, end: {}, trial: {},"
        " items: [{{key: m, price_book: airport}}]}}\n"
    )
    first = terms.format("A", "2014-01-01", "2014-02-01", "{days: 7}")
    head = CUSTOMERS.split("subscriptions:")[0] + "subscriptions:\n" + first
    second = head + terms.format("B", "2014-03-01", "2014-05-01", "{days: 7}")
    assert "tries price book airport with subscription B already" in str(
        faults_of(METERS, BOOK, second)
    )
    again = head + terms.format("B", "2014-03-01", "2014-05-01", "{days: 7, again: true}")
    assert faults_of(METERS, BOOK, again) == []


def test_due_work_moves_only_along_the_table_and_twice_as_once() -> None:
    for state in get_args(State):
        for kind in ORDER:
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
