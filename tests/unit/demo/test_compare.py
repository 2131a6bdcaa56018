from dataclasses import replace
from decimal import Decimal

from tollbook.demo.books import HeldInvoice, HeldLine
from tollbook.demo.compare import (
    Check,
    check_from_scratch,
    check_invoices,
    check_ledger,
    check_lines,
    check_quantities,
)
from tollbook.demo.recount import Bill, LineKey, Use

DEPARTURES = Use("UA", 1, "departures", "EWR")
FEE = LineKey("UA", "base", "", 1, 1, "advance")
USAGE = LineKey("UA", "departures", "EWR", 1, 1, "usage")
LATE = LineKey("UA", "departures", "EWR", 1, 2, "correction")
RECOUNTED = {
    FEE: Bill(Decimal(1), 2500_00),
    USAGE: Bill(Decimal(10), 120_00),
    LATE: Bill(Decimal(1), 12_00),
}
HELD = [
    HeldLine(f"INV-{n}", key.airline, key.charge, key.origin, key.month, key.close, key.kind,
             bill.quantity, bill.cents)
    for n, (key, bill) in enumerate(RECOUNTED.items())
]  # fmt: skip
INVOICES = [
    HeldInvoice("INV-1", "UA", 1, 1, "invoice", 2500_00),
    HeldInvoice("INV-2", "UA", 1, 2, "invoice", 120_00),
    HeldInvoice("INV-3", "UA", 2, 3, "invoice", 12_00),
]


def differing(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if check.differences]


def test_what_agrees_has_no_differences() -> None:
    assert not differing(check_lines(RECOUNTED, HELD))
    assert not differing(check_invoices(RECOUNTED, INVOICES))
    assert not differing(check_quantities({DEPARTURES: Decimal(10)}, {DEPARTURES: Decimal(10)}))


def test_a_missing_a_surplus_and_a_wrong_quantity_each_differ() -> None:
    ours = {DEPARTURES: Decimal(10)}
    assert differing(check_quantities(ours, {}))
    assert differing(check_quantities({}, ours))
    assert differing(check_quantities(ours, {DEPARTURES: Decimal("10.000000000001")}))


def test_a_line_off_by_a_cent_a_line_too_few_and_a_line_twice_differ() -> None:
    wrong = replace(HELD[1], cents=120_01)
    assert differing(check_lines(RECOUNTED, [HELD[0], wrong, HELD[2]])) == ["lines of usage"]
    assert differing(check_lines(RECOUNTED, HELD[:2])) == ["lines of corrections"]
    assert differing(check_lines(RECOUNTED, [*HELD, HELD[0]])) == ["lines of fees"]


def test_a_correction_on_the_wrong_close_differs() -> None:
    early = replace(HELD[2], close=1)
    assert differing(check_lines(RECOUNTED, [*HELD[:2], early])) == ["lines of corrections"]


def test_a_line_of_an_unforeseen_kind_differs() -> None:
    waiver = replace(HELD[0], kind="waiver")
    assert differing(check_lines(RECOUNTED, [*HELD, waiver])) == ["lines of other kinds"]


def test_an_invoice_on_another_date_or_twice_differs() -> None:
    moved = replace(INVOICES[1], bill_month=1)
    assert "invoice totals" in differing(check_invoices(RECOUNTED, [INVOICES[0], moved]))
    repeated = [*INVOICES, replace(INVOICES[0], number="INV-9")]
    assert differing(check_invoices(RECOUNTED, repeated)) == ["invoice totals", "airlines' totals"]


def test_lines_must_add_up_to_rating_from_scratch() -> None:
    fees = {FEE: RECOUNTED[FEE]}
    assert not check_from_scratch({"UA": 132_00}, fees, HELD).differences
    assert check_from_scratch({"UA": 132_01}, fees, HELD).differences


def test_the_ledger_must_hold_every_line_as_receivable_and_as_revenue() -> None:
    products = {"base": "access", "departures": "runway"}
    held = {
        ("receivable", "UA"): 2632_00,
        ("revenue:access", "UA"): -2500_00,
        ("revenue:runway", "UA"): -132_00,
        ("deferred_revenue", "UA"): 0,
    }
    assert not check_ledger(RECOUNTED, products, held).differences
    assert check_ledger(RECOUNTED, products, held | {("receivable", "UA"): 2632_01}).differences
    assert check_ledger(RECOUNTED, products, held | {("deferred_revenue", "UA"): -1}).differences
