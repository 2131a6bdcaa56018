"""Where rules of rating meet: several lines, several currencies, the very day, nothing at all."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from billing.money import (
    AMOUNT_MINOR_MAX,
    earned_minor,
    round_half_away,
    share,
    split_minor,
    to_major,
    to_minor,
)
from billing.rating import LineKey, PeriodInputs, Target, rate, worth_nothing
from tests.unit.billing.charges import Quantities, rated
from tests.unit.billing.test_golden_charges import january, steps_of

MATRIX = "key: a, model: matrix, meter: departures, dimensions: [origin]"


def at(**quantity_by_origin: str) -> Quantities:
    """Return quantities of airports."""
    return {(("origin", name),): Decimal(text) for name, text in quantity_by_origin.items()}


def minors(charge: str, *quantities: Mapping[Any, Decimal], **more: Any) -> list[int]:
    """Return what the lines of January cost."""
    return [target.amount_minor for target in rated(f"{{{charge}}}", *quantities, **more)[0]]


def pieces(fields: str, *quantities: Mapping[Any, Decimal]) -> list[Target]:
    """Rate a January that is cut after every tenth day."""
    cuts = [10 * number for number in range(1, len(quantities))]
    return rate(PeriodInputs(january(fields, *cuts), "", tuple(quantities)), {})[0]


def test_lines_without_a_bound_are_rounded_each_by_itself() -> None:
    prices = "default: '0.005', prices: [{when: {origin: EWR}, unit_price: '0.005'}]"
    assert minors(f"{MATRIX}, {prices}", at(EWR="1", JFK="1")) == [1, 1]
    half = ", discounts: [{key: half, percent: '50'}]"
    assert minors(f"{MATRIX}, {prices}", at(EWR="2", JFK="2"), item=half) == [1, 1]


@pytest.mark.parametrize("bound", ["minimum: '0.025'", "maximum: '0.025'"])
def test_lines_with_a_bound_are_rounded_together_as_their_book_rounds(bound: str) -> None:
    price = {"minimum": "0.01", "maximum": "1"}[bound.partition(":")[0]]
    prices = f"default: '{price}', prices: [{{when: {{origin: EWR}}, unit_price: '{price}'}}]"
    charge, found = f"{MATRIX}, {prices}, {bound}", at(EWR="1", JFK="1")
    assert minors(charge, found) == [2, 1]
    assert minors(charge, found, rounding="half_even") == [1, 1]


def test_an_amount_off_several_lines_is_split_and_rounded_together() -> None:
    prices = "default: '1', prices: [{when: {origin: EWR}, unit_price: '1'}]"
    item = ", discounts: [{key: off, amount: '0.01', charges: [a]}]"
    [first, second], _ = rated(f"{{{MATRIX}, {prices}}}", at(EWR="1", JFK="1"), item=item)
    # 0.995 each: 1.99 together
    assert [first.amount_minor, second.amount_minor] == [100, 99]
    assert [[step["step"] for step in one.trace] for one in (first, second)] == [
        ["units", "discount off", "rounding to 2 decimals"],
        ["units", "discount off", "rounding to 2 decimals"],
    ]


def test_a_minimum_of_lines_without_usage_goes_to_the_first() -> None:
    prices = "default: '1', prices: [{when: {origin: EWR}, unit_price: '1'}], minimum: '10'"
    targets, _ = rated(f"{{{MATRIX}, {prices}}}", at(EWR="0", JFK="0", LGA="0"))
    assert [target.amount_minor for target in targets] == [1000, 0, 0]


def test_the_step_of_a_shared_bound_is_named_on_every_line() -> None:
    prices = "default: '1', prices: [{when: {origin: EWR}, unit_price: '1'}], minimum: '10'"
    for target in rated(f"{{{MATRIX}, {prices}}}", at(EWR="1", JFK="1", LGA="2"))[0]:
        assert target.trace[1]["step"] == "minimum of 10"


def test_lines_of_a_return_leave_a_bound_to_the_first() -> None:
    """What is below nothing has no share of what is above it."""
    prices = "default: '1', prices: [{when: {origin: EWR}, unit_price: '1'}], minimum: '10'"
    assert minors(f"{MATRIX}, {prices}", at(EWR="-2", JFK="6")) == [400, 600]


PRICE, ONE = "{USD: '5', EUR: '4'}", "{USD: '1', EUR: '1'}"
BY_CURRENCY = [
    ("model: flat, amount: PRICE", {}, "", (500, 400)),
    ("model: one_time, amount: PRICE", {}, "", (500, 400)),
    (
        "model: per_seat, quantity_from: item, unit_price: PRICE",
        {},
        ", quantities: {a: '2'}",
        (1000, 800),
    ),
    (
        "model: per_unit, meter: seats, unit_price: PRICE",
        {(): Decimal(2)},
        "",
        (1000, 800),
    ),
    (
        "model: package, meter: seats, package_size: '10', package_price: PRICE",
        {(): Decimal(2)},
        "",
        (500, 400),
    ),
    (
        (
            "model: matrix, meter: departures, dimensions: [origin], default: PRICE,"
            " prices: [{when: {origin: JFK}, unit_price: {USD: '3', EUR: '2'}}]"
        ),
        at(EWR="1", JFK="1"),
        "",
        (800, 600),
    ),
    (
        (
            "model: time_of_day, meter: seats, default: PRICE, rates: [{name: night,"
            " from: '22:00', to: '06:00', unit_price: {USD: '3', EUR: '2'}}]"
        ),
        {(("rate", "night"),): Decimal(1), (("rate", "other"),): Decimal(1)},
        "",
        (800, 600),
    ),
    (
        "model: percentage, meter: seats, percent: '0', per: event, fixed_fee: PRICE",
        {(("value", "1"),): Decimal(2)},
        "",
        (1000, 800),
    ),
    (
        ("model: percentage, meter: seats, percent: '0', per: event, event_minimum: PRICE"),
        {(("value", "1"),): Decimal(2)},
        "",
        (1000, 800),
    ),
    (
        "model: percentage, meter: seats, percent: '100', per: event, event_maximum: PRICE",
        {(("value", "9"),): Decimal(2)},
        "",
        (1000, 800),
    ),
    (
        ("model: per_unit, meter: seats, unit_price: ONE, minimum: PRICE"),
        {(): Decimal(2)},
        "",
        (500, 400),
    ),
    (
        ("model: per_unit, meter: seats, unit_price: ONE, maximum: PRICE"),
        {(): Decimal(9)},
        "",
        (500, 400),
    ),
    (
        "model: per_unit, meter: seats, unit_price: ONE",
        {(): Decimal(9)},
        ", discounts: [{key: off, amount: PRICE, charges: [a]}]",
        (400, 500),
    ),
    (
        "model: flat, amount: {USD: '9', EUR: '9'}",
        {},
        ", discounts: [{key: off, amount: PRICE, charges: [a]}]",
        (400, 500),
    ),
    (
        "model: commitment, commitment: PRICE",
        {(("charge", "x"),): Decimal(1)},
        "",
        (400, 300),
    ),
    (
        "model: commitment, maximum: PRICE",
        {(("charge", "x"),): Decimal(9)},
        "",
        (-400, -500),
    ),
]


@pytest.mark.parametrize(("fields", "quantities", "item", "expected"), BY_CURRENCY)
def test_each_price_is_that_of_the_customers_currency(
    fields: str, quantities: Mapping[Any, Decimal], item: str, expected: tuple[int, int]
) -> None:
    fields, item = (text.replace("PRICE", PRICE).replace("ONE", ONE) for text in (fields, item))
    found = [
        sum(minors(f"key: a, {fields}", quantities, item=item, currency=currency))
        for currency in ("USD", "EUR")
    ]
    assert tuple(found) == expected


@pytest.mark.parametrize(
    ("terms", "spent", "expected"),
    [
        # 15 of 31 days of 310 are 150
        ("commitment: '310'", "100", 5000),
        ("commitment: '310', prorate: false", "100", 21_000),
        ("commitment: '310', overage: '2'", "170", 2000),
        ("commitment: '310', overage: '2', prorate: false", "320", 1000),
        ("maximum: '310'", "170", -2000),
        ("maximum: '310', prorate: false", "320", -1000),
    ],
)
def test_a_commitment_shrinks_with_a_period_cut_short_unless_told_otherwise(
    terms: str, spent: str, expected: int
) -> None:
    found = {(("charge", "x"),): Decimal(spent)}
    charge = f"key: a, model: commitment, {terms}"
    assert minors(charge, found, start="2013-01-17") == [expected]


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ("from: 2013-01-01", 500),
        ("from: 2013-01-02", 1000),
        ("to: 2013-01-01", 1000),
        ("to: 2013-01-02", 500),
        ("from: 2012-12-31, to: 2013-01-02", 500),
    ],
)
def test_a_discount_counts_for_periods_that_start_from_its_first_day_until_its_last(
    dates: str, expected: int
) -> None:
    item = f", discounts: [{{key: half, percent: '50', {dates}}}]"
    assert minors("key: a, model: flat, amount: '10'", item=item) == [expected]


def test_a_discount_of_other_charges_takes_nothing_off() -> None:
    item = ", discounts: [{key: half, percent: '50', charges: [a]}]"
    other = "{key: b, model: flat, amount: '10'}, {key: a, model: flat, amount: '4'}"
    [target], _ = rated(other, item=item)
    assert target.amount_minor == {"a": 200, "b": 1000}[target.key.charge]


def test_nothing_used_is_one_line_of_nothing_or_none_where_lines_are_of_values() -> None:
    [target], _ = rated("{key: a, model: per_unit, meter: seats, unit_price: '1'}")
    assert (target.quantity, target.amount_minor, target.trace) == (Decimal(0), 0, ())
    per_event = "key: a, model: percentage, meter: seats, percent: '1', per: event"
    [target], _ = rated(f"{{{per_event}}}")
    assert (target.quantity, target.amount_minor) == (Decimal(0), 0)
    grouped = "key: a, model: per_unit, meter: departures, unit_price: '1', group_by: [origin]"
    assert minors(grouped) == []
    assert minors(f"{per_event.replace('seats', 'departures')}, group_by: [origin]") == []


def test_lines_without_usage_are_left_out_where_nothing_is_to_be_charged_for_them() -> None:
    prices = "default: '1', prices: [{when: {origin: EWR}, unit_price: '1'}]"
    found = at(EWR="1", JFK="0")
    assert minors(f"{MATRIX}, {prices}", found) == [100, 0]
    assert minors(f"{MATRIX}, {prices}, when_zero: skip", found) == [100]
    fields = MATRIX.removeprefix("key: a, ") + f", {prices}, when_zero: skip"
    targets = pieces(f"{fields}, on_change: next_period", at(EWR="1", JFK="0"), at(JFK="1"))
    assert [int(target.quantity) for target in targets] == [1, 0, 1]


def test_events_are_priced_by_value_within_their_dimension_values() -> None:
    charge = (
        "key: a, model: percentage, meter: departures, percent: '10', per: event,"
        " group_by: [origin], fixed_fee: '1'"
    )
    found = {
        (("origin", "EWR"), ("value", "10")): Decimal(2),
        (("origin", "EWR"), ("value", "20")): Decimal(1),
        (("origin", "JFK"), ("value", "5")): Decimal(3),
    }
    targets, _ = rated(f"{{{charge}}}", found)
    assert [(t.description, t.quantity, t.amount_minor) for t in targets] == [
        ("a (EWR)", Decimal(40), 700),
        ("a (JFK)", Decimal(15), 450),
    ]


def test_events_of_a_dynamic_price_are_marked_up_each() -> None:
    charge = "{key: a, model: dynamic, meter: seats, markup: '50', per: event, round_each: true}"
    [target], _ = rated(charge, {(("value", "0.01"),): Decimal(3)})
    assert (target.amount_minor, steps_of(target)) == (6, ["events of 0.01: 3 at 0.02 = 0.06"])
    plain = "{key: a, model: dynamic, meter: seats, per: event}"
    assert rated(plain, {(("value", "0.01"),): Decimal(3)})[0][0].amount_minor == 3
    [even], _ = rated(charge, {(("value", "0.03"),): Decimal(1)}, rounding="half_even")
    assert even.amount_minor == 4


def test_bounds_of_tiers_stay_in_a_period_cut_short_unless_pieces_restart() -> None:
    tiers = "tiers: [{up_to: '31', unit_price: '1'}, {up_to: null, unit_price: '0'}]"
    charge = f"key: a, model: graduated, meter: seats, {tiers}"
    used = {(): Decimal(40)}
    assert minors(charge, used, start="2013-01-17") == [3100]
    assert minors(f"{charge}, on_change: restart", used, start="2013-01-17") == [1500]


def test_a_third_piece_goes_on_from_what_both_before_it_reached() -> None:
    tiers = "tiers: [{up_to: '10', unit_price: '1'}, {up_to: null, unit_price: '0.5'}]"
    found = [{(): Decimal(quantity)} for quantity in (4, 4, 4)]
    targets = pieces(f"model: graduated, meter: seats, {tiers}", *found)
    assert [target.amount_minor for target in targets] == [400, 400, 300]


def test_seats_pass_tiers_from_the_first_one_on() -> None:
    tiers = "tiers: [{up_to: '2', unit_price: '10', flat_fee: '5'}, {up_to: null, unit_price: '1'}]"
    charge = f"key: a, model: per_seat, quantity_from: item, {tiers}"
    assert minors(charge, item=", quantities: {a: '4'}") == [500 + 2000 + 200]
    discounts = "[{key: f, units: '1', charges: [a]}, {key: p, percent: '10'}]"
    item = f", quantities: {{a: '4'}}, discounts: {discounts}"
    assert minors(charge, item=item) == [(500 + 2000 + 100) * 9 // 10]


def test_seats_that_nobody_has_said_are_none() -> None:
    charge = "key: a, model: per_seat, quantity_from: item, unit_price: '10'"
    [target], _ = rated(f"{{{charge}}}")
    assert (target.quantity, target.amount_minor) == (Decimal(0), 0)


def test_a_line_of_two_dimensions_is_described_by_both_values() -> None:
    charge = "key: a_b, model: per_unit, meter: departures, unit_price: '1', group_by: [origin]"
    fields = (("origin", "EWR"), ("tailnum", "N1"))
    [target], _ = rated(f"{{{charge}}}", {fields: Decimal(1)})
    assert target.description == "a b (EWR, N1)"


def test_what_was_left_is_free_only_where_the_charge_still_carries_it_on() -> None:
    charge = "{key: a, model: per_unit, meter: seats, unit_price: '1', included: '1'%s}"
    state = {"rollover": "5:1"}
    [target], after = rated(charge % "", {(): Decimal(4)}, state=state)
    assert (target.amount_minor, after) == (300, {})
    [target], after = rated(charge % ", rollover: true", {(): Decimal(4)}, state=state)
    assert (target.amount_minor, after) == (0, {"rollover": "1:2 1:1"})


def test_a_fee_of_a_period_cut_short_says_for_how_many_of_its_days() -> None:
    [target], _ = rated("{key: a, model: flat, amount: '31'}", start="2013-01-17")
    assert steps_of(target) == ["fee = 31", "15 of 31 days = -16"]


@pytest.mark.parametrize(("day", "version"), [(-3, 1), (0, 1), (9, 1), (10, 2), (20, 2)])
def test_what_is_left_of_nothing_is_told_of_the_piece_it_lies_in(day: int, version: int) -> None:
    billed = january("model: per_unit, meter: seats, unit_price: '1'", 10)
    at = billed.period.starts_at + timedelta(days=day)
    key = LineKey("S", "i", "a", (("origin", "EWR"),), at, billed.period.ends_at, at)
    target = worth_nothing(billed, key, "seat")
    assert (target.key, target.unit, target.book_version) == (key, "seat", version)
    assert (target.quantity, target.amount_minor, target.trace) == (Decimal(0), 0, ())


def test_a_target_whose_steps_do_not_add_up_cannot_be_made() -> None:
    [target], _ = rated("{key: a, model: flat, amount: '10'}")
    fields = {name: getattr(target, name) for name in Target.__struct_fields__}
    with pytest.raises(AssertionError, match=r"the steps of LineKey\(.* do not add up"):
        Target(**(fields | {"amount_minor": 999}))


def test_amounts_of_many_digits_are_rounded_once() -> None:
    assert to_minor(Decimal("123456789012345.674999999999999999"), "USD") == 12345678901234567
    assert to_minor(Decimal(1000000000000000), "USD") == AMOUNT_MINOR_MAX
    with pytest.raises(OverflowError, match=r"1000000000000000\.01 USD is more than the books"):
        to_minor(Decimal("1000000000000000.01"), "USD")
    digits = 10**40 + 1
    assert to_major(digits, "KWD") * 1000 != digits, "ordinary arithmetic has fewer digits"
    assert str(to_major(digits, "KWD")) == f"{digits // 1000}.001"


def test_a_share_is_cut_off_after_24_decimals_and_whole_where_nothing_is_shared() -> None:
    assert share(Decimal(2), 1, 3) == Decimal("0." + "6" * 24)
    assert share(Decimal(-2), 1, 3) == Decimal("-0." + "6" * 24)
    fine = Decimal("0." + "1" * 30)
    assert share(fine, 5, 5) == fine
    large = Decimal("123456789012345678.123456789012")
    assert Fraction(share(large, 9999, 10_000)) == Fraction(large) * Fraction(9999, 10_000)


def test_halves_go_away_from_zero_on_either_side() -> None:
    found = [round_half_away(Fraction(n, 2)) for n in (-3, -1, 0, 1, 3)]
    assert found == [-2, -1, 0, 1, 2]


@pytest.mark.parametrize(("days", "total"), [(-1, 30), (31, 30), (0, 0), (1, 0), (0, -1)])
def test_days_that_a_period_does_not_have_are_refused(days: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"^{days} of {total} days$"):
        earned_minor(100, days, total)


def test_a_period_of_one_day_earns_all_on_it() -> None:
    assert [earned_minor(100, days, 1) for days in (0, 1)] == [0, 100]


@pytest.mark.parametrize("weights", [[0], [0, 0], [1, -1], [3, -1], [-1]])
def test_weights_that_split_nothing_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^weights must be positive in sum and none negative: \["):
        split_minor(100, weights)


def test_a_weight_of_nothing_gets_nothing() -> None:
    assert split_minor(7, [0, 1, 1]) == [0, 4, 3]
    assert split_minor(0, [2, 1]) == [0, 0]
    assert split_minor(7, [0, 1]) == [0, 7]
