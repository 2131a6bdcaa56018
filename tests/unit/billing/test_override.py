"""Prices agreed with one customer stand in for the book's, on the days they are agreed for."""

from datetime import date
from decimal import Decimal

import pytest

from billing.catalog import Known
from billing.due import Scope, due
from billing.evidence import evidence_of
from billing.facts import Facts
from billing.price_book import to_content
from billing.pricing import Dimensions
from billing.rating import PeriodInputs, rate
from tests.unit.billing.fake_store import FakeStore
from tests.unit.billing.fake_usage import FakeUsage
from tests.unit.billing.test_backtest import EVENTS
from tests.unit.billing.world import METERS, declare, facts_of, faults_of, run

BOOK = """
price_books:
- key: book
  versions:
  - version: 1
    currency: USD
    charges:
    - {key: base, model: flat, amount: "310", timing: advance}
    - {key: seats, model: per_seat, quantity_from: item, timing: advance, unit_price: "10"}
    - {key: dep, model: graduated, meter: departures,
       tiers: [{up_to: "2", unit_price: "12"}, {up_to: null, unit_price: "9"}]}
    - {key: planes, model: per_unit, meter: aircraft, unit_price: "30", minimum: "50"}
"""


DEP = '    - {charge: dep, tiers: [{up_to: null, unit_price: "5"}]}'


def terms(overrides: str, start: str = "2013-01-01") -> str:
    return f"""
customers:
- {{key: UA, name: United, currency: USD, subjects: [u1]}}
subscriptions:
- key: S
  customer: UA
  start: {start}
  items:
  - key: main
    price_book: book
    quantities: {{seats: "3"}}
    overrides:
{overrides}
"""


def january(overrides: str, quantity: int = 0) -> dict[str, list[tuple[str, int]]]:
    """Return what each charge's pieces of January cost, of so much usage in each piece."""
    facts = facts_of(METERS, BOOK, terms(overrides))
    found: dict[str, list[tuple[str, int]]] = {}
    for period in due(facts, {}, Scope("close", date(2013, 2, 1))):
        used: dict[Dimensions, Decimal] = {(): Decimal(quantity)}
        quantities = tuple(used for _ in period.pieces)
        targets, _ = rate(PeriodInputs(period, "", quantities), {})
        found[period.charge] = [(str(one.service_from), one.amount_minor) for one in targets]
    return found


def test_only_the_named_charge_has_other_prices() -> None:
    found = january(DEP, quantity=4)
    assert found["dep"] == [("2013-01-01", 2000)]
    assert found["planes"] == [("2013-01-01", 12_000)]
    assert found["base"] == [("2013-01-01", 31_000)]


def test_a_price_agreed_within_a_period_has_its_days() -> None:
    found = january('    - {charge: base, from: 2013-01-11, to: 2013-01-21, amount: "155"}')
    assert found["base"] == [("2013-01-01", 10_000), ("2013-01-11", 5_000), ("2013-01-21", 11_000)]


def test_what_a_price_cannot_change_within_keeps_that_of_its_start() -> None:
    late = january('    - {charge: planes, from: 2013-01-11, minimum: "70"}')
    assert late["planes"] == [("2013-01-01", 5_000)]
    early = january('    - {charge: planes, to: 2013-01-11, minimum: "70"}')
    assert early["planes"] == [("2013-01-01", 7_000)]


def test_usage_is_priced_from_the_position_reached_before_the_agreement() -> None:
    tiers = 'tiers: [{up_to: "5", unit_price: "6"}, {up_to: null, unit_price: "1"}]'
    found = january(f"    - {{charge: dep, from: 2013-01-11, {tiers}}}", quantity=4)
    assert found["dep"] == [("2013-01-01", 2 * 1200 + 2 * 900), ("2013-01-11", 600 + 3 * 100)]


def test_tiers_take_the_place_of_a_unit_price_of_seats() -> None:
    found = january('    - {charge: seats, tiers: [{up_to: null, unit_price: "1", flat_fee: "5"}]}')
    assert found["seats"] == [("2013-01-01", 800)]


