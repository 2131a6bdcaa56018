"""Worked examples of every model: computed by hand, or as public documentation shows them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.billing.charges import Quantities, rated


def cents(charge: str, quantity: str, **more: Any) -> int:
    """Return what a quantity costs in January."""
    return sum(t.amount_minor for t in rated(charge, {(): Decimal(quantity)}, **more)[0])


# Stripe's documentation of tiered pricing: up to 5 at 7, up to 10 at 6.50, then 6; 20 units cost
# 127.50 graduated and 120 by volume.
STRIPE = (
    "[{up_to: '5', unit_price: '7'}, {up_to: '10', unit_price: '6.50'},"
    " {up_to: null, unit_price: '6'}]"
)


def test_graduated_prices_each_unit_by_the_tier_it_lies_in() -> None:
    charge = f"{{key: a, model: graduated, meter: seats, tiers: {STRIPE}}}"
    assert [cents(charge, q) for q in ("5", "6", "10", "11", "20")] == [
        3500, 4150, 6750, 7350, 12_750,
    ]  # fmt: skip


def test_volume_prices_all_units_by_the_tier_reached() -> None:
    charge = f"{{key: a, model: volume, meter: seats, tiers: {STRIPE}}}"
    assert [cents(charge, q) for q in ("5", "6", "10", "11", "20")] == [
        3500, 3900, 6500, 6600, 12_000,
    ]  # fmt: skip


def test_volume_adds_the_fee_of_the_tier_reached_even_at_nothing() -> None:
    tiers = (
        "[{up_to: '1', unit_price: '2', flat_fee: '3'},"
        " {up_to: null, unit_price: '1', flat_fee: '9'}]"
    )
    charge = f"{{key: a, model: volume, meter: seats, tiers: {tiers}}}"
    assert [cents(charge, q) for q in ("0", "1", "1.5")] == [300, 500, 1050]


def test_a_stairstep_costs_the_fee_of_the_tier_reached() -> None:
    tiers = "[{up_to: '10', flat_fee: '50'}, {up_to: null, flat_fee: '200'}]"
    charge = f"{{key: a, model: stairstep, meter: seats, tiers: {tiers}}}"
    assert [cents(charge, q) for q in ("0", "10", "10.000000000001")] == [5000, 5000, 20_000]
    skipped = charge[:-1] + ", when_zero: skip}"
    assert [cents(skipped, q) for q in ("0", "1")] == [0, 5000]


def test_a_begun_package_counts_whole() -> None:
    charge = "{key: a, model: package, meter: seats, package_size: '1000', package_price: '1.25'}"
    assert [cents(charge, q) for q in ("0", "0.5", "1000", "1001", "-7")] == [0, 125, 125, 250, 0]


def test_packages_after_an_allowance_as_lagos_documentation_has_them() -> None:
    """Lago, package charge: 5 per 100 units, the first 100 free; 201 units cost 10."""
    charge = (
        "{key: a, model: package, meter: seats, package_size: '100', package_price: '5',"
        " included: '100'}"
    )
    assert [cents(charge, q) for q in ("100", "101", "200", "201")] == [0, 500, 500, 1000]


def test_seats_are_prorated_from_the_day_they_change() -> None:
    charge = "{key: seats, model: per_seat, quantity_from: item, unit_price: '31', timing: advance}"
    item = ", quantities: {seats: [{quantity: '10'}, {from: 2013-01-11, quantity: '12'}]}"
    targets, _ = rated(charge, item=item)
    # 10 days of 310.00 and 21 days of 372.00
    assert [(int(t.quantity), t.amount_minor) for t in targets] == [(10, 10_000), (12, 25_200)]


def test_a_percentage_of_each_event_with_a_fee_a_least_and_a_most() -> None:
    """2.9 % and 0.30 for each, as card processors charge; between 0.50 and 20.00."""
    plain = (
        "{key: a, model: percentage, meter: seats, percent: '2.9', fixed_fee: '0.30', per: event"
    )
    counts = {"10": 2, "0.5": 1, "1000": 1}
    events = {(("value", value),): Decimal(count) for value, count in counts.items()}
    # 2 x 0.59 + 0.3145 + 29.30
    assert rated(plain + "}", events)[0][0].amount_minor == 3079
    assert rated(plain + ", round_each: true}", events)[0][0].amount_minor == 118 + 31 + 2930
    limits = ", event_minimum: '0.50', event_maximum: '20'}"
    target = rated(plain + limits, events)[0][0]
    assert (target.amount_minor, target.quantity) == (118 + 50 + 2000, Decimal("1020.5"))


def test_a_percentage_of_a_sum() -> None:
    assert cents("{key: a, model: percentage, meter: seats, percent: '1.2'}", "1234.5") == 1481


def test_a_matrix_takes_the_first_price_whose_values_are_there() -> None:
    charge = (
        "{key: gpu, model: matrix, meter: departures, dimensions: [origin], default: '3.00',"
        " prices: [{when: {origin: EWR}, unit_price: '4.10'}]}"
    )
    found: Quantities = {(("origin", "EWR"),): Decimal(2), (("origin", "JFK"),): Decimal(1)}
    targets, _ = rated(charge, found)
    assert [(dict(t.key.dimensions)["origin"], t.amount_minor) for t in targets] == [
        ("EWR", 820),
        ("JFK", 300),
    ]


def test_what_is_carried_from_period_to_period_is_used_first() -> None:
    charge = (
        "{key: a, model: per_unit, meter: seats, unit_price: '1', included: '1000', rollover: %s}"
    )
    january, after = rated(charge % "true", {(): Decimal(900)})
    assert (january[0].amount_minor, after) == (0, {"rollover": "100:1"})
    february, after = rated(charge % "true", {(): Decimal(1050)}, state=after)
    assert (february[0].amount_minor, after) == (0, {"rollover": "50:1"})
    march, after = rated(charge % "true", {(): Decimal(1100)}, state=after)
    assert (march[0].amount_minor, after) == (5000, {})


def test_an_allowance_is_carried_for_so_long_and_so_much() -> None:
    charge = (
        "{key: a, model: per_unit, meter: seats, unit_price: '1', included: '10',"
        " rollover: {periods: 2, up_to: '15'}}"
    )
    state: Mapping[str, str] = {}
    left = []
    for used in ("4", "0", "12", "10"):
        _, state = rated(charge, {(): Decimal(used)}, state=state)
        left.append(state.get("rollover", ""))
    # 6 and 10 are 16; 12 take the 5 and 7 of the 10; the next 10 take 3 and 7
    assert left == ["6:1", "5:2 10:1", "3:2 10:1", "3:2 10:1"]


def test_an_allowance_shrinks_with_a_period_cut_short() -> None:
    charge = "{key: a, model: per_unit, meter: seats, unit_price: '1', included: '310'%s}"
    assert cents(charge % "", "110", start="2013-01-22") == 1000
    assert cents(charge % ", prorate: false", "110", start="2013-01-22") == 0


def test_a_charge_costs_no_less_than_its_minimum_and_no_more_than_its_maximum() -> None:
    charge = (
        "{key: a, model: per_unit, meter: seats, unit_price: '0.0002', minimum: '5.00',"
        " maximum: '900.00'}"
    )
    quantities = ("0", "25000", "25050", "4500000", "9000000")
    assert [cents(charge, q) for q in quantities] == [500, 500, 501, 90_000, 90_000]
    assert cents(charge, "0", start="2013-01-17") == 242  # 15 of 31 days of 5.00
    assert cents(charge[:-1] + ", when_zero: skip}", "0") == 0


def test_a_minimum_of_several_lines_is_split_over_them_to_the_cent() -> None:
    charge = (
        "{key: m, model: matrix, meter: departures, dimensions: [origin], default: '1',"
        " prices: [{when: {origin: EWR}, unit_price: '1'}], minimum: '10'}"
    )
    found = {(("origin", name),): Decimal(1) for name in ("EWR", "JFK", "LGA")}
    assert [t.amount_minor for t in rated(charge, found)[0]] == [334, 333, 333]


def test_discounts_come_off_in_order_after_the_minimum() -> None:
    charge = "{key: a, model: per_unit, meter: seats, unit_price: '1', minimum: '20'}"
    item = ", discounts: [{key: ten, percent: '10'}, {key: five, amount: '5', charges: [a]}]"
    assert cents(charge, "10", item=item) == 1300
    assert cents(charge, "30", item=item) == 2200


def test_a_discount_never_makes_a_charge_negative() -> None:
    item = ", discounts: [{key: big, amount: '500', charges: [a]}]"
    assert cents("{key: a, model: per_unit, meter: seats, unit_price: '1'}", "10", item=item) == 0


def test_free_units_come_off_before_the_tiers() -> None:
    item = ", discounts: [{key: free, units: '5', charges: [a]}]"
    charge = f"{{key: a, model: graduated, meter: seats, tiers: {STRIPE}}}"
    assert cents(charge, "11", item=item) == 3500 + 650


@pytest.mark.parametrize(("duration", "periods"), [("once", 1), ("2", 2), ("forever", 4)])
def test_a_discount_lasts_for_its_periods(duration: str, periods: int) -> None:
    charge = "{key: fee, model: flat, amount: '10'}"
    item = f", discounts: [{{key: half, percent: '50', duration: {duration}}}]"
    state: Mapping[str, str] = {}
    found = []
    for _ in range(4):
        targets, state = rated(charge, item=item, state=state)
        found.append(targets[0].amount_minor)
    assert found == [500] * periods + [1000] * (4 - periods)


def test_a_dynamic_charge_costs_what_its_events_say_and_a_markup() -> None:
    charge = "{key: a, model: dynamic, meter: seats, markup: '15'}"
    assert cents(charge, "12.345") == 1420


def test_a_formula_over_meters_is_priced_as_one_quantity() -> None:
    charge = (
        "{key: a, model: formula, meters: {x: seats, y: departures},"
        " formula: 'x + 2 * max(y - 10, 0)', unit_price: '0.5'}"
    )
    found: Quantities = {(("meter", "x"),): Decimal(7), (("meter", "y"),): Decimal(13)}
    target = rated(charge, found)[0][0]
    assert (target.quantity, target.amount_minor) == (Decimal(13), 650)


def test_quantities_of_all_digits_there_are_stay_exact() -> None:
    charge = (
        "{key: a, model: formula, meters: {x: seats, y: departures},"
        " formula: '-x + abs(y)', unit_price: '0.1'}"
    )
    most = Decimal("12345678901234567890.123456789012")
    more = Decimal("-12345678901234567891.123456789012")
    found: Quantities = {(("meter", "x"),): most, (("meter", "y"),): more}
    assert rated(charge, found)[0][0].amount_minor == 10


def test_an_allowance_that_no_decimal_holds_can_be_billed() -> None:
    """30 of 31 days of one unit: 34.232258 units at 0.2922."""
    charge = "{key: a, model: per_unit, meter: seats, unit_price: '0.2922', included: '1'}"
    assert cents(charge, "35.20", start="2013-01-02") == 1000


def test_times_of_day_have_prices_of_their_own() -> None:
    charge = (
        "{key: kwh, model: time_of_day, meter: seats, default: '0.10', rates: ["
        "{name: peak, from: '08:00', to: '20:00', days: [mon, tue], unit_price: '0.30'}]}"
    )
    found: Quantities = {(("rate", "other"),): Decimal(100), (("rate", "peak"),): Decimal(10)}
    assert [t.amount_minor for t in rated(charge, found)[0]] == [1000, 300]


def test_one_time_is_billed_whole_in_a_period_cut_short() -> None:
    targets, _ = rated("{key: setup, model: one_time, amount: '99'}", start="2013-01-20")
    assert [t.amount_minor for t in targets] == [9900]


@pytest.mark.parametrize(
    ("spent", "expected"), [("0", 100_000), ("999.99", 1), ("1000", 0), ("1500", 10_000)]
)
def test_a_commitment_bills_what_is_missing_and_more_for_what_is_above(
    spent: str, expected: int
) -> None:
    charge = (
        "{key: c, model: commitment, commitment: '1000', overage: '1.2'},"
        " {key: a, model: per_unit, meter: seats, unit_price: '1'}"
    )
    found: Quantities = {(("charge", "a"), ("item", "i")): Decimal(spent)}
    targets, _ = rated(charge, found)
    assert targets[0].amount_minor == expected


def test_a_maximum_of_a_subscription_takes_off_what_is_too_much() -> None:
    charge = (
        "{key: c, model: commitment, maximum: '100'},"
        " {key: a, model: per_unit, meter: seats, unit_price: '1'}"
    )
    found: Quantities = {(("charge", "a"), ("item", "i")): Decimal("130.5")}
    targets, _ = rated(charge, found)
    assert targets[0].amount_minor == -3050


@pytest.mark.parametrize(("currency", "expected"), [("USD", 1235), ("JPY", 12), ("KWD", 12_345)])
def test_amounts_are_rounded_to_the_currencys_own_decimals(currency: str, expected: int) -> None:
    charge = "{key: a, model: per_unit, meter: seats, unit_price: '1.2345'}"
    assert cents(charge, "10", currency=currency) == expected


def test_a_book_may_round_halves_to_even() -> None:
    charge = "{key: a, model: per_unit, meter: seats, unit_price: '0.005'}"
    assert [cents(charge, q) for q in ("1", "3")] == [1, 2]
    assert [cents(charge, q, rounding="half_even") for q in ("1", "3")] == [0, 2]
