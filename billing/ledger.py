"""The ledger's rules: which accounts a document, a month's recognition and its accruals move.

Debits are positive. Every entry sums to zero per currency, here and again in the database.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from billing.document import Document
from billing.money import earned_minor, to_major
from billing.period import add_months, last_day

ACCOUNT_KINDS = {
    "receivable": "asset",
    "unbilled_receivable": "asset",
    "customer_credit": "liability",
    "deferred_revenue": "liability",
    "revenue": "revenue",
}


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


def document_entry(document: Document, applied_minor: int, effective_on: date) -> Entry | None:
    """Return the entry of an issued document; None where nothing moves.

    What a credit note cannot take off open invoices (`applied_minor`) is owed to the customer.
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
    if document.document_type == "invoice":
        against = [("receivable", document.total_minor)]
    else:
        rest_minor = document.total_minor - applied_minor
        against = [("receivable", -applied_minor), ("customer_credit", -rest_minor)]
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


def recognition_entries(lines: Iterable[IssuedLine], month: date) -> list[Entry]:
    """Return what a month has earned of amounts billed in advance, one entry per invoice.

    Earned amounts are differences of the rounded total earned so far, so that they add up to the
    line when its last month is recognised.
    """
    entries: dict[uuid.UUID, Entry] = {}
    for line in lines:
        earned = _earned_in(line, month)
        if not earned:
            continue
        where = (line.invoice_id, line.ordinal, line.service_from, line.service_until)
        pair = (
            Posting("deferred_revenue", earned, *where),
            Posting(f"revenue:{line.product}", -earned, *where),
        )
        entry = entries.get(line.invoice_id)
        entries[line.invoice_id] = (
            _month_entry(line, month, "recognition", f"{line.invoice_id}", pair)
            if entry is None
            else replace(entry, postings=entry.postings + pair)
        )
    return list(entries.values())


def accrual_entries(lines: Iterable[IssuedLine], month: date) -> list[tuple[Entry, Entry]]:
    """Return what a month has earned that is invoiced only after it, each with its reversal.

    The reversal is of the first day of the next month, where the invoice itself is booked.
    """
    by_customer: dict[tuple[str, str, str], list[IssuedLine]] = {}
    for line in lines:
        if line.amount_minor:
            key = (line.legal_entity, line.customer, line.currency)
            by_customer.setdefault(key, []).append(line)
    pairs = []
    for (_, customer, currency), own in sorted(by_customer.items()):
        postings = [
            Posting(code, sign * line.amount_minor, line.invoice_id, line.ordinal,
                    line.service_from, line.service_until)
            for line in own
            for code, sign in (("unbilled_receivable", 1), (f"revenue:{line.product}", -1))
        ]  # fmt: skip
        name = f"{own[0].legal_entity}:{customer}:{currency}"
        entry = _month_entry(own[0], month, "accrual", name, tuple(postings))
        pairs.append((entry, reversal(entry, add_months(month, 1))))
    return pairs


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
    line: IssuedLine, month: date, kind: str, name: str, postings: tuple[Posting, ...]
) -> Entry:
    of = line.number if kind == "recognition" else line.customer
    return Entry(
        posting_key=f"{kind}:{month:%Y-%m}:{name}",
        kind=kind,
        effective_on=last_day(month),
        description=f"{kind} of {month:%Y-%m} for {of}",
        legal_entity=line.legal_entity,
        customer=line.customer,
        currency=line.currency,
        postings=postings,
    )


def _income_account(kind: str, product: str) -> str:
    return "deferred_revenue" if kind == "advance" else f"revenue:{product}"
