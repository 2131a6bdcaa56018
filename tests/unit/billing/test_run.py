from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from billing.due import Scope
from tests.unit.billing.fake_store import FakeStore, KilledError
from tests.unit.billing.fake_usage import Event, FakeUsage
from tests.unit.billing.world import METERS, declare, facts_of, run

BOOK = """
price_books:
- key: airport
  versions:
  - {version: 1, effective_from: 2013-01-01, currency: USD, charges: [
     {key: base, model: flat, amount: "2500.00", timing: advance},
     {key: dep, model: graduated, meter: departures, group_by: [origin],
      tiers: [{up_to: "2", unit_price: "12.00"}, {up_to: null, unit_price: "9.50"}]},
     {key: aircraft, model: per_unit, meter: aircraft, unit_price: "37.50"}]}
  - {version: 2, effective_from: 2013-03-01, currency: USD, charges: [
     {key: base, model: flat, amount: "2750.00", timing: advance},
     {key: dep, model: graduated, meter: departures, group_by: [origin],
      tiers: [{up_to: "2", unit_price: "13.00"}, {up_to: null, unit_price: "10"}]},
     {key: aircraft, model: per_unit, meter: aircraft, unit_price: "39"}]}
"""
CUSTOMERS = """
customers:
- {key: DL, name: Delta, currency: USD, time_zone: America/New_York, subjects: [dl]}
- {key: UA, name: United, currency: USD, time_zone: America/New_York, subjects: [u1, u2]}
subscriptions:
- {key: S-DL, customer: DL, start: 2013-01-01, items: [{key: main, price_book: airport}]}
- {key: S-UA, customer: UA, start: 2013-01-01, items: [{key: main, price_book: airport}]}
"""


def flight(month: int, day: int, subject: str, tail: str = "N1", origin: str = "EWR") -> Event:
    at = datetime(2013, month, day, 12, tzinfo=UTC)
    return Event("flight", subject, at, {"origin": origin, "tailnum": tail, "seats": "1"})


@pytest.fixture
def store() -> FakeStore:
    return FakeStore([facts_of(METERS, BOOK, CUSTOMERS)])


@pytest.fixture
def usage(store: FakeStore) -> FakeUsage:
    meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}
    return FakeUsage(meters, revision=lambda: store.history[-1].revision)


def close(month: int) -> Scope:
    return Scope("close", date(2013, month + 1, 1))


def lines(store: FakeStore, since: int = 0) -> list[tuple[str, str, str, str, int]]:
    return [
        (d.number[-11:], str(d.bill_on), line.kind, line.target.description, line.amount_minor)
        for d in store.documents[since:]
        for line in d.lines
    ]


def test_a_close_bills_the_fee_at_its_start_and_usage_at_its_end(
    store: FakeStore, usage: FakeUsage
) -> None:
    usage.add(flight(1, 5, "u1"), flight(1, 6, "u2", "N2"), flight(1, 7, "u1"))
    run(store, usage, close(1))
    assert lines(store) == [
        ("2013-000001", "2013-01-01", "advance", "base", 250_000),
        ("2013-000002", "2013-01-01", "advance", "base", 250_000),
        ("2013-000003", "2013-02-01", "usage", "dep (EWR)", 2 * 1200 + 950),
        ("2013-000003", "2013-02-01", "usage", "aircraft", 2 * 3750),
    ]


def test_a_bill_through_a_boundary_has_the_old_usage_and_the_new_fee_on_one_invoice(
    store: FakeStore, usage: FakeUsage
) -> None:
    run(store, usage, Scope("bill", date(2013, 1, 1)))
    usage.add(flight(1, 5, "u1"))
    run(store, usage, Scope("bill", date(2013, 2, 1)))
    assert [(x[0], x[2]) for x in lines(store, 2)] == [
        ("2013-000003", "advance"),
        ("2013-000004", "advance"),
        ("2013-000004", "usage"),
        ("2013-000004", "usage"),
    ]


