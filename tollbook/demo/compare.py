"""Compares what Tollbook holds with the recount: every row, in both directions."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tollbook.demo.books import HeldInvoice, HeldLine
from tollbook.demo.recount import Bill, LineKey, Use

_LINES_OF = {
    "advance": "fees",
    "proration_charge": "charges of changes",
    "proration_credit": "credits of changes",
    "usage": "usage",
    "correction": "corrections",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that differs; None where a side lacks it."""

    what: str
    recounted: str | None
    held: str | None


@dataclass(frozen=True, slots=True)
class Check:
    """One kind of row compared: how many, what they add up to, and those that differ."""

    name: str
    compared: int
    total: str
    differences: tuple[Difference, ...]


def compared(name: str, recounted: Mapping[Any, Any], held: Mapping[Any, Any], total: str) -> Check:
    """Compare two mappings; a key that only one has is a difference."""
    keys = sorted(recounted.keys() | held.keys())
    differences = tuple(
        Difference(_words(key), _text(recounted.get(key)), _text(held.get(key)))
        for key in keys
        if recounted.get(key) != held.get(key)
    )
    return Check(name, len(keys), total, differences)


def check_quantities(recounted: Mapping[Use, Decimal], held: Mapping[Use, Decimal]) -> list[Check]:
    """Compare every airline's, month's and origin's quantity, one check per meter."""
    meters = dict.fromkeys([use.meter for use in [*recounted, *held]])
    checks = []
    for meter in meters:
        ours = {use: value for use, value in recounted.items() if use.meter == meter}
        theirs = {use: value for use, value in held.items() if use.meter == meter}
        total = max(ours.values()) if meter == "longest_delay" else sum(ours.values())
        checks.append(compared(f"quantity of {meter}", ours, theirs, f"{total:,}"))
    return checks


def check_lines(recounted: Mapping[LineKey, Bill], held: Iterable[HeldLine]) -> list[Check]:
    """Compare every invoice line's quantity and amount, one check per kind of line."""
    theirs: dict[LineKey, Bill] = {}
    for line in held:
        key = LineKey(*line.identity)
        while key in theirs:
            key = key._replace(kind=f"{key.kind}, repeated")
        if line.cents or line.quantity:
            theirs[key] = Bill(line.quantity, line.cents)
    checks = []
    for kind, name in _LINES_OF.items():
        ours = {key: bill for key, bill in recounted.items() if key.kind == kind}
        of_kind = {key: bill for key, bill in theirs.items() if key.kind.split(",")[0] == kind}
        checks.append(compared(f"lines of {name}", ours, of_kind, _dollars(ours.values())))
    others = {key: bill for key, bill in theirs.items() if key.kind.split(",")[0] not in _LINES_OF}
    return [*checks, compared("lines of other kinds", {}, others, "")] if others else checks


def check_invoices(recounted: Mapping[LineKey, Bill], held: Iterable[HeldInvoice]) -> list[Check]:
    """Compare invoices' totals, and what each airline was billed in all."""
    invoices: Counter[tuple[str, int, int]] = Counter()
    airlines: Counter[str] = Counter()
    for key, bill in recounted.items():
        invoices[key.airline, key.close, key.bill_month] += bill.cents
        airlines[key.airline] += bill.cents
    theirs: dict[Any, int] = {}
    billed: Counter[str] = Counter()
    for invoice in held:
        name = (invoice.airline, invoice.close, invoice.bill_month)
        theirs[(*name, invoice.number) if name in theirs else name] = invoice.cents
        billed[invoice.airline] += invoice.cents
    total = _dollars(recounted.values())
    return [
        compared("invoice totals", _nonzero(invoices), _nonzero(theirs), total),
        compared("airlines' totals", airlines, billed, total),
    ]


def check_from_scratch(
    scratch: Mapping[str, int], fee_lines: Mapping[LineKey, Bill], held: Iterable[HeldLine]
) -> Check:
    """Compare all lines per airline with rating the whole year once, at the end."""
    ours: Counter[str] = Counter(scratch)
    for key, bill in fee_lines.items():
        ours[key.airline] += bill.cents
    theirs: Counter[str] = Counter()
    for line in held:
        theirs[line.airline] += line.cents
    total = f"${Decimal(sum(ours.values())) / 100:,.2f}"
    return compared("rated once, from scratch", ours, theirs, total)


def check_ledger(
    recounted: Mapping[LineKey, Bill],
    product_by_charge: Mapping[str, str],
    held: Mapping[tuple[str, str], int],
) -> Check:
    """Compare every account's balance per airline, closed months being earned and all unpaid."""
    balances: Counter[tuple[str, str]] = Counter()
    for key, bill in recounted.items():
        balances["receivable", key.airline] += bill.cents
        balances[f"revenue:{product_by_charge[key.charge]}", key.airline] -= bill.cents
    total = f"${Decimal(sum(balances.values())) / 100:,.2f}"
    return compared("ledger balances", _nonzero(balances), _nonzero(held), total)


def _nonzero(totals: Mapping[Any, int]) -> dict[Any, int]:
    return {key: cents for key, cents in totals.items() if cents}


def _dollars(bills: Iterable[Bill]) -> str:
    return f"${Decimal(sum(bill.cents for bill in bills)) / 100:,.2f}"


def _text(value: Any) -> str | None:
    return None if value is None else _words(value)


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if type(value) is tuple else str(value)
