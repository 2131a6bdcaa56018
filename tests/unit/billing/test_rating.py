from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from billing.due import Scope, due
from billing.money import to_major
from billing.period import midnight
from billing.pricing import Dimensions
from billing.rating import PeriodInputs, Target, rate
from billing.tiers import Tier, graduated
from tests.unit.billing.world import METERS, facts_of

HEAD = "price_books: [{key: book, versions: ["
TAIL = """]}]
customers: [{key: C, name: C, currency: USD, time_zone: America/New_York, subjects: [s]}]
subscriptions: [{key: S, customer: C, start: 2013-01-01, items: [{key: i, price_book: book}]}]
"""
Quantities = Mapping[Dimensions, Decimal]


def versions(first: str, second: str = "", since: str = "2013-01-16") -> str:
    """Return a book whose charge changes in the middle of January."""
    later = f", {{version: 2, effective_from: {since}, currency: USD, charges: [{second}]}}"
    one = f"{{version: 1, effective_from: 2013-01-01, currency: USD, charges: [{first}]}}"
    return HEAD + one + (later if second else "") + TAIL


def rated(book: str, *quantities: Quantities, start: str = "2013-01-01") -> list[Target]:
    """Rate the first period that is due."""
    facts = facts_of(METERS, book.replace("start: 2013-01-01", f"start: {start}"))
    period = due(facts, {}, Scope("close", date(2013, 2, 1)))[0]
    assert len(quantities) in (0, len(period.pieces))
    targets, state = rate(PeriodInputs(period, "", quantities or ({},)), {})
    assert state == {}
    return targets


def amounts(targets: Sequence[Target]) -> list[int]:
    return [target.amount_minor for target in targets]


def plain(quantity: str) -> Quantities:
    return {(): Decimal(quantity)}


DEPARTURES = (
    "{{key: dep, model: graduated, meter: departures, tiers: ["
    "{{up_to: '1000', unit_price: '{}'}}, {{up_to: null, unit_price: '{}'}}]}}"
)


def test_a_price_change_continues_from_the_position_reached() -> None:
    book = versions(DEPARTURES.format("12", "9.50"), DEPARTURES.format("13", "10"))
    assert amounts(rated(book, plain("800"), plain("700"))) == [960_000, 760_000]


def test_a_tiers_bound_is_inclusive() -> None:
    book = versions(DEPARTURES.format("12", "9.50"))
    assert amounts(rated(book, plain("1000"))) == [1_200_000]
    assert amounts(rated(book, plain("1001"))) == [1_200_950]


def test_a_new_price_of_a_count_of_distinct_values_waits_for_the_next_period() -> None:
    charge = "{{key: a, model: per_unit, meter: aircraft, unit_price: '{}'}}"
    book = versions(charge.format("37.50"), charge.format("39"))
    assert amounts(rated(book, plain("10"))) == [37_500]


def test_a_new_price_waits_where_the_charge_says_so() -> None:
    charge = "{{key: a, model: per_unit, meter: seats, unit_price: '{}', on_change: next_period}}"
    book = versions(charge.format("1"), charge.format("2"))
    assert amounts(rated(book, plain("10"))) == [1_000]


def test_a_new_version_at_the_boundary_makes_one_piece() -> None:
    charge = "{{key: a, model: per_unit, meter: seats, unit_price: '{}'}}"
    book = versions(charge.format("1"), charge.format("2"), since="2013-02-01")
    assert amounts(rated(book, plain("10"))) == [1_000]


def test_each_dimension_value_counts_its_own_tiers() -> None:
    charge = DEPARTURES.format("12", "9.50").replace("tiers", "group_by: [origin], tiers")
    used: Quantities = {(("origin", "EWR"),): Decimal(1500), (("origin", "JFK"),): Decimal(10)}
    targets = rated(versions(charge), used)
    assert amounts(targets) == [1_675_000, 12_000]
    assert [target.description for target in targets] == ["dep (EWR)", "dep (JFK)"]


def test_tiers_fees_fall_due_when_a_tier_is_entered_and_only_then() -> None:
    tiers = [
        Tier(Decimal(10), Decimal(1), Decimal(5)),
        Tier(Decimal(20), Decimal(2), Decimal(7)),
        Tier(None, Decimal(3), Decimal(9)),
    ]

    def cost(reached: int, quantity: int, *, begins: bool) -> Decimal:
        return graduated(tiers, Decimal(reached), Decimal(quantity), begins=begins)[0]

    assert cost(0, 0, begins=True) == 5
    assert cost(0, 10, begins=True) == 15
    assert cost(0, 11, begins=True) == 24
    assert cost(10, 1, begins=False) == 9
    assert cost(11, 1, begins=False) == 2
    assert cost(11, 20, begins=False) == 18 + 9 + 33
    assert cost(11, -2, begins=False) == -3


