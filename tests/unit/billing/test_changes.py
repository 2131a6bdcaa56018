"""Changes of what was billed: what the next invoice credits and charges, worked by hand."""

from datetime import date

import pytest

from billing.catalog import Known
from billing.due import Scope
from tests.unit.billing.fake_store import FakeStore
from tests.unit.billing.fake_usage import FakeUsage
from tests.unit.billing.test_run import flight
from tests.unit.billing.world import METERS, NOW, declare, facts_of, faults_of, run

BOOKS = """
price_books:
- key: ten
  versions: [{version: 1, currency: USD, charges: [
    {key: fee, model: flat, amount: "10.00", timing: advance}]}]
- key: twenty
  versions: [{version: 1, currency: USD, charges: [
    {key: fee, model: flat, amount: "20.00", timing: advance}]}]
- key: thirty
  versions:
  - {version: 1, currency: USD, charges: [
    {key: fee, model: flat, amount: "30.00", timing: advance},
    {key: rest, model: flat, amount: "30.00", timing: arrears}]}
  - {version: 2, effective_from: 2013-04-11, currency: USD, charges: [
    {key: fee, model: flat, amount: "60.00", timing: advance},
    {key: rest, model: flat, amount: "60.00", timing: arrears}]}
- key: odd
  versions: [{version: 1, currency: USD, charges: [
    {key: fee, model: flat, amount: "9.99", timing: advance}]}]
- key: year
  versions: [{version: 1, currency: USD, charges: [
    {key: fee, model: flat, amount: "365.00", timing: advance, every: 1 year},
    {key: setup, model: one_time, amount: "50.00", timing: advance}]}]
- key: seats
  versions: [{version: 1, currency: USD, charges: [
    {key: seats, model: per_seat, quantity_from: item, unit_price: "30.00",
     timing: advance}]}]
- key: calls
  versions: [{version: 1, currency: USD, charges: [
    {key: calls, model: per_unit, meter: seats, unit_price: "1.00"},
    {key: floor, model: per_unit, meter: seats, unit_price: "0", minimum: "30.00"}]}]
customers: [{key: C, name: C, currency: USD, subjects: [s]}]
"""


def agreed(items: str, **more: str) -> str:
    """Return a subscription of April 2013 with these items."""
    fields = "".join(
        f"{name}: {value}, " for name, value in {"start": "2013-04-01", **more}.items()
    )
    return f"subscriptions: [{{key: S, customer: C, {fields}items: [{items}]}}]"


def world(terms: str) -> tuple[FakeStore, FakeUsage]:
    store = FakeStore([facts_of(METERS, BOOKS, terms)])
    meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}
    return store, FakeUsage(meters, revision=lambda: store.history[-1].revision)


def change(store: FakeStore, terms: str) -> None:
    store.history.append(facts_of(terms, before=store.history[-1]))


def bill(store: FakeStore, usage: FakeUsage, through: str) -> list[str]:
    """Return the lines that billing through a day adds."""
    before = len(store.documents)
    run(store, usage, Scope("bill", date.fromisoformat(through)))
    return [
        f"{x.kind} {x.target.description} {x.target.service_from:%m-%d}.."
        f"{x.target.service_until:%m-%d} {x.amount_minor / 100:.2f}"
        for d in store.documents[before:]
        for x in d.lines
    ]


def amounts(lines: list[str]) -> list[str]:
    return [line.rpartition(" ")[2] for line in lines]