def test_a_second_run_changes_nothing(store: FakeStore, usage: FakeUsage) -> None:
    usage.add(flight(1, 5, "u1"))
    run(store, usage, close(1))
    before = list(store.documents)
    assert run(store, usage, close(1)).did_nothing
    usage.add(flight(1, 6, "u1"))
    assert run(store, usage, close(1)).did_nothing
    assert store.documents == before
    assert len(usage.cuts) == 1


def test_late_usage_is_corrected_on_the_next_invoice_at_its_own_periods_price(
    store: FakeStore, usage: FakeUsage
) -> None:
    usage.add(flight(2, 5, "u1"), flight(2, 6, "u1"))
    run(store, usage, close(2))
    usage.add(flight(2, 7, "u2", "N2"), flight(3, 1, "u1"))
    since = len(store.documents)
    run(store, usage, close(3))
    assert lines(store, since)[2:] == [
        ("2013-000008", "2013-04-01", "usage", "dep (EWR)", 1300),
        ("2013-000008", "2013-04-01", "usage", "aircraft", 3900),
        ("2013-000008", "2013-04-01", "correction", "dep (EWR)", 950),
        ("2013-000008", "2013-04-01", "correction", "aircraft", 3750),
    ]
    [late] = [
        x for d in store.documents for x in d.lines if x.cause and "dep" in x.target.key.charge
    ]
    assert (late.target.service_from, late.quantity) == (date(2013, 2, 1), Decimal(1))


def test_a_correction_waits_for_the_next_invoice_but_of_an_ended_agreement_is_issued_alone(
    store: FakeStore, usage: FakeUsage
) -> None:
    ended = CUSTOMERS.replace("start: 2013-01-01,", "start: 2013-01-01, end: 2013-02-01,")
    store.history = [facts_of(METERS, BOOK, ended)]
    run(store, usage, close(1))
    usage.add(flight(1, 5, "u1"))
    assert lines(store)[2:] == []
    run(store, usage, close(2))
    assert [x[1:] for x in lines(store)[2:]] == [
        ("2013-03-01", "correction", "dep (EWR)", 1200),
        ("2013-03-01", "correction", "aircraft", 3750),
    ]
    assert run(store, usage, close(3)).did_nothing


def test_a_subject_that_changes_hands_is_credited_here_and_billed_there(
    store: FakeStore, usage: FakeUsage
) -> None:
    usage.add(flight(1, 5, "u1"), flight(1, 20, "u1"))
    run(store, usage, close(1))
    moved = """
customers:
- {key: UA, name: United, currency: USD, time_zone: America/New_York,
   subjects: [{key: u1, to: 2013-01-10}]}
- {key: DL, name: Delta, currency: USD, time_zone: America/New_York,
   subjects: [{key: u1, from: 2013-01-10}]}
"""
    store.history.append(facts_of(moved, before=store.history[-1]))
    since = len(store.documents)
    run(store, usage, close(2))
    found = [x for d in store.documents[since:] for x in d.lines if x.kind == "correction"]
    assert [(x.target.key.subscription, x.target.key.charge, x.amount_minor) for x in found] == [
        ("S-DL", "dep", 1200),
        ("S-DL", "aircraft", 3750),
        ("S-UA", "dep", -1200),
    ]


def test_what_is_credited_beyond_the_invoice_goes_on_a_credit_note(
    store: FakeStore, usage: FakeUsage
) -> None:
    usage.add(*(flight(1, 5, "u1", f"N{n}") for n in range(100)))
    run(store, usage, close(1))
    store.history.append(
        facts_of(
            "customers:\n- {key: UA, name: United, currency: USD, time_zone: America/New_York,"
            " subjects: [u2, {key: u1, to: 2013-01-01}]}",
            before=store.history[-1],
        )
    )
    usage.add(flight(2, 5, "u2"))
    run(store, usage, close(2))
    invoice, note = store.documents[-2:]
    assert (invoice.total_minor, note.document_type) == (0, "credit_note")
    assert note.number == "MAIN-CN-2013-000001"
    billed = sum(x.amount_minor for d in store.documents for x in d.lines)
    assert billed == 4 * 250_000 + 1200 + 3750
    assert note.total_minor == 2 * 1200 + 98 * 950 + 100 * 3750 - 1200 - 3750


