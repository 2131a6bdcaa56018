"""A backtest says what customers would have been billed, had the draft been in force all along."""

from datetime import date
from decimal import Decimal

import pytest

from billing.backtest import Past, compare
from billing.charge_period import ChargeKey
from billing.comparison import Comparison, Policy, Sums, add_to, percent_of
from billing.due import BilledPeriod, Scope
from billing.facts import Facts
from billing.meter_change import KnownMeter
from billing.price_book_draft import Draft, draft_of
from tests.unit.billing.fake_store import FakeStore
from tests.unit.billing.fake_usage import FakeUsage
from tests.unit.billing.test_run import BOOK, flight
from tests.unit.billing.world import METERS, declare, facts_of, run

CUSTOMERS = """
customers:
- {key: DL, name: Delta, currency: USD, time_zone: America/New_York, subjects: [dl]}
- {key: UA, name: United, currency: USD, time_zone: America/New_York, subjects: [u1, u2]}
subscriptions:
- {key: S-DL, customer: DL, start: 2013-01-01, items: [{key: main, price_book: airport,
   overrides: [{charge: aircraft, from: 2013-02-01, to: 2013-04-01, unit_price: "20"}]}]}
- {key: S-UA, customer: UA, start: 2013-01-15, end: 2013-04-10, items: [
   {key: main, price_book: airport, discounts: [{key: d, percent: "10", duration: 2}]}]}
"""
ROLLOVER = 'model: per_unit, meter: aircraft, unit_price: "30", included: "1", rollover: true'
PLANES = "model: per_unit, meter: planes"
DRAFTS = [
    BOOK.partition("  - {version: 2")[0],
    BOOK.replace('"2500.00"', '"2600.00"').partition("  - {version: 2")[0],
    f"""
price_books: [{{key: airport, versions: [{{version: 1, currency: USD, charges: [
  {{key: base, model: flat, amount: "2400", timing: advance}},
  {{key: aircraft, {ROLLOVER}}},
  {{key: seats, model: volume, meter: seats,
    tiers: [{{up_to: "3", unit_price: "5"}}, {{up_to: null, unit_price: "4"}}]}},
  {{key: least, model: commitment, commitment: "2100", charges: [aircraft, seats]}}]}}]}}]
""",
]
EVENTS = [
    flight(month, day, subject, f"N{day % 3}", ("EWR", "JFK")[day % 2])
    for month in range(1, 6)
    for day in range(1 + month % 2, 20, 3)
    for subject in ("u1", "u2", "dl")
]
DAYS = (date(2013, 1, 1), date(2013, 5, 1))


def billed_world(*texts: str) -> tuple[FakeStore, FakeUsage]:
    """Return the world billed until the end of April."""
    store = FakeStore([facts_of(METERS, *texts, CUSTOMERS)])
    meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}
    usage = FakeUsage(meters, list(EVENTS), revision=lambda: store.history[-1].revision)
    for month in range(2, 6):
        run(store, usage, Scope("close", date(2013, month, 1)))
    return store, usage


def past_of(store: FakeStore, usage: FakeUsage, days: tuple[date, date] = DAYS) -> Past:
    billed: dict[str, dict[ChargeKey, list[BilledPeriod]]] = {}
    for key, periods in store.periods.items():
        billed.setdefault(key[0], {})[key] = periods
    states = {
        (key, one.starts_at): store.state_after(key, one.starts_at)
        for key, periods in store.periods.items()
        for one in periods
    }
    positions = {key: store.issued(key) for key in billed}
    return Past(store.history[-1], usage.cuts[-1][0], days, billed, states, positions)


def drafted(facts: Facts, text: str) -> Draft:
    declared = declare(text)
    meters = {key: KnownMeter(meter.definition, 1) for key, meter in declare(METERS).meters.items()}
    draft = draft_of(declared, declared.price_books["airport"], 1, facts, meters)
    assert draft is not None, [str(fault) for fault in declared.faults]
    return draft