def test_the_trace_tells_what_is_agreed_and_the_evidence_keeps_it() -> None:
    facts = facts_of(METERS, BOOK, terms('    - {charge: planes, minimum: "70"}'))
    [planes] = [
        one for one in due(facts, {}, Scope("close", date(2013, 2, 1))) if one.charge == "planes"
    ]
    inputs = PeriodInputs(planes, "", ({},))
    [target], _ = rate(inputs, {})
    assert target.trace[0] == {"step": "agreed: minimum", "amount": "0"}
    usage = FakeUsage({})
    cut = usage.fix_cut("default", planes.period.ends_at)
    kept = evidence_of([(inputs, {})], facts, {}, cut)["subscription S"]
    assert kept["items"][0]["overrides"] == [{"charge": "planes", "minimum": "70"}]


def test_terms_read_back_as_they_were_declared() -> None:
    tiers = 'tiers: [{up_to: "5", unit_price: "6"}, {up_to: null, unit_price: "1"}]'
    given = f"    - {{charge: dep, from: 2013-02-01, to: 2013-03-01, {tiers}}}"
    subscription = facts_of(METERS, BOOK, terms(given)).subscriptions["S"]
    again = type(subscription).model_validate(to_content(subscription))
    assert again == subscription


def test_a_month_is_billed_at_what_was_agreed_and_corrected_at_it() -> None:
    store = FakeStore([facts_of(METERS, BOOK, terms(DEP))])
    meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}
    events = [one for one in EVENTS if one.subject == "u1" and one.time.month == 1]
    usage = FakeUsage(meters, events[:-1], revision=lambda: store.history[-1].revision)
    run(store, usage, Scope("close", date(2013, 2, 1)))
    usage.add(*events[-1:])
    run(store, usage, Scope("close", date(2013, 3, 1)))
    billed = [
        line.amount_minor
        for document in store.documents
        for line in document.lines
        if line.target.key.charge == "dep" and line.target.service_from == date(2013, 1, 1)
    ]
    assert [len(billed), sum(billed)] == [2, len(events) * 500]


@pytest.mark.parametrize(
    ("overrides", "line", "told"),
    [
        ('    - {charge: x, amount: "1"}', 13, "charge x, which its price book does not have"),
        (
            '    - charge: dep\n      unit_price: "5"',
            14,
            "override of charge dep: model graduated takes no unit_price",
        ),
        ('    - {charge: dep, tiers: [{up_to: "3"}]}', 13, "the last tier, and only it, has up_to"),
        ("    - {charge: base}", 13, "override of charge base gives no price"),
        ("    - {charge: base, amount: 12 EUR}", 13, 'not an amount like "12.50"'),
        ('    - {charge: base, amount: {EUR: "1"}}', 13, "charge base has no price in USD"),
        ('    - {charge: base, meter: x, amount: "1"}', 13, "unknown key meter"),
        (
            '    - {charge: base, amount: "1", from: 2013-02-01, to: 2013-02-01}',
            13,
            "override of charge base ends before it starts",
        ),
        (
            '    - {charge: base, amount: "1", to: 2013-03-01}\n    - {charge: base, amount: "2"}',
            14,
            "override of charge base overlaps another of it",
        ),
    ],
)
def test_what_cannot_be_agreed_is_told_with_its_line(overrides: str, line: int, told: str) -> None:
    found = faults_of(METERS, BOOK, terms(overrides), known=Known(Facts(0)))
    assert any(fault.startswith(f"3.yaml:{line}: ") and told in fault for fault in found), found


def test_a_new_version_that_agreed_prices_do_not_fit_is_told() -> None:
    facts = facts_of(METERS, BOOK, terms('    - {charge: planes, unit_price: "40"}'))
    book = BOOK.replace("version: 1", "version: 2\n    effective_from: 2013-03-01")
    book = book.replace('per_unit, meter: aircraft, unit_price: "30"', "graduated, meter: aircraft")
    book = book.replace('minimum: "50"', 'tiers: [{up_to: null, unit_price: "30"}]')
    [fault] = faults_of(METERS, book, known=Known(facts))
    assert "item main: override of charge planes: model graduated takes no unit_price" in fault
    ended = facts_of(
        METERS, BOOK, terms('    - {charge: planes, to: 2013-03-01, unit_price: "40"}')
    )
    assert faults_of(METERS, book, known=Known(ended)) == []
