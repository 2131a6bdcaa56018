"""Documents: what is issued to a customer at once, before and after it has its number."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from billing.customer import Customer
from billing.rating import LineKey, PeriodInputs, State, Target
from billing.settlement import Line, Position, corrections, first_lines, split_excess
from pipelines.usage import Cut

_NAMESPACE = uuid.UUID("0f8f7c60-8a57-5d0e-9a55-1b7f2a1f6e11")
_LETTERS = {"invoice": "INV", "credit_note": "CN"}


@dataclass(frozen=True, slots=True)
class Rated:
    """A period as rated as of a cut: its inputs, what its keys are worth, its states."""

    inputs: PeriodInputs
    targets: tuple[Target, ...]
    state_in: State
    state_out: State


@dataclass(frozen=True, slots=True)
class Draft:
    """All that falls due for a customer on one day; one transaction issues it.

    `corrected` periods were billed before. `settles` names the subscriptions whose billed periods
    are right as of the cut once this is issued.
    """

    customer: Customer
    bill_on: date
    due: tuple[Rated, ...]
    corrected: tuple[Rated, ...]
    settles: tuple[str, ...]
    evidence: Mapping[str, Any]
    """Inputs by role, as they are stored with the documents."""


@dataclass(frozen=True, slots=True)
class Document:
    """An invoice or a credit note with its number."""

    invoice_id: uuid.UUID
    document_type: str
    legal_entity: str
    customer: str
    currency: str
    number: str
    sequence: int
    bill_on: date
    issued_on: date
    due_on: date
    lines: tuple[Line, ...]

    @property
    def total_minor(self) -> int:
        """What it asks for, or gives; never negative."""
        total = sum(line.amount_minor for line in self.lines)
        return -total if self.document_type == "credit_note" else total


def lines_of(
    draft: Draft, positions: Mapping[LineKey, Position], cut: Cut
) -> dict[str, list[Line]]:
    """Return the lines of a draft by document type, given what is issued already."""
    cause = f"cut {cut.number}"
    lines: list[Line] = []
    for rated in draft.due:
        lines += first_lines(rated.targets, positions)
    for rated in draft.corrected:
        inputs = rated.inputs
        lines += corrections(inputs.billed, inputs.unit, rated.targets, positions, cause)
    invoice, credit_note = split_excess(lines)
    found = {"invoice": invoice, "credit_note": credit_note}
    return {kind: lines for kind, lines in found.items() if lines}


def number_document(
    draft: Draft,
    document_type: str,
    lines: Sequence[Line],
    last: tuple[int, date] | None,
    tenant: str,
) -> Document:
    """Return a document with the next number of its series, `last` being the one before.

    Dates never go back within a series.
    """
    customer = draft.customer
    sequence, issued_on = (last[0] + 1, max(last[1], draft.bill_on)) if last else (1, draft.bill_on)
    letters = _LETTERS[document_type]
    number = f"{customer.legal_entity.upper()}-{letters}-{draft.bill_on.year}-{sequence:06}"
    return Document(
        invoice_id=uuid.uuid5(_NAMESPACE, f"{tenant}|{number}"),
        document_type=document_type,
        legal_entity=customer.legal_entity,
        customer=customer.key,
        currency=customer.currency,
        number=number,
        sequence=sequence,
        bill_on=draft.bill_on,
        issued_on=issued_on,
        due_on=issued_on + timedelta(days=customer.payment_terms_days),
        lines=tuple(lines),
    )
