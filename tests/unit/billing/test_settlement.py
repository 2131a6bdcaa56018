from datetime import date
from decimal import Decimal

import pytest

from billing.due import Scope, due
from billing.rating import PeriodInputs, Target, rate
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
