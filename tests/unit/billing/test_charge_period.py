"""How terms cut a charge's period: from when to when, why, and by whose calendar."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from billing.charge_period import ChargePeriod, continues
from billing.due import BilledPeriod, Scope, again, due
from billing.facts import Facts
from tests.unit.billing.charges import charge_of
from tests.unit.billing.world import METERS, facts_of

BOOK = """
price_books:
- key: book
  versions:
  - {version: 1, currency: USD, charges: [
     {key: fee, model: flat, amount: "30.00", timing: advance},
     {key: desks, model: per_seat, quantity_from: item, timing: advance, unit_price: "2"},
     {key: peak, model: per_unit, meter: aircraft, unit_price: "1", minimum: "5",
      included: "9", rollover: true},
     {key: calls, model: per_unit, meter: seats, unit_price: "1"}]}
  - {version: 2, effective_from: 2013-05-01, currency: USD, charges: [
     {key: fee, model: flat, amount: "60.00", timing: advance},
     {key: peak, model: per_unit, meter: aircraft, unit_price: "2", minimum: "5",
      included: "9", rollover: true},
     {key: calls, model: per_unit, meter: seats, unit_price: "2"}]}
"""


def agreed(items: str = "", zone: str = "America/New_York", **more: str) -> Facts:
    """Return what is agreed from April 2013 on; an item a of the book where none are given."""
    fields = "".join(f"{name}: {value}, " for name, value in more.items())
    subscription = (
        f"subscriptions: [{{key: S, customer: C, start: 2013-04-01, {fields}"
        f"items: [{items or '{key: a, price_book: book}'}]}}]"
    )
    customer = f"customers: [{{key: C, name: C, currency: USD, time_zone: {zone}, subjects: [s]}}]"
    return facts_of(METERS, BOOK, customer, subscription)


def periods_of(facts: Facts, charge: str = "fee", item: str = "a") -> list[ChargePeriod]:
    """Return the periods of a charge of an item, of three months."""
    found = due(facts, {}, Scope("bill", date(2013, 7, 1)))
    return [one for one in found if (one.charge, one.item) == (charge, item)]


def cut(period: ChargePeriod) -> list[tuple[str, str, str, str]]:
    """Return where each piece begins and ends, and why."""
    return [
        (f"{one.starts_on:%m-%d}", f"{one.ends_on:%m-%d}", one.begins, one.ends)
        for one in period.pieces
    ]


APRIL = ("04-01", "05-01", "", "")
PERIODS = {
    "a month is whole": (agreed(), [APRIL]),
    "the subscription ends": (
        agreed(end="2013-04-11"),
        [("04-01", "04-11", "", "the subscription ends")],
    ),
    "an item ends before its subscription": (
        agreed("{key: a, price_book: book, end: 2013-04-11}", end="2013-06-01"),
        [("04-01", "04-11", "", "a ends")],
    ),
    "an item ends where nothing else does": (
        agreed("{key: a, price_book: book, end: 2013-04-11}"),
        [("04-01", "04-11", "", "a ends")],
    ),
    "an item ends with its subscription": (
        agreed("{key: a, price_book: book, end: 2013-04-11}", end="2013-04-11"),
        [("04-01", "04-11", "", "the subscription ends")],
    ),
    "an item would end after its subscription": (
        agreed("{key: a, price_book: book, end: 2013-04-21}", end="2013-04-11"),
        [("04-01", "04-11", "", "the subscription ends")],
    ),
    "an item is replaced": (
        agreed(
            "{key: a, price_book: book, end: 2013-04-11},"
            " {key: b, price_book: book, start: 2013-04-11, replaces: a}"
        ),
        [("04-01", "04-11", "", "replaced by b")],
    ),
    "an item is added": (
        agreed("{key: b, price_book: book}, {key: a, price_book: book, start: 2013-04-11}"),
        [("04-11", "05-01", "added", "")],
    ),
    "an item is added from the start": (
        agreed("{key: a, price_book: book, start: 2013-04-01}"),
        [APRIL],
    ),
    "a pause within": (
        agreed(pauses="[{from: 2013-04-11, to: 2013-04-21}]"),
        [("04-01", "04-11", "", "paused"), ("04-21", "05-01", "resumed", "")],
    ),
    "a pause without end": (
        agreed(pauses="[{from: 2013-04-11}]"),
        [("04-01", "04-11", "", "paused")],
    ),
    "a pause goes on after the period": (
        agreed(pauses="[{from: 2013-04-11, to: 2013-05-11}]"),
        [("04-01", "04-11", "", "paused")],
    ),
    "a pause begins as the next period does": (
        agreed(pauses="[{from: 2013-05-01, to: 2013-05-11}]"),
        [APRIL],
    ),
    "a price is agreed within": (
        agreed(
            "{key: a, price_book: book,"
            " overrides: [{charge: fee, from: 2013-04-11, amount: '3'}]}"
        ),
        [("04-01", "04-11", "", "agreed prices"), ("04-11", "05-01", "agreed prices", "")],
    ),
    "a price is agreed from the day of the end on": (
        agreed(
            "{key: a, price_book: book,"
            " overrides: [{charge: fee, from: 2013-04-11, amount: '3'}]}",
            end="2013-04-11",
        ),
        [("04-01", "04-11", "", "the subscription ends")],
    ),
    "another version prices it": (
        agreed(
            "{key: a, price_book: book, version: [{version: 2}, {from: 2013-04-11, version: 1}]}"
        ),
        [("04-01", "04-11", "", "version 1"), ("04-11", "05-01", "version 1", "")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "pieces"), PERIODS.values(), ids=PERIODS)
def test_a_fee_is_cut_where_what_is_agreed_changes_and_says_why(
    facts: Facts, pieces: list[tuple[str, str, str, str]]
) -> None:
    assert cut(periods_of(facts)[0]) == pieces


def test_a_pause_that_is_over_cuts_nothing_off_the_period_after_it() -> None:
    facts = agreed(pauses="[{from: 2013-04-11, to: 2013-05-01}]")
    assert cut(periods_of(facts)[1]) == [("05-01", "06-01", "", "")]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"])
@pytest.mark.parametrize(("charge", "versions"), [("fee", [1, 2, 2]), ("peak", [1, 2, 2])])
def test_a_version_prices_the_periods_from_its_first_day_by_the_customers_calendar(
    zone: str, charge: str, versions: list[int]
) -> None:
    found = periods_of(agreed(zone=zone), charge)[:3]
    assert [[one.version for one in period.pieces] for period in found] == [[v] for v in versions]
    for month, period in enumerate(found, 4):
        dates = (date(2013, month, 1), date(2013, month + 1, 1))
        assert (period.period.starts_on, period.period.ends_on) == dates
        assert (period.pieces[0].starts_on, period.pieces[0].ends_on) == dates


def test_a_charge_that_the_next_version_lacks_has_no_periods_under_it() -> None:
    assert [one.period.starts_on.month for one in periods_of(agreed(), "desks")] == [4]


def test_seats_are_those_since_the_last_change_and_cut_their_fee() -> None:
    changes = "[{quantity: '2'}, {from: 2013-04-11, quantity: '3'}]"
    facts = agreed(f"{{key: a, price_book: book, quantities: {{desks: {changes}}}}}")
    period = periods_of(facts, "desks")[0]
    assert cut(period) == [("04-01", "04-11", "", "3 desks"), ("04-11", "05-01", "3 desks", "")]
    assert [(one.first, one.last, one.quantity) for one in period.pieces] == [
        (0, 10, Decimal(2)),
        (10, 30, Decimal(3)),
    ]
    assert [one.quantity for one in periods_of(facts)[0].pieces] == [None]


def test_by_the_second_a_piece_lasts_from_instant_to_instant() -> None:
    end = '"2013-04-08T16:00:00Z"'
    [piece] = (found := periods_of(agreed(proration="second", end=end))[0]).pieces
    assert (piece.first, piece.last, found.whole) == (0, 7 * 86400 + 43200, 30 * 86400)
    assert (found.unit, piece.ends_on) == ("second", date(2013, 4, 9))


def test_a_trial_with_an_allowance_is_one_period_until_its_end_or_that_of_all() -> None:
    trial = "{days: 14, allowance: {calls: '3'}}"
    for end, last in (("2013-04-06", "04-06"), ("2013-04-15", "04-15"), ("2013-06-01", "04-15")):
        period = periods_of(agreed(trial=trial, end=end), "calls")[0]
        assert cut(period) == [("04-01", last, "", "")]
        assert period.period.starts_at == datetime(2013, 4, 1, 4, tzinfo=UTC)
        assert period.period.ends_at == datetime(2013, 4, int(last[3:]), 4, tzinfo=UTC)
    own = "{key: b, price_book: book}, {key: a, price_book: book, end: 2013-04-04}"
    found = periods_of(agreed(own, trial=trial), "calls")
    assert [cut(one) for one in found] == [[("04-01", "04-04", "", "")]]


def test_what_is_free_in_a_trial_is_not_shared_out_over_days_nor_carried_on_nor_bound() -> None:
    tried, after = periods_of(agreed(trial="{days: 14, allowance: {peak: '3'}}"), "peak")[:2]
    charge = tried.pieces[0].charge
    assert (charge.included, charge.prorate) == (Decimal(3), False)
    assert (charge.minimum, charge.rollover) == (None, None)
    charge = after.pieces[0].charge
    assert (charge.included, charge.prorate, charge.minimum) == (Decimal(9), True, Decimal(5))
    assert charge.rollover is not None


def billed(period: ChargePeriod, facts: Facts) -> BilledPeriod:
    """Return what is stored of a period."""
    own = period.period
    return BilledPeriod(
        period.charge_key, own.starts_at, own.ends_at, own.starts_on, facts.revision
    )


def test_what_is_billed_and_not_credited_at_the_end_stays_whole() -> None:
    [stored] = [billed(one, agreed()) for one in periods_of(agreed())[:1]]
    kept = agreed(end="2013-04-11", credit_unused="false")
    assert cut(again(kept, stored)) == [APRIL]
    ended = agreed(end="2013-04-11")
    assert cut(again(ended, stored)) == [("04-01", "04-11", "", "the subscription ends")]
    cheap = "{key: a, price_book: book, overrides: [{charge: fee, from: 2013-04-11, amount: '3'}]}"
    assert cut(again(agreed(cheap, end="2013-04-11"), stored)) == cut(again(ended, stored))
    item = agreed("{key: a, price_book: book, end: 2013-04-11}", credit_unused="false")
    assert cut(again(item, stored)) == [("04-01", "04-11", "", "a ends")]


@pytest.mark.parametrize("charge", ["fee", "calls"])
def test_what_is_billed_and_is_no_more_is_a_piece_without_length_that_says_why(
    charge: str,
) -> None:
    before = agreed()
    stored = billed(periods_of(before, charge)[1], before)
    period = again(agreed(end="2013-04-11"), stored)
    assert cut(period) == [("05-01", "05-01", "", "the subscription ends")]
    assert [one.length for one in period.pieces] == [0]
    assert period.is_void


def test_a_period_names_the_version_of_the_terms_that_cut_it() -> None:
    facts = facts_of(METERS, before=agreed())
    assert {one.terms for one in periods_of(facts)} == {1}
    anew = facts_of(
        "subscriptions: [{key: S, customer: C, start: 2013-04-01, end: 2013-06-01,"
        " items: [{key: a, price_book: book}]}]",
        before=facts,
    )
    assert anew.agreed["S"] == (2, 3)
    assert {one.terms for one in periods_of(anew)} == {2}
    assert {one.terms for one in periods_of(replace(anew, agreed={}))} == {0}


def test_a_new_price_takes_effect_within_a_period_where_its_parts_add_up() -> None:
    facts = agreed()
    counted, highest = "model: per_unit, meter: seats", "model: per_unit, meter: aircraft"
    for fields, expected in (
        (f"{counted}, unit_price: '1'", True),
        (f"{counted}, unit_price: '1', minimum: '5'", False),
        (f"{counted}, unit_price: '1', on_change: next_period", False),
        (f"{counted}, unit_price: '1', minimum: '5', on_change: restart", True),
        (f"{highest}, unit_price: '1'", False),
        (f"{highest}, unit_price: '1', on_change: restart", True),
        ("model: flat, amount: '1'", True),
        ("model: formula, meters: {x: seats, y: aircraft}, formula: x + y, unit_price: '1'", False),
    ):
        assert continues(facts, charge_of(fields)) is expected, fields
