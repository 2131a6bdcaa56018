"""The ledger's rules: which accounts a document, a month's recognition and its accruals move.

Debits are positive. Every entry sums to zero per currency, here and again in the database.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from types import MappingProxyType

from billing.document import Document
from billing.money import earned_minor, to_major
from billing.period import add_months, last_day

ACCOUNT_KINDS = {
    "receivable": "asset",
    "unbilled_receivable": "asset",
    "cash": "asset",
    "customer_credit": "liability",
    "prepaid_credit": "liability",
    "deferred_revenue": "liability",
    "revenue": "revenue",
    "promotional_credit": "revenue",
    "breakage": "revenue",
}
ADVANCE_KINDS = ("advance", "proration_charge", "proration_credit")
"""Lines of amounts billed in advance: they are earned over the days they are for."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One debit (positive) or credit (negative) on one account."""

    account: str
    amount_minor: int
    invoice_id: uuid.UUID | None = None
    line: int | None = None
    service_from: date | None = None
    service_until: date | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A balanced set of postings of one customer in one currency."""

    posting_key: str
    kind: str
    effective_on: date
    description: str
    legal_entity: str
    customer: str
    currency: str
    postings: tuple[Posting, ...]
    reverses: str | None = None

    def __post_init__(self) -> None:
        if sum(posting.amount_minor for posting in self.postings) != 0:
            raise AssertionError(f"entry {self.posting_key} does not sum to zero")
        if any(posting.amount_minor == 0 for posting in self.postings):
            raise AssertionError(f"entry {self.posting_key} has an empty posting")


@dataclass(frozen=True, slots=True)
class IssuedLine:
    """An issued line that a month's end has to do with."""

    invoice_id: uuid.UUID
    number: str
    ordinal: int
    legal_entity: str
    customer: str
    currency: str
    product: str
    amount_minor: int
    service_from: date
    service_until: date


def account_kind(code: str) -> str:
    """Return what an account is, by its code; a code may end in `:<product>`."""
    return ACCOUNT_KINDS[code.partition(":")[0]]


def document_entry(
    document: Document,
    applied_minor: int,
    effective_on: date,
    drawn: Mapping[str, int] = MappingProxyType({}),
) -> Entry | None:
    """Return the entry of an issued document; None where nothing moves.

    What wallets pay is debited by account (`drawn`); a credit note puts back. What a note cannot
    take off open invoices (`applied_minor`) is owed to the customer.
    """
    postings = [
        Posting(
            _income_account(line.kind, line.target.product),
            -line.amount_minor,
            document.invoice_id,
            ordinal,
            line.target.service_from,
            line.target.service_until,
        )
        for ordinal, line in enumerate(document.lines, 1)
        if line.amount_minor
    ]
    paid_minor = sum(drawn.values())
    if document.document_type == "invoice":
        against = [("receivable", document.total_minor - paid_minor)]
    else:
        rest_minor = document.total_minor + paid_minor - applied_minor
        against = [("receivable", -applied_minor), ("customer_credit", -rest_minor)]
    against += drawn.items()
    postings += [Posting(code, minor, document.invoice_id) for code, minor in against if minor]
    if not postings:
        return None
    return Entry(
        posting_key=f"{document.document_type}:{document.invoice_id}",
        kind=document.document_type,
        effective_on=effective_on,
        description=f"{document.document_type.replace('_', ' ')} {document.number}",
        legal_entity=document.legal_entity,
        customer=document.customer,
        currency=document.currency,
        postings=tuple(postings),
    )


def recognition_entries(
    lines: Iterable[IssuedLine], month: date, locked_through: date | None = None
) -> list[Entry]:
    """Return what a month has earned of amounts billed in advance, one entry per invoice.

    Earned amounts are differences of the rounded total earned so far, so that they add up to the
    line when its last month is recognised.
    """
    entries = []
    for own in _by_invoice(lines):
        postings: list[Posting] = []
        for line in own:
            earned = _earned_in(line, month)
            postings += _pair(line, "deferred_revenue", earned) if earned else []
        if postings:
            day = open_day(last_day(month), locked_through)
            entries.append(_month_entry(own[0], month, "recognition", day, postings))
    return entries