@pytest.mark.parametrize("lives", range(5))
def test_a_killed_run_goes_on_with_its_cut_and_gives_the_same_numbers(
    store: FakeStore, usage: FakeUsage, lives: int
) -> None:
    usage.add(flight(1, 5, "u1"), flight(1, 6, "dl"))
    whole = FakeStore(store.history)
    run(whole, usage, close(1))
    usage.cuts.clear()
    store.lives = lives
    if lives < 4:
        with pytest.raises(KilledError):
            run(store, usage, close(1))
        usage.add(flight(1, 7, "u1"))
        store.lives = None
        assert run(store, usage, close(1)).resumed
    else:
        run(store, usage, close(1))
    assert lines(store) == lines(whole)
    assert [d.invoice_id for d in store.documents] == [d.invoice_id for d in whole.documents]
    assert len(usage.cuts) == 1


def test_a_run_after_a_killed_one_of_another_month_does_both(
    store: FakeStore, usage: FakeUsage
) -> None:
    store.lives = 1
    with pytest.raises(KilledError):
        run(store, usage, close(1))
    store.lives = None
    report = run(store, usage, close(2))
    assert (report.resumed, [one.scope for one in report.runs]) == (True, [close(1), close(2)])
    assert [x[1] for x in lines(store)] == ["2013-01-01"] * 2 + ["2013-02-01"] * 2


def test_midnight_is_the_customers(store: FakeStore, usage: FakeUsage) -> None:
    before = datetime(2013, 2, 1, 5, tzinfo=UTC) - timedelta(microseconds=1)
    for at in (before, before + timedelta(microseconds=1)):
        usage.add(Event("flight", "u1", at, {"origin": "EWR", "tailnum": "N1"}))
    run(store, usage, close(1))
    assert [x[4] for x in lines(store) if "dep" in x[3]] == [1200]


ROLLOVER = """
price_books:
- key: calls
  versions:
  - {version: 1, currency: USD, charges: [
     {key: dep, model: per_unit, meter: departures, unit_price: "1.00", included: "10",
      rollover: true},
     {key: floor, model: commitment, commitment: "5.00", every: 1 month}]}
"""
ONE = """
customers: [{key: C, name: C, currency: USD, subjects: [s]}]
subscriptions: [{key: S, customer: C, start: 2013-01-01, items: [{key: i, price_book: calls}]}]
"""


def totals_by_charge(store: FakeStore) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for key, minor in store.billed_amounts().items():
        at = (key.charge, key.period_start.month)
        found[at] = found.get(at, 0) + minor
    return found


def test_late_usage_that_eats_what_was_carried_over_is_billed_in_the_later_period() -> None:
    store = FakeStore([facts_of(METERS, ROLLOVER, ONE)])
    meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}
    usage = FakeUsage(meters, revision=lambda: store.history[-1].revision)
    usage.add(*(flight(1, day, "s") for day in range(1, 10)))
    usage.add(*(flight(2, day, "s") for day in range(1, 12)))
    for month in (1, 2):
        run(store, usage, close(month))
    floors = {("floor", 1): 500, ("floor", 2): 500}
    assert totals_by_charge(store) == floors
    # One more in January costs nothing then, but February has one less; its minimum covers it.
    usage.add(flight(1, 20, "s"))
    run(store, usage, close(3))
    billed = {("dep", 2): 100, ("floor", 1): 500, ("floor", 2): 400, ("floor", 3): 500}
    assert totals_by_charge(store) == billed
    run(store, usage, close(4))
    assert totals_by_charge(store) == billed | {("floor", 4): 500}