def totals(store: FakeStore) -> dict[str, int]:
    found = {"DL": 0, "UA": 0}
    for document in store.documents:
        found[document.customer] += sum(line.amount_minor for line in document.lines)
    return found


@pytest.fixture(scope="module")
def billed() -> tuple[FakeStore, FakeUsage]:
    return billed_world(BOOK)


@pytest.mark.parametrize("draft", DRAFTS)
def test_it_is_what_the_draft_would_have_billed(
    billed: tuple[FakeStore, FakeUsage], draft: str
) -> None:
    store, usage = billed
    past = past_of(store, usage)
    found = compare(past, drafted(past.facts, draft), usage, sorted(past.billed))
    assert {key: sums.before_minor for (key, _), sums in found.customers.items()} == totals(store)
    instead, _ = billed_world(draft)
    assert {key: sums.after_minor for (key, _), sums in found.customers.items()} == totals(instead)
    of_charges = sum(sums.after_minor for sums in found.charges.values())
    assert of_charges == sum(totals(instead).values())


def test_only_periods_that_start_on_the_days_count(billed: tuple[FakeStore, FakeUsage]) -> None:
    store, usage = billed
    past = past_of(store, usage, (date(2013, 2, 1), date(2013, 2, 2)))
    draft = drafted(past.facts, DRAFTS[1])
    found = compare(past, draft, usage, ["S-DL"])
    assert found.charges["base", "USD"].difference_minor == 10_000
    assert found.charges["dep", "USD"].difference_minor == 0
    assert found.periods == 3


def test_late_usage_is_no_difference_of_prices() -> None:
    store, usage = billed_world(DRAFTS[0])
    usage.add(flight(2, 27, "dl", "N9"))
    usage.fix_cut("default", usage.cuts[-1][0].at)
    past = past_of(store, usage)
    found = compare(past, drafted(past.facts, DRAFTS[0]), usage, sorted(past.billed))
    assert found.revenue()["USD"].difference_minor == 0
    assert found.customers["DL", "USD"].before_minor > totals(store)["DL"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            BOOK.replace("key: aircraft, model: per_unit, meter: aircraft", f"key: x, {PLANES}"),
            "price book airport: charge x: there is no meter planes",
        ),
        (
            BOOK.replace("key: base, ", "key: base, every: 1 year, "),
            "charge base of version 3 changes its cadence",
        ),
        (
            BOOK.replace("USD", "EUR"),
            "charge base of price book airport version 3 has no price in USD",
        ),
    ],
)
def test_what_could_not_be_published_is_not_tried(text: str, told: str) -> None:
    facts = facts_of(METERS, BOOK, CUSTOMERS)
    meters = {key: KnownMeter(meter.definition, 1) for key, meter in declare(METERS).meters.items()}
    declared = declare(text)
    assert draft_of(declared, declared.price_books["airport"], 2, facts, meters) is None
    assert told in " ".join(str(fault) for fault in declared.faults)
    assert all(fault.file == "1.yaml" and fault.line == 3 for fault in declared.faults)


def test_a_policy_fails_from_its_percentage_on() -> None:
    found = Comparison()
    for name, before, after in (("A", 1000, 1199), ("B", 1000, 1200), ("C", 0, 1), ("D", 500, 0)):
        add_to(found.customers, (name, "USD"), before, after)
    assert Policy().faults(found) == []
    assert Policy(bill_up_by=Decimal(20)).faults(found) == [
        "customer B: 10.00 to 12.00 USD, 20.00 %",
        "customer C: 0.00 to 0.01 USD",
    ]
    assert Policy(revenue_down_by=Decimal("4.1")).faults(found) == []
    assert Policy(revenue_down_by=Decimal(4)).faults(found) == [
        "revenue in USD: 25.00 to 24.00 USD, -4.00 %"
    ]
    assert percent_of(Sums(3, 2)) == "-33.33"
