from datetime import date, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from billing.due import BilledPeriod, Scope, again, due
from billing.facts import Facts
from billing.pricing import Dimensions
from billing.rating import LineKey, PeriodInputs, Target, rate
from billing.settlement import (
    Line,
    Position,
    RepeatedLineError,
    corrections,
    first_lines,
    split_excess,
)
from tests.unit.billing.test_rating import DEPARTURES, Quantities, versions
from tests.unit.billing.world import METERS, facts_of

CHEAP = "{key: calls, model: per_unit, meter: seats, unit_price: '0.003'}"
FACTS = facts_of(METERS, versions(CHEAP))
PERIOD = due(FACTS, {}, Scope("close", date(2013, 2, 1)))[0]


def worth(quantity: int) -> Target:
    [target] = rate(PeriodInputs(PERIOD, "", ({(): Decimal(quantity)},)), {})[0]
    return target


def test_ten_late_units_of_a_third_of_a_cent_in_ten_runs_bill_three_cents() -> None:
    position = Position()
    issued = []
    for units in range(1, 11):
        known = {worth(0).key: position}
        for line in corrections(PERIOD, "", [worth(units)], known, f"cut {units}"):
            issued.append(line.amount_minor)
            position = Position(
                position.quantity + line.quantity, position.amount_minor + line.amount_minor
            )
    assert position == Position(Decimal(9), 3)
    assert issued == [1, 1, 1]


def test_a_key_that_is_worth_nothing_any_more_is_credited_whole() -> None:
    charge = DEPARTURES.format("12", "9.50").replace("tiers", "group_by: [origin], tiers")
    period = due(facts_of(METERS, versions(charge)), {}, Scope("close", date(2013, 2, 1)))[0]
    used: Quantities = {(("origin", "EWR"),): Decimal(3)}
    [target] = rate(PeriodInputs(period, "", (used,)), {})[0]
    [line] = corrections(period, "", [], {target.key: Position(Decimal(3), 3600)}, "cut 2")
    assert (line.kind, int(line.quantity), line.amount_minor) == ("correction", -3, -3600)


def test_a_period_with_lines_is_not_billed_for_the_first_time_again() -> None:
    with pytest.raises(RepeatedLineError):
        first_lines([worth(5000)], {worth(0).key: Position(Decimal(1), 1)})


def line(amount_minor: int) -> Line:
    amount = str(Decimal(amount_minor) / 100)
    return Line(worth(1), "usage", "cut 1", Decimal(1), amount_minor,
                ({"step": "x", "amount": amount},))  # fmt: skip


@pytest.mark.parametrize(
    ("amounts", "on_invoice", "on_note"),
    [
        ([500, -300], [500, -300], []),
        ([500, -300, -400, -10], [500, -300, -200], [-200, -10]),
        ([-70], [], [-70]),
        ([100, -100], [100, -100], []),
        ([100, -100, -5], [100, -100], [-5]),
        ([0, -5, 3], [0, -3, 3], [-2]),
    ],
)
def test_what_a_credit_exceeds_becomes_a_credit_note(
    amounts: list[int], on_invoice: list[int], on_note: list[int]
) -> None:
    invoice, note = split_excess([line(amount) for amount in amounts])
    assert [one.amount_minor for one in invoice] == on_invoice
    assert [one.amount_minor for one in note] == on_note
    assert sum(one.quantity for one in (*invoice, *note)) == len(amounts)
    assert len({(one.target.key, one.cause) for one in (*invoice, *note)}) <= 2


def test_a_line_whose_steps_do_not_add_up_cannot_be_made() -> None:
    with pytest.raises(AssertionError):
        Line(worth(1), "usage", "", Decimal(1), 5, ({"step": "x", "amount": "0.04"},))


def test_refusals_name_the_key() -> None:
    key = worth(0).key
    with pytest.raises(RepeatedLineError, match=r"^LineKey\(subscription='S'"):
        first_lines([worth(5000)], {key: Position()})
    with pytest.raises(
        AssertionError, match=r"the steps of LineKey\(.* do not add up to the amount"
    ):
        Line(worth(1), "usage", "", Decimal(1), 5, ())


