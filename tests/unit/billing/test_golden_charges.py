"""Invoices of worked examples, step by step: computed by hand from what public pages say.

The pages are those of Lago (docs.getlago.com, charge models), Stripe (docs.stripe.com, tiered
pricing and prorations) and Autumn (docs.useautumn.com, graduated pricing), and a catalog from
the list of Kill Bill's users (blocks of page views); what names no page is ours.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from billing.charge_period import ChargePeriod, Piece
from billing.period import Period
from billing.rating import LineKey, PeriodInputs, Target, rate
from tests.unit.billing.charges import Quantities, charge_of, rated

STRIPE = (
    "meter: seats, tiers: [{up_to: '5', unit_price: '7'}, {up_to: '10', unit_price: '6.50'},"
    " {up_to: null, unit_price: '6'}]"
)
FEES = (
    "meter: seats, tiers: [{up_to: '1', unit_price: '2', flat_fee: '3'},"
    " {up_to: null, unit_price: '1', flat_fee: '9'}]"
)
LAGO = (
    "meter: seats, tiers: [{up_to: '100', unit_price: '1'}, {up_to: '200', unit_price: '0.50'},"
    " {up_to: null, unit_price: '0.10'}]"
)
AUTUMN = (
    "meter: seats, tiers: [{up_to: '1000', unit_price: '0.01'},"
    " {up_to: '10000', unit_price: '0.008'}, {up_to: null, unit_price: '0.005'}]"
)
STEPS = "meter: seats, tiers: [{up_to: '10', flat_fee: '50'}, {up_to: null, flat_fee: '200'}]"
PERCENT = "model: percentage, meter: seats, percent: '1.2'"

# (fields of the charge, quantity, terms of the item, steps)
TABLE: list[tuple[str, str, str, list[str]]] = [
    # Stripe: 20 units graduated and by volume.
    (
        f"model: graduated, {STRIPE}",
        "20",
        "",
        ["tier 1: 5 at 7 = 35", "tier 2: 5 at 6.5 = 32.5", "tier 3: 10 at 6 = 60"],
    ),
    (f"model: volume, {STRIPE}", "20", "", ["all in tier 3: 20 at 6 = 120"]),
    # Lago: a dollar for the first hundred, half for the second, a tenth from there.
    (
        f"model: graduated, {LAGO}",
        "250",
        "",
        ["tier 1: 100 at 1 = 100", "tier 2: 100 at 0.5 = 50", "tier 3: 50 at 0.1 = 5"],
    ),
    # Lago, standard: 1,000 calls at 0.05.
    ("model: per_unit, meter: seats, unit_price: '0.05'", "1000", "", ["units: 1000 at 0.05 = 50"]),
    # Autumn: 15,000 requests come to 107.
    (
        f"model: graduated, {AUTUMN}",
        "15000",
        "",
        ["tier 1: 1000 at 0.01 = 10", "tier 2: 9000 at 0.008 = 72", "tier 3: 5000 at 0.005 = 25"],
    ),
    # Kill Bill: 10,000 page views are included, then 5 for each block of 1,000.
    (
        "model: package, meter: seats, package_size: '1000', package_price: '5', included: '10000'",
        "11500",
        "",
        ["included: 10000 = 0", "packages of 1000: 2 at 5 = 10"],
    ),
    # Lago, percentage: 1.2 % of what was moved.
    (PERCENT, "1234.5", "", ["1.2 %: 1234.5 = 14.814", "rounding to 2 decimals = -0.004"]),
    (PERCENT, "0", "", []),
    (
        f"model: graduated, {FEES}",
        "2",
        "",
        [
            "tier 1 flat fee = 3",
            "tier 1: 1 at 2 = 2",
            "tier 2 flat fee = 9",
            "tier 2: 1 at 1 = 1",
        ],
    ),
    (f"model: volume, {FEES}", "2", "", ["tier 2 flat fee = 9", "all in tier 2: 2 at 1 = 2"]),
    (f"model: volume, {FEES}", "0", "", ["tier 1 flat fee = 3"]),
    (f"model: stairstep, {STEPS}", "11", "", ["tier 2: 11 = 200"]),
    (
        "model: dynamic, meter: seats, markup: '15'",
        "20",
        "",
        ["price of the events = 20", "markup of 15 %: 20 = 3"],
    ),
    ("model: dynamic, meter: seats", "20", "", ["price of the events = 20"]),
    ("model: dynamic, meter: seats, markup: '15'", "0", "", []),
    (
        "model: per_unit, meter: seats, unit_price: '1', minimum: '20'",
        "10",
        ", discounts: [{key: ten, percent: '10'}, {key: five, amount: '5', charges: [a]}]",
        [
            "units: 10 at 1 = 10",
            "minimum of 20 = 10",
            "discount ten: 10 % = -2",
            "discount five = -5",
        ],
    ),
    (
        "model: per_unit, meter: seats, unit_price: '1.015', included: '3', maximum: '20'",
        "30",
        ", discounts: [{key: free, units: '2', charges: [a]}]",
        [
            "discount: 2 = 0",
            "included: 3 = 0",
            "units: 25 at 1.015 = 25.375",
            "maximum of 20 = -5.375",
        ],
    ),
    (
        "model: per_unit, meter: seats, unit_price: '1', maximum: '20'",
        "5",
        "",
        ["units: 5 at 1 = 5"],
    ),
    # A return goes back through the tiers that it came by.
    (f"model: graduated, {LAGO}", "-7", "", ["tier 1: -7 at 1 = -7"]),
    (
        "model: per_unit, meter: seats, unit_price: '0.005', included: '3'",
        "-1",
        "",
        ["units: -1 at 0.005 = -0.005", "rounding to 2 decimals = -0.005"],
    ),
    (
        "model: flat, amount: '10.25'",
        "0",
        ", discounts: [{key: half, percent: '50'}]",
        ["fee = 10.25", "discount half: 50 % = -5.125", "rounding to 2 decimals = 0.005"],
    ),
    (
        "model: per_seat, quantity_from: item, unit_price: '29'",
        "0",
        ", quantities: {a: '12'}, discounts: [{key: two, units: '2', charges: [a]}]",
        ["discount: 2 = 0", "units: 10 at 29 = 290"],
    ),
    (
        "model: per_seat, quantity_from: item, unit_price: '29'",
        "0",
        ", quantities: {a: '1'}, discounts: [{key: two, units: '2', charges: [a]}]",
        ["discount: 1 = 0"],
    ),
]


def steps_of(target: Target) -> list[str]:
    """Write a trace as a person would; nothing of a step is left out."""
    found = []
    for step in target.trace:
        rest = dict(step)
        text = rest.pop("step")
        quantity, price = rest.pop("quantity", None), rest.pop("unit_price", None)
        text += f": {quantity}" if quantity is not None else ""
        text += f" at {price}" if price is not None else ""
        found.append(f"{text} = {rest.pop('amount')}")
        assert not rest
    return found


@pytest.mark.parametrize(("fields", "quantity", "item", "steps"), TABLE)
def test_an_amount_comes_about_in_these_steps(
    fields: str, quantity: str, item: str, steps: list[str]
) -> None:
    [target], _ = rated(f"{{key: a, {fields}}}", {(): Decimal(quantity)}, item=item)
    assert steps_of(target) == steps


def january(fields: str, *cuts: int, **more: Any) -> ChargePeriod:
    """Return January of a charge, cut into pieces where its price changed."""
    charge = charge_of(fields)
    start = datetime(2013, 1, 1, tzinfo=UTC)
    bounds = [0, *cuts, 31]
    pieces = []
    for number, (since, until) in enumerate(pairwise(bounds), 1):
        at, end = start + timedelta(days=since), start + timedelta(days=until)
        place = (since, until)
        pieces.append(Piece(at.date(), end.date(), at, end, number, charge, *place))
    first, last = pieces[0], pieces[-1]
    own = (first.starts_on, last.ends_on)
    period = Period(*own, first.starts_at, last.ends_at, *own)
    names = ("C", "S", "i", "a", "book", "USD", charge.timing, 0)
    days = (own[1] - own[0]).days
    return ChargePeriod(*names, period=period, whole=days, unit="day", pieces=tuple(pieces), **more)


def test_a_restart_prices_each_piece_as_a_period_of_its_own() -> None:
    """31 free, a least of 3.10, a tier to 62 shrink to 10 and 21 days: 10, 1.00, 20; 21, 2.10, 42.

    A price of pieces alike shows the bounds alone.
    """
    fields = (
        "model: graduated, meter: seats, on_change: restart, included: '31', minimum: '3.10',"
        " tiers: [{up_to: '62', unit_price: '1'}, {up_to: null, unit_price: '0.5'}]"
    )
    inputs = PeriodInputs(january(fields, 10), "seat", ({(): Decimal(40)}, {(): Decimal(22)}))
    targets, state = rate(inputs, {})
    assert [steps_of(target) for target in targets] == [
        ["included: 10 = 0", "tier 1: 20 at 1 = 20", "tier 2: 10 at 0.5 = 5"],
        ["included: 21 = 0", "tier 1: 1 at 1 = 1", "minimum of 2.1 = 1.1"],
    ]
    assert state == {}


def test_the_first_tiers_fee_is_due_once_in_a_period_and_for_each_dimension_value() -> None:
    """Pieces follow one another; each value has tiers of its own, wherever it first appears."""
    fields = (
        "model: graduated, meter: departures, group_by: [origin],"
        " tiers: [{up_to: '2', unit_price: '1', flat_fee: '5'}, {up_to: null, unit_price: '0'}]"
    )
    ewr, jfk = (("origin", "EWR"),), (("origin", "JFK"),)
    quantities: tuple[Quantities, ...] = ({ewr: Decimal(1)}, {ewr: Decimal(3), jfk: Decimal(1)})
    targets, _ = rate(PeriodInputs(january(fields, 10), "", quantities), {})
    assert [(target.description, *steps_of(target)) for target in targets] == [
        ("a (EWR)", "tier 1 flat fee = 5", "tier 1: 1 at 1 = 1"),
        ("a (EWR)", "tier 1: 1 at 1 = 1", "tier 2: 2 at 0 = 0"),
        ("a (JFK)", "tier 1 flat fee = 5", "tier 1: 1 at 1 = 1"),
    ]


def test_a_minimum_is_shared_by_what_lines_cost_and_they_add_up() -> None:
    fields = (
        "model: matrix, meter: departures, dimensions: [origin], default: '1', minimum: '10',"
        " prices: [{when: {origin: EWR}, unit_price: '1'}]"
    )
    billed = january(fields)
    quantities: Quantities = {
        (("origin", name),): Decimal(n) for name, n in (("EWR", 1), ("JFK", 2))
    }
    targets, _ = rate(PeriodInputs(billed, "", (quantities,)), {})
    assert [target.amount_minor for target in targets] == [333, 667]
    assert [step["step"] for step in targets[0].trace] == [
        "units", "minimum of 10", "rounding to 2 decimals",
    ]  # fmt: skip


def test_a_target_says_whose_it_is_for_what_and_when() -> None:
    billed = january("model: per_unit, meter: seats, unit_price: '2', product: sky", 10)
    targets, _ = rate(PeriodInputs(billed, "seat", ({(): Decimal(1)}, {(): Decimal(2)})), {})
    start, cut = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 11, tzinfo=UTC)
    assert targets[0] == Target(
        key=LineKey("S", "i", "a", (), start, cut, start),
        kind="usage",
        quantity=Decimal(1),
        unit="seat",
        amount_minor=200,
        currency="USD",
        service_from=date(2013, 1, 1),
        service_until=date(2013, 1, 11),
        product="sky",
        description="a",
        price_book="book",
        book_version=1,
        trace=({"step": "units", "quantity": "1", "unit_price": "2", "amount": "2"},),
    )
    assert targets[1].key == LineKey(
        "S", "i", "a", (), cut, datetime(2013, 2, 1, tzinfo=UTC), start
    )
    assert (targets[1].book_version, targets[1].service_until) == (2, date(2013, 2, 1))


def test_a_fee_in_advance_says_so_and_its_description_is_what_is_given() -> None:
    named = "model: flat, amount: '10', timing: advance, description: The base"
    [target], _ = rate(PeriodInputs(january(named), "", ({},)), {})
    assert (target.kind, target.description, target.quantity, target.unit) == (
        "advance", "The base", Decimal(1), "",
    )  # fmt: skip
    [once], _ = rated("{key: set_up, model: one_time, amount: '99'}")
    assert (once.description, once.kind, once.quantity, once.unit) == (
        "set up", "usage", Decimal(1), "",
    )  # fmt: skip


def test_events_that_are_too_many_to_show_are_shown_as_one_step() -> None:
    fields = "model: percentage, meter: seats, percent: '10', fixed_fee: '0.30', per: event"
    few: Quantities = {(("value", str(value)),): Decimal(2) for value in (1, 2)}
    [target], _ = rate(PeriodInputs(january(fields), "", (few,)), {})
    assert steps_of(target) == ["events of 1: 2 at 0.4 = 0.8", "events of 2: 2 at 0.5 = 1"]
    counts = {20: "events of 1: 1 at 0.4 = 0.4", 21: "events, each by itself: 21 = 29.4"}
    for count, first in counts.items():
        many: Quantities = {(("value", str(value)),): Decimal(1) for value in range(1, count + 1)}
        [target], _ = rate(PeriodInputs(january(fields), "", (many,)), {})
        assert steps_of(target)[0] == first
        assert target.amount_minor == 30 * count + 10 * count * (count + 1) // 2


@pytest.mark.parametrize(
    ("fields", "spent", "steps"),
    [
        ("commitment: '31'", "30", ["commitment = 31", "billed for its charges = -30"]),
        ("commitment: '31'", "40", []),
        ("commitment: '31'", "31", []),
        ("commitment: '31', overage: '1.2'", "41", ["10 above the commitment, at 1.2 times = 2"]),
        ("maximum: '31'", "41", ["maximum of 31 = -10"]),
        ("maximum: '31'", "31", []),
        (
            "commitment: '31', overage: '2', maximum: '40'",
            "36",
            ["5 above the commitment, at 2 times = 5", "maximum of 40 = -1"],
        ),
    ],
)
def test_a_commitment_comes_about_in_these_steps(fields: str, spent: str, steps: list[str]) -> None:
    used = PeriodInputs(
        january(f"model: commitment, {fields}"),
        "",
        ({(("charge", "x"),): Decimal(spent) - 10, (("charge", "y"),): Decimal(10)},),
    )
    [target], state = rate(used, {"discount:x": "1"})
    assert steps_of(target) == steps
    assert (target.quantity, target.unit, state) == (Decimal(1), "", {})
    assert target.amount_minor == sum(Decimal(text.split(" = ")[1]) * 100 for text in steps)