def test_a_commitment_of_a_year_counts_what_was_billed_month_by_month() -> None:
    book = """
price_books:
- key: calls
  versions:
  - {version: 1, currency: USD, charges: [
     {key: dep, model: per_unit, meter: departures, unit_price: "1.00"},
     {key: year, model: commitment, commitment: "10.00", every: 1 year, charges: [dep]}]}
"""
    store = FakeStore([facts_of(METERS, book, ONE)])
    meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}
    usage = FakeUsage(meters, revision=lambda: store.history[-1].revision)
    usage.add(flight(1, 5, "s"), flight(3, 5, "s"), flight(12, 5, "s"))
    for month in range(1, 12):
        run(store, usage, close(month))
    run(store, usage, Scope("close", date(2014, 1, 1)))
    assert totals_by_charge(store)["year", 1] == 700
    usage.add(flight(12, 6, "s"))
    run(store, usage, Scope("close", date(2014, 2, 1)))
    assert totals_by_charge(store)["year", 1] == 600
    assert totals_by_charge(store)["dep", 12] == 200


def test_times_of_day_and_events_one_by_one_are_asked_by_the_customers_clock() -> None:
    book = """
price_books:
- key: calls
  versions:
  - {version: 1, currency: USD, charges: [
     {key: kwh, model: time_of_day, meter: seats, default: "1", rates: [
       {name: night, from: "22:00", to: "06:00", unit_price: "0.50"}]},
     {key: each, model: percentage, meter: seats, percent: "10", fixed_fee: "0.30", per: event}]}
"""
    one = ONE.replace("currency: USD,", "currency: USD, time_zone: America/New_York,")
    store = FakeStore([facts_of(METERS, book, one)])
    meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}
    usage = FakeUsage(meters, revision=lambda: store.history[-1].revision)
    # New York is five hours behind: 21:59, 22:00, 05:59 and 06:00 there.
    for hour, minute, seats in ((2, 59, "8"), (3, 0, "4"), (10, 59, "2"), (11, 0, "1")):
        at = datetime(2013, 1, 10, hour, minute, tzinfo=UTC)
        usage.add(Event("flight", "s", at, {"origin": "EWR", "tailnum": "N1", "seats": seats}))
    run(store, usage, close(1))
    assert {x[3]: x[4] for x in lines(store)} == {
        "kwh (other)": 900, "kwh (night)": 300, "each": 150 + 120,
    }  # fmt: skip


def test_periods_of_an_anchor_are_billed_from_it_and_one_cut_short_by_its_days(
    usage: FakeUsage,
) -> None:
    book = """
price_books:
- key: club
  versions:
  - {version: 1, effective_from: 2013-01-01, currency: USD, charges: [
     {key: monthly, model: flat, amount: "31.00", timing: arrears},
     {key: weekly, model: flat, amount: "7.00", every: 1 week, timing: arrears}]}
customers:
- {key: A, name: A, currency: USD, time_zone: America/New_York}
- {key: B, name: B, currency: USD, time_zone: America/New_York}
subscriptions:
- {key: S-A, customer: A, start: 2013-01-31, end: 2013-03-16, anchor: anniversary,
   items: [{key: main, price_book: club}]}
- {key: S-B, customer: B, start: 2013-03-13, end: 2013-03-19, anchor: 15,
   items: [{key: main, price_book: club}]}
"""
    store = FakeStore([facts_of(METERS, book)])
    run(store, usage, Scope("bill", date(2013, 4, 1)))
    billed = [
        (str(d.bill_on), x.target.key.charge, x.amount_minor)
        for d in store.documents
        for x in d.lines
        if d.customer == "A"
    ]
    weeks = [("2013-02-07", "weekly", 700), ("2013-02-14", "weekly", 700)]
    assert billed[:2] == weeks
    assert [row for row in billed if row[1] == "monthly"] == [
        ("2013-02-28", "monthly", 3100),
        ("2013-03-16", "monthly", 1600),
    ]
    other = [
        (str(d.bill_on), x.target.key.charge, x.amount_minor)
        for d in store.documents
        for x in d.lines
        if d.customer == "B"
    ]
    assert other == [
        ("2013-03-15", "monthly", 221),
        ("2013-03-18", "weekly", 500),
        ("2013-03-19", "monthly", 400),
        ("2013-03-19", "weekly", 100),
    ]