def test_what_is_worth_nothing_and_used_is_a_line_and_what_is_not_used_is_none() -> None:
    [used] = first_lines([worth(0), worth(1)], {})
    assert (int(used.quantity), used.amount_minor, used.cause, used.kind) == (1, 0, "", "usage")
    [owed] = first_lines([replace(worth(2), quantity=Decimal(0))], {})
    assert (int(owed.quantity), owed.amount_minor, owed.trace) == (0, 1, worth(2).trace)


def test_a_correction_tells_what_was_billed_before_unless_nothing_was() -> None:
    key = worth(0).key
    [first] = corrections(PERIOD, "", [worth(5000)], {}, "cut 2")
    assert (int(first.quantity), first.amount_minor) == (5000, 1500)
    assert first.trace == worth(5000).trace
    [more] = corrections(PERIOD, "", [worth(5000)], {key: Position(Decimal(2000), 600)}, "cut 3")
    assert (more.kind, more.cause, int(more.quantity), more.amount_minor) == (
        *("correction", "cut 3"), 3000, 900,
    )  # fmt: skip
    assert more.trace == (
        *worth(5000).trace,
        {"step": "billed before", "quantity": "-2000", "amount": "-6"},
    )
    assert more.target == worth(5000)
    assert corrections(PERIOD, "", [worth(5000)], {key: Position(Decimal(1), 1500)}, "") == []


def test_lines_of_other_periods_pieces_and_dimensions_stay_apart() -> None:
    key = worth(0).key
    position = Position(Decimal(2000), 600)
    for other in (
        replace(key, subscription="other"),
        replace(key, item="other"),
        replace(key, charge="other"),
        replace(key, period_start=key.period_start - timedelta(days=31)),
    ):
        [line] = corrections(PERIOD, "", [worth(5000)], {other: position}, "cut 2")
        assert (line.target.key, line.amount_minor) == (key, 1500)
    late = replace(key, piece_start=key.piece_start + timedelta(days=3))
    lines = corrections(PERIOD, "call", [worth(5000)], {late: position}, "cut 2")
    assert [(one.target.key, one.amount_minor) for one in lines] == [(key, 1500), (late, -600)]
    assert [one.target.unit for one in lines] == ["", "call"]


@pytest.mark.parametrize(
    ("fields", "used"),
    [
        (
            "model: per_unit, meter: departures, unit_price: '1', group_by: [tailnum, origin]",
            (("tailnum", "N1"), ("origin", "EWR")),
        ),
        (
            (
                "model: time_of_day, meter: seats, default: '1', group_by: [site], rates: ["
                "{name: night, from: '22:00', to: '06:00', unit_price: '0.50'}]"
            ),
            (("site", "A"), ("rate", "night")),
        ),
    ],
)
def test_a_line_is_found_again_in_the_books_in_whichever_order_its_dimensions_are_named(
    fields: str, used: Dimensions
) -> None:
    text = versions(f"{{key: calls, {fields}}}")
    period = due(facts_of(METERS, text), {}, Scope("close", date(2013, 2, 1)))[0]
    [target] = rate(PeriodInputs(period, "", ({used: Decimal(4)},)), {})[0]
    assert target.description == f"calls ({', '.join(value for _, value in used)})"
    # The books keep names and values, without an order.
    known = replace(target.key, dimensions=tuple(sorted(dict(used).items())))
    booked = {known: Position(target.quantity, target.amount_minor)}
    assert corrections(period, "", [target], booked, "cut 2") == []


def test_corrections_lie_in_order_of_dimensions_then_time() -> None:
    key = worth(0).key
    later = key.piece_start + timedelta(days=3)
    known = [
        replace(key, dimensions=(("origin", name),), piece_start=at)
        for name in ("JFK", "EWR")
        for at in (later, key.piece_start)
    ]
    lines = corrections(PERIOD, "", [], dict.fromkeys(known, Position(Decimal(1), 1)), "cut 2")
    found = [(one.target.key.dimensions[0][1], one.target.key.piece_start) for one in lines]
    assert found == [
        ("EWR", key.piece_start), ("EWR", later), ("JFK", key.piece_start), ("JFK", later),
    ]  # fmt: skip


FEE = """
price_books: [{key: b, versions: [{version: 1, currency: USD, charges: [
  {key: fee, model: flat, amount: "30.00", timing: advance}]}]}]
customers: [{key: C, name: C, currency: USD, time_zone: America/New_York}]
"""
TERMS = "subscriptions: [{key: S, customer: C, start: 2013-04-01, %s}]"
PLAIN = facts_of(FEE, TERMS % "items: [{key: a, price_book: b}]")
[APRIL] = due(PLAIN, {}, Scope("bill", date(2013, 4, 1)))