def test_a_fee_of_the_first_tier_is_due_without_usage_unless_skipped() -> None:
    charge = (
        "{key: a, model: graduated, meter: seats, "
        "tiers: [{up_to: null, unit_price: '1', flat_fee: '5'}]WHEN}"
    )
    assert amounts(rated(versions(charge.replace("WHEN", "")), plain("0"))) == [500]
    assert rated(versions(charge.replace("WHEN", ", when_zero: skip")), plain("0")) == []


def test_a_fee_in_the_middle_of_a_month_is_prorated_by_days_without_a_daily_rate() -> None:
    fee = "{{key: base, model: flat, amount: '{}', timing: advance}}"
    assert amounts(rated(versions(fee.format("31.00")), start="2013-01-31")) == [100]
    halves = rated(versions(fee.format("9.99"), fee.format("19.99")))
    assert amounts(halves) == [483, 1999 - 967]
    same = rated(versions(fee.format("9.99"), fee.format("9.99")))
    assert sum(amounts(same)) == 999


def test_money_is_rounded_once_per_line_in_the_currencys_own_unit() -> None:
    charge = (
        "{key: a, model: per_unit, meter: seats,"
        " unit_price: {USD: '0.005', JPY: '0.5', KWD: '0.0005'}}"
    )
    for currency, minor in (("USD", 1), ("JPY", 1), ("KWD", 1)):
        book = versions(charge).replace(
            "currency: USD, time_zone", f"currency: {currency}, time_zone"
        )
        assert amounts(rated(book, plain("1"))) == [minor]


def test_the_steps_of_a_trace_add_up_to_the_amount() -> None:
    book = versions(DEPARTURES.format("12.3456", "9.5"))
    [target] = rated(book, plain("1000.75"))
    assert [step["step"] for step in target.trace] == ["tier 1", "tier 2", "rounding to 2 decimals"]
    steps = [Decimal(step["amount"]) for step in target.trace]
    assert steps == [Decimal("12345.6"), Decimal("7.125"), Decimal("0.005")]
    assert to_major(target.amount_minor, "USD") == sum(steps) == Decimal("12352.73")


PRICES = st.decimals(0, 100, places=4)


@st.composite
def tier_tables(draw: st.DrawFn) -> list[Tier]:
    bounds = sorted(draw(st.sets(st.integers(1, 300), max_size=4)))
    prices = draw(st.lists(PRICES, min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    ends = [*map(Decimal, bounds), None]
    return [Tier(end, price) for end, price in zip(ends, prices, strict=True)]


def naive(tiers: Sequence[Tier], units: int) -> Decimal:
    """Price unit by unit: the n-th unit costs what the tier says in which n lies."""
    return sum(
        (
            next(t.unit_price for t in tiers if t.up_to is None or unit <= t.up_to)
            for unit in range(1, units + 1)
        ),
        Decimal(0),
    )


@given(tiers=tier_tables(), pieces=st.lists(st.integers(0, 120), max_size=6))
def test_pieces_under_one_price_cost_what_the_whole_does(
    tiers: list[Tier], pieces: list[int]
) -> None:
    reached, total = Decimal(0), Decimal(0)
    for number, piece in enumerate(pieces):
        amount, steps = graduated(tiers, reached, Decimal(piece), begins=number == 0)
        assert sum(Decimal(step["amount"]) for step in steps) == amount >= 0
        reached, total = reached + piece, total + amount
    assert total == naive(tiers, sum(pieces))


@given(tiers=tier_tables(), at=st.decimals(0, 400, places=6), more=st.decimals(0, 1, places=6))
def test_graduated_prices_are_continuous_and_never_fall(
    tiers: list[Tier], at: Decimal, more: Decimal
) -> None:
    low, _ = graduated(tiers, Decimal(0), at, begins=True)
    high, _ = graduated(tiers, Decimal(0), at + more, begins=True)
    assert 0 <= high - low <= more * max(tier.unit_price for tier in tiers)


def test_a_year_has_twelve_fees_the_first_issued_at_its_start() -> None:
    fee = "{key: base, model: flat, amount: '2500.00', timing: advance}"
    facts = facts_of(METERS, versions(fee))
    found = due(facts, {}, Scope("close", date(2014, 1, 1)))
    assert [period.bill_on for period in found] == [date(2013, month, 1) for month in range(1, 13)]
    assert len(due(facts, {}, Scope("bill", date(2014, 1, 1)))) == 13


def test_what_has_not_come_yet_is_left_for_later() -> None:
    both = "{key: base, model: flat, amount: '1', timing: advance}, " + DEPARTURES.format("1", "1")
    facts = facts_of(METERS, versions(both))
    at = midnight(date(2013, 2, 1), ZoneInfo("America/New_York"))
    scope = replace(Scope("bill", date(2013, 5, 1)), clock=at)
    assert [period.charge for period in due(facts, {}, scope)] == ["base", "base"]