UPGRADE = "{key: old, price_book: ten, end: 2013-04-16}, {key: new, price_book: twenty,"
ENDS = "the subscription ends"
BILLED = "advance fee 04-01..05-01"
TABLE = {
    # 5 of 30 days of 9.99 are 1.665, so 1.67 is used and 8.32 credited; not 8.33.
    "ends after five days": (
        agreed("{key: a, price_book: odd}"),
        f"{BILLED} 9.99",
        agreed("{key: a, price_book: odd}", end="2013-04-06"),
        [f"proration_credit fee, not used from 2013-04-06: {ENDS} 04-06..05-01 -8.32"],
    ),
    "ends without credit": (
        agreed("{key: a, price_book: odd}"),
        f"{BILLED} 9.99",
        agreed("{key: a, price_book: odd}", end="2013-04-06", credit_unused="false"),
        [],
    ),
    # Stripe's documentation: 10 to 20 a month halfway is 5 credited and 10 charged.
    "upgrade halfway": (
        agreed("{key: old, price_book: ten}"),
        f"{BILLED} 10.00",
        agreed(f"{UPGRADE} start: 2013-04-16, replaces: old}}"),
        [
            "proration_charge fee, from 2013-04-16: replaces old 04-16..05-01 10.00",
            "proration_credit fee, not used from 2013-04-16: replaced by new 04-16..05-01 -5.00",
        ],
    ),
    # Lago's documentation: seats added within a period are charged for the days that are left.
    "seats added": (
        agreed("{key: a, price_book: seats, quantities: {seats: '2'}}"),
        "advance seats 04-01..05-01 60.00",
        agreed(
            "{key: a, price_book: seats, quantities: {seats: [{quantity: '2'},"
            " {from: 2013-04-21, quantity: '3'}]}}"
        ),
        [
            "proration_credit seats, not used from 2013-04-21: 3 seats 04-21..05-01 -20.00",
            "proration_charge seats, from 2013-04-21: 3 seats 04-21..05-01 30.00",
        ],
    ),
    "seats were others from the start": (
        agreed("{key: a, price_book: seats, quantities: {seats: '2'}}"),
        "advance seats 04-01..05-01 60.00",
        agreed("{key: a, price_book: seats, quantities: {seats: '5'}}"),
        ["proration_charge seats 04-01..05-01 90.00"],
    ),
    "paused for ten days": (
        agreed("{key: a, price_book: twenty}"),
        f"{BILLED} 20.00",
        agreed(
            "{key: a, price_book: twenty}", pauses="[{from: 2013-04-11, to: 2013-04-21}]"
        ),
        [
            "proration_credit fee, not used from 2013-04-11: paused 04-11..05-01 -13.33",
            "proration_charge fee, from 2013-04-21: resumed 04-21..05-01 6.67",
        ],
    ),
    # Both versions of a pin are known, so moving it counts from its day on.
    "pinned to another version": (
        agreed("{key: a, price_book: thirty, version: 1}"),
        f"{BILLED} 30.00",
        agreed(
            "{key: a, price_book: thirty, version: [{version: 1},"
            " {from: 2013-04-21, version: 2}]}"
        ),
        [
            "proration_credit fee, not used from 2013-04-21: version 2 04-21..05-01 -10.00",
            "proration_charge fee, from 2013-04-21: version 2 04-21..05-01 20.00",
        ],
    ),
    "discounted from then on": (
        agreed("{key: a, price_book: twenty}"),
        f"{BILLED} 20.00",
        agreed(
            "{key: a, price_book: twenty, discounts: [{key: d, percent: '50', from: 2013-05-01}]}"
        ),
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("was", "first", "now", "lines"), TABLE.values(), ids=TABLE)
def test_a_change_is_credited_and_charged(was: str, first: str, now: str, lines: list[str]) -> None:
    store, usage = world(was)
    assert bill(store, usage, "2013-04-01") == [first]
    change(store, now)
    found = bill(store, usage, "2013-05-01")
    may = [line for line in found if "05-01..06-01" in line or line.startswith("usage rest")]
    assert sorted(set(found) - set(may)) == sorted(lines)
    assert bill(store, usage, "2013-05-01") == []


def test_what_is_put_off_is_billed_on_and_what_is_taken_back_is_charged_again() -> None:
    terms = "{key: a, price_book: thirty, version: 1}"
    store, usage = world(agreed(terms, end="2013-04-11"))
    assert bill(store, usage, "2013-04-05") == ["advance fee 04-01..04-11 10.00"]
    change(store, agreed(terms, end="2013-04-21"))
    assert bill(store, usage, "2013-04-11") == ["advance fee 04-11..04-21 10.00"]
    change(store, agreed(terms))
    assert bill(store, usage, "2013-05-01") == [
        "advance fee 04-21..05-01 10.00", "advance fee 05-01..06-01 30.00",
        "usage rest 04-01..05-01 30.00",
    ]  # fmt: skip
    change(store, agreed(terms, end="2013-05-16"))
    unused = "not used from 2013-05-16: the subscription ends 05-16..06-01"
    assert bill(store, usage, "2013-06-01") == [
        "usage rest 05-01..05-16 14.52",
        f"proration_credit fee, {unused} -14.52",
        f"proration_credit fee, {unused} -0.96",
    ]
    change(store, agreed(terms))
    assert "proration_charge fee 05-01..06-01 15.48" in bill(store, usage, "2013-07-01")


def test_a_second_change_builds_on_the_first() -> None:
    """Two seats to the 11th, three to the 21st, nine after that: the last third changes again."""
    steps = ["{quantity: '2'}", "{from: 2013-04-11, quantity: '3'}"]
    seats = "{key: a, price_book: seats, quantities: {seats: [%s]}}"
    store, usage = world(agreed(seats % steps[0]))
    bill(store, usage, "2013-04-01")
    change(store, agreed(seats % ", ".join(steps)))
    bill(store, usage, "2013-05-01")
    steps.append("{from: 2013-04-21, quantity: '9'}")
    change(store, agreed(seats % ", ".join(steps)))
    found = [line for line in bill(store, usage, "2013-06-01") if " 04-" in line]
    assert found == [
        "proration_credit seats, not used from 2013-04-21: 9 seats 04-21..05-01 -30.00",
        "proration_charge seats, from 2013-04-21: 9 seats 04-21..05-01 90.00",
    ]


def test_a_version_published_later_does_not_price_what_is_billed() -> None:
    late = BOOKS.index("  - {version: 2, effective_from")
    first = BOOKS[:late] + BOOKS[BOOKS.index("- key: odd") :]
    store, usage = world(agreed("{key: a, price_book: thirty}"))
    store.history = [facts_of(METERS, first, agreed("{key: a, price_book: thirty}"))]
    assert bill(store, usage, "2013-04-01") == [f"{BILLED} 30.00"]
    change(store, BOOKS)
    assert bill(store, usage, "2013-05-01") == [
        "advance fee 05-01..06-01 60.00",
        "usage rest 04-01..04-11 10.00", "usage rest 04-11..05-01 40.00",
    ]  # fmt: skip


def test_a_charge_that_another_version_lacks_is_credited() -> None:
    i = BOOKS.index("customers:")
    text = f"""{BOOKS[:i]}- key: two
  versions:
  - {{version: 1, currency: USD, charges: [
    {{key: fee, model: flat, amount: "30.00", timing: advance}}]}}
  - {{version: 2, effective_from: 2100-01-01, currency: USD, charges: [
    {{key: other, model: flat, amount: "60.00", timing: advance}}]}}
{BOOKS[i:]}"""
    before = facts_of(METERS, text, agreed("{key: a, price_book: two, version: 1}"))
    store, usage = FakeStore([before]), FakeUsage({}, revision=lambda: store.history[-1].revision)
    assert bill(store, usage, "2013-04-01") == [f"{BILLED} 30.00"]
    whole = agreed("{key: a, price_book: two, version: 2}")
    [fault] = faults_of(whole, known=Known(before, {}, {"S": NOW}))
    assert "billed by charge fee, which its versions no longer have" in fault
    for since, credit in (("2013-04-16", "-15.00"), ("2013-04-01", "-15.00")):
        pins = f"[{{version: 1}}, {{from: {since}, version: 2}}]"
        change(store, agreed(f"{{key: a, price_book: two, version: {pins}}}"))
        day = "2013-05-01" if since == "2013-04-16" else "2013-06-01"
        assert credit in amounts(bill(store, usage, day))


def test_a_year_that_is_canceled_gives_back_its_days_and_keeps_the_set_up() -> None:
    store, usage = world(agreed("{key: a, price_book: year}", start="2013-01-01"))
    assert len(bill(store, usage, "2013-01-01")) == 2
    change(store, agreed("{key: a, price_book: year}", start="2013-01-01", end="2013-07-01"))
    [line] = bill(store, usage, "2013-07-01")
    assert line.endswith("the subscription ends 07-01..01-01 -184.00")
    change(store, agreed("{key: a, price_book: year}", start="2013-01-01", end="2013-01-01"))
    assert amounts(bill(store, usage, "2013-07-02")) == ["-181.00", "-50.00"]


def test_usage_in_a_pause_and_after_the_end_does_not_count() -> None:
    terms = "{key: a, price_book: calls}"
    pause = "[{from: 2013-04-11, to: 2013-04-21}]"
    store, usage = world(agreed(terms, pauses=pause))
    usage.add(*(flight(4, day, "s") for day in (5, 15, 25)))
    assert bill(store, usage, "2013-05-01") == [
        "usage calls 04-01..05-01 2.00", "usage floor 04-01..05-01 20.00",
    ]  # fmt: skip
    change(store, agreed(terms, pauses=pause, end="2013-04-25"))
    assert bill(store, usage, "2013-05-02") == [
        "correction calls 04-01..04-25 -1.00", "correction floor 04-01..04-25 -6.00",
    ]  # fmt: skip


def test_by_the_second_a_change_counts_from_its_instant() -> None:
    """30.00 over 30 days, 7.5 of which are used."""
    terms = "{key: a, price_book: thirty, version: 1}"
    store, usage = world(agreed(terms, proration="second"))
    bill(store, usage, "2013-04-01")
    noon = '"2013-04-08T12:00:00Z"'
    change(store, agreed(terms, proration="second", end=noon))
    assert amounts(bill(store, usage, "2013-05-01")) == ["7.50", "-7.50", "-15.00"]
    store, usage = world(agreed(terms))
    bill(store, usage, "2013-04-01")
    change(store, agreed(terms, end=noon))
    assert amounts(bill(store, usage, "2013-05-01")) == ["7.00", "-7.00", "-16.00"]


def test_an_earlier_start_bills_what_came_before() -> None:
    store, usage = world(agreed("{key: a, price_book: ten}", start="2013-04-16"))
    assert bill(store, usage, "2013-04-16") == ["advance fee 04-16..05-01 5.00"]
    change(store, agreed("{key: a, price_book: ten}", start="2013-03-01"))
    assert bill(store, usage, "2013-04-20") == [
        "advance fee 03-01..04-01 10.00", "advance fee 04-01..04-16 5.00",
    ]  # fmt: skip


def test_usage_above_a_trials_allowance_is_billed_at_its_end() -> None:
    trial = "{days: 14, allowance: {calls: '3'}}"
    store, usage = world(agreed("{key: a, price_book: calls}", trial=trial))
    usage.add(*(flight(4, day, "s") for day in (1, 5, 9, 13, 14, 15, 20)))
    assert bill(store, usage, "2013-04-14") == []
    assert bill(store, usage, "2013-04-15") == ["usage calls 04-01..04-15 2.00"]
    usage.add(flight(4, 2, "s"))
    assert bill(store, usage, "2013-05-01") == [
        "usage calls 04-15..05-01 2.00", "usage floor 04-15..05-01 16.00",
        "correction calls 04-01..04-15 1.00",
    ]  # fmt: skip


def test_an_allowance_is_of_a_metered_charge() -> None:
    for item, key in (("calls", "nothing"), ("ten", "fee")):
        terms = agreed(
            f"{{key: a, price_book: {item}}}", trial=f"{{days: 3, allowance: {{{key}: '1'}}}}"
        )
        [fault] = faults_of(METERS, BOOKS, terms)
        assert f"its trial has an allowance of {key}, " in fault