def agreed_anew(terms: str) -> tuple[Facts, list[Line]]:
    """Return the facts after a change of what was billed for April, and what that bills."""
    facts = facts_of(TERMS % terms, before=PLAIN)
    own = APRIL.period
    stored = BilledPeriod(APRIL.charge_key, own.starts_at, own.ends_at, own.starts_on, 1)
    [was] = rate(PeriodInputs(APRIL, "", ({},)), {})[0]
    period = again(facts, stored)
    targets, _ = rate(PeriodInputs(period, "", ({},) * len(period.pieces)), {})
    positions: dict[LineKey, Position] = {was.key: Position(was.quantity, was.amount_minor)}
    return facts, corrections(period, "", targets, positions, "cut 2")


def told(line: Line) -> tuple[str, str, str, str, int]:
    """Return what a line says."""
    days = f"{line.target.service_from:%m-%d}..{line.target.service_until:%m-%d}"
    return line.kind, line.cause, line.target.description, days, line.amount_minor


UNUSED = "fee, not used from 2013-04-11"


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (
            "end: 2013-04-11, items: [{key: a, price_book: b}]",
            [("proration_credit", f"{UNUSED}: the subscription ends", "04-11..05-01", -2000)],
        ),
        # A credit tells of its own piece, up to where the one that was billed ended.
        (
            "pauses: [{from: 2013-04-11, to: 2013-04-21}], items: [{key: a, price_book: b}]",
            [
                ("proration_credit", f"{UNUSED}: paused", "04-11..05-01", -2000),
                ("proration_charge", "fee, from 2013-04-21: resumed", "04-21..05-01", 1000),
            ],
        ),
        # Cheaper over all of its time: nothing is unused.
        (
            "items: [{key: a, price_book: b, overrides: [{charge: fee, amount: '12'}]}]",
            [("proration_credit", "fee", "04-01..05-01", -1800)],
        ),
        (
            "items: [{key: a, price_book: b, overrides: [{charge: fee, amount: '42'}]}]",
            [("proration_charge", "fee", "04-01..05-01", 1200)],
        ),
        (
            "end: 2013-04-01, items: [{key: a, price_book: b}]",
            [
                (
                    "proration_credit",
                    "fee, not used from 2013-04-01: the subscription ends",
                    "04-01..05-01",
                    -3000,
                )
            ],
        ),
    ],
)
def test_a_fee_in_advance_is_credited_for_what_is_not_used_and_charged_for_what_is(
    terms: str, expected: list[tuple[str, str, str, int]]
) -> None:
    facts, lines = agreed_anew(terms)
    assert facts.agreed["S"][0] == 2
    wanted = [(kind, "cut 2, terms 2", *rest) for kind, *rest in expected]
    assert [told(one) for one in lines] == wanted


def test_an_item_added_is_charged_by_the_terms_that_add_it() -> None:
    items = "items: [{key: a, price_book: b}, {key: c, price_book: b, start: 2013-04-21}]"
    facts = facts_of(TERMS % items, before=PLAIN)
    found = due(facts, {}, Scope("bill", date(2013, 4, 21)))
    targets = [rate(PeriodInputs(one, "", ({},)), {})[0][0] for one in found]
    assert [told(one) for one in first_lines(targets, {})] == [
        ("advance", "", "fee", "04-01..05-01", 3000),
        ("proration_charge", "terms 2", "fee, from 2013-04-21: added", "04-21..05-01", 1000),
    ]


def test_a_credit_cut_in_two_is_whole_over_invoice_and_note() -> None:
    invoice, [rest] = split_excess([line(500), line(-800)])
    kept = invoice[1]
    assert (kept.amount_minor, rest.amount_minor) == (-500, -300)
    assert (kept.cause, rest.cause) == ("cut 1", "cut 1/excess")
    assert (int(kept.quantity), int(rest.quantity)) == (1, 0)
    assert kept.trace == (
        {"step": "x", "amount": "-8"}, {"step": "on the credit note", "amount": "3"},
    )  # fmt: skip
    assert rest.trace == ({"step": "rest of a correction", "amount": "-3"},)