def accrual_entries(lines: Iterable[IssuedLine], month: date) -> list[tuple[Entry, Entry]]:
    """Return what a month has earned that is invoiced only after it, each with its reversal.

    The reversal is of the first day of the next month, where the invoice itself is booked.
    """
    pairs = []
    for own in _by_invoice(lines):
        postings = [
            posting
            for line in own
            if line.amount_minor
            for posting in _pair(line, "unbilled_receivable", line.amount_minor)
        ]
        if postings:
            entry = _month_entry(own[0], month, "accrual", last_day(month), postings)
            pairs.append((entry, reversal(entry, add_months(month, 1))))
    return pairs


def _by_invoice(lines: Iterable[IssuedLine]) -> list[list[IssuedLine]]:
    found: dict[uuid.UUID, list[IssuedLine]] = {}
    for line in lines:
        found.setdefault(line.invoice_id, []).append(line)
    return list(found.values())


def _pair(line: IssuedLine, account: str, earned_minor: int) -> list[Posting]:
    where = (line.invoice_id, line.ordinal, line.service_from, line.service_until)
    return [
        Posting(account, earned_minor, *where),
        Posting(f"revenue:{line.product}", -earned_minor, *where),
    ]


def reversal(entry: Entry, effective_on: date) -> Entry:
    """Return the opposite of an entry."""
    return replace(
        entry,
        posting_key=f"reversal:{entry.posting_key}",
        kind="reversal",
        effective_on=effective_on,
        description=f"reversal of {entry.description}",
        postings=tuple(replace(p, amount_minor=-p.amount_minor) for p in entry.postings),
        reverses=entry.posting_key,
    )


def trial_line(
    legal_entity: str, currency: str, code: str, kind: str, debit_minor: int, credit_minor: int
) -> dict[str, str | int]:
    """Return an account's line of a trial balance; a debit balance is positive."""
    balance_minor = debit_minor - credit_minor
    return {
        "legal_entity": legal_entity,
        "currency": currency,
        "account": code,
        "kind": kind,
        "debit_minor": debit_minor,
        "credit_minor": credit_minor,
        "balance_minor": balance_minor,
        "balance": str(to_major(balance_minor, currency)),
    }


def open_day(bill_on: date, locked_through: date | None) -> date:
    """Return the day a document is booked on: its own, or the first that is not locked."""
    if locked_through is None or bill_on > locked_through:
        return bill_on
    return locked_through + timedelta(days=1)


def apply_credit(
    total_minor: int, open_invoices: Sequence[tuple[uuid.UUID, int]]
) -> list[tuple[uuid.UUID, int]]:
    """Return how much of a credit goes to each open invoice, in the order given."""
    applied = []
    for invoice_id, due_minor in open_invoices:
        part = min(due_minor, total_minor)
        if part > 0:
            applied.append((invoice_id, part))
            total_minor -= part
    return applied


def _earned_in(line: IssuedLine, month: date) -> int:
    days_total = (line.service_until - line.service_from).days

    def earned(until: date) -> int:
        days = min(max((until - line.service_from).days, 0), days_total)
        return earned_minor(line.amount_minor, days, days_total)

    return earned(add_months(month, 1)) - earned(month)


def _month_entry(
    line: IssuedLine, month: date, kind: str, day: date, postings: Sequence[Posting]
) -> Entry:
    return Entry(
        posting_key=f"{kind}:{month:%Y-%m}:{line.invoice_id}",
        kind=kind,
        effective_on=day,
        description=f"{kind} of {month:%Y-%m} for {line.number}",
        legal_entity=line.legal_entity,
        customer=line.customer,
        currency=line.currency,
        postings=tuple(postings),
    )


def _income_account(kind: str, product: str) -> str:
    return "deferred_revenue" if kind in ADVANCE_KINDS else f"revenue:{product}"
