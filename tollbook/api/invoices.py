"""`/v1/invoices`, `/v1/credit-notes`, `/v1/corrections`: what was billed, why, what changed."""

from collections.abc import Callable, Iterator
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from billing.postgres_evidence import check_document, list_corrections, list_inputs
from billing.postgres_reports import invoice, invoices
from tollbook.api.asked import Asked
from tollbook.api.declared import answer
from tollbook.api.paging import Page, Paged, Paging
from tollbook.api.problem import ProblemError, problems

_Name = Annotated[str, Path(max_length=128, description="Number or id.")]
_Text = Annotated[str | None, Query(max_length=128)]
_Type = Literal["invoice", "credit_note"]
_State = Literal["draft", "open", "discarded", "paid", "void", "uncollectible"]
_Day = Annotated[date | None, Query()]


_EXPLAINED = ("number", "currency", "cut_number", "total", "wallet", "amount_due")


class DocumentShown(BaseModel):
    """An invoice or a credit note; amounts are positive on both."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(examples=["5f8b7f0e-4f1c-5a3e-9a0d-0d6a3a1f7c11"])
    number: str = Field(examples=["MAIN-INV-2013-000004"])
    document_type: _Type
    customer: str = Field(examples=["UA"])
    legal_entity: str = Field(examples=["main"])
    currency: str = Field(examples=["USD"])
    bill_on: str = Field(examples=["2013-02-01"])
    issued_on: str = Field(examples=["2013-02-01"])
    due_on: str = Field(examples=["2013-03-03"])
    state: _State
    total_minor: int = Field(examples=[275000])
    wallet_minor: int = Field(
        description="What wallets paid of it; negative where it put back into them."
    )
    amount_due_minor: int = Field(examples=[275000])
    total: str = Field(examples=["2750.00"])
    amount_due: str = Field(examples=["2750.00"])
    cut_number: int


class LineShown(BaseModel):
    """A line, with the steps that its amount comes from; credits are negative."""

    model_config = ConfigDict(extra="allow")

    ordinal: int
    kind: str
    cause: str
    subscription: str
    item: str
    charge: str
    dimensions: Any
    description: str
    product: str
    service_from: str
    service_until: str
    quantity: str
    unit: str
    amount_minor: int
    amount: str
    price_book: str
    book_version: int
    trace: list[dict[str, Any]]


class CreditShown(BaseModel):
    """What a grant paid of a line; negative where the line put it back."""

    wallet: str
    grant: str
    kind: Literal["prepaid", "promotional"]
    line: int
    amount_minor: int
    amount: str


class InvoiceShown(DocumentShown):
    """A document with its lines, and the credit that was drawn for them."""

    customer_name: str
    lines: list[LineShown]
    credit: list[CreditShown]


class InputShown(BaseModel):
    """Something that a document was rated from, as it was then."""

    role: str = Field(examples=["price book airport version 1"])
    hash: str
    content: Any


class CheckShown(BaseModel):
    """Something that must hold of a document."""

    check: Literal["inputs", "traces", "total", "ledger"]
    holds: bool
    text: str
    fault: str | None


class Verdict(BaseModel):
    """Whether all that must hold of a document does."""

    number: str
    holds: bool
    checks: list[CheckShown]


class StepsShown(BaseModel):
    """How a line's amount comes about."""

    ordinal: int
    description: str
    quantity: str
    unit: str
    steps: list[dict[str, Any]]
    amount: str
    credit: list[CreditShown]


class Explanation(BaseModel):
    """How a document's amounts come about, and from what."""

    number: str
    currency: str
    cut_number: int
    lines: list[StepsShown]
    total: str
    wallet: str
    amount_due: str
    inputs: list[str]


class CorrectionShown(BaseModel):
    """A line that corrects what earlier documents billed."""

    model_config = ConfigDict(extra="allow")

    number: str
    ordinal: int
    customer: str
    subscription: str
    charge: str
    cause: str
    quantity: str
    amount_minor: int
    amount: str
    corrects: list[str]


def add_invoices(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    """Add the routes."""
    _add_lists(router, asker)
    _add_documents(router, asker)
    _add_evidence(router, asker)


def _add_lists(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/invoices", tags=["invoices"], response_model=Page[DocumentShown])
    def list_invoices(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        customer: _Text = None,
        subscription: _Text = None,
        document_type: _Type | None = None,
        state: _State | None = None,
        currency: _Text = None,
        legal_entity: _Text = None,
        issued_from: _Day = None,
        issued_to: _Day = None,
        due_to: _Day = None,
    ) -> Response:
        """List invoices and credit notes by number; `to` excludes its day."""
        given = {
            "customer": customer, "subscription": subscription, "state": state,
            "document_type": document_type, "currency": currency, "legal_entity": legal_entity,
            "issued_from": issued_from, "issued_to": issued_to, "due_to": due_to,
        }  # fmt: skip
        return _listed(asked, paging, given)

    @router.get("/credit-notes", tags=["invoices"], response_model=Page[DocumentShown])
    def list_credit_notes(
        asked: Annotated[Asked, Depends(asker)], paging: Paged, customer: _Text = None
    ) -> Response:
        """List credit notes by number."""
        return _listed(asked, paging, {"document_type": "credit_note", "customer": customer})

    @router.get("/corrections", tags=["invoices"], response_model=Page[CorrectionShown])
    def list_corrections_(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        customer: _Text = None,
        subscription: _Text = None,
        invoice: Annotated[
            str | None, Query(max_length=128, description="Number of the document it is on.")
        ] = None,
    ) -> Response:
        """List lines that correct billed periods, and the documents that they correct."""
        given = {"customer": customer, "subscription": subscription, "invoice": invoice}
        filters = {name: value for name, value in given.items() if value is not None}
        after = tuple(paging.after(str, int) or ("", 0))
        rows = list_corrections(asked.connection, asked.tenant, after, paging.fetch, filters)
        return answer(paging.page(rows, "number", "ordinal"))


def _listed(asked: Asked, paging: Paging, given: dict[str, Any]) -> Response:
    filters = {name: value for name, value in given.items() if value is not None}
    rows = invoices(
        asked.connection, asked.tenant, filters, after=paging.after(str), limit=paging.fetch
    )
    return answer(paging.page(rows, "number"))


def _add_documents(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get(
        "/invoices/{name}", tags=["invoices"], response_model=InvoiceShown,
        responses=problems(404),
    )  # fmt: skip
    def read_invoice(asked: Annotated[Asked, Depends(asker)], name: _Name) -> Response:
        """Read an invoice or a credit note with its lines, by id or number."""
        return answer(_document(asked, name))

    @router.get(
        "/credit-notes/{name}", tags=["invoices"], response_model=InvoiceShown,
        responses=problems(404),
    )  # fmt: skip
    def read_credit_note(asked: Annotated[Asked, Depends(asker)], name: _Name) -> Response:
        """Read a credit note with its lines, by id or number."""
        found = _document(asked, name)
        if found["document_type"] != "credit_note":
            raise ProblemError(404, f"{name} is an invoice, not a credit note")
        return answer(found)


def _add_evidence(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get(
        "/invoices/{name}/explain", tags=["invoices"], response_model=Explanation,
        responses=problems(404),
    )  # fmt: skip
    def explain_invoice(asked: Annotated[Asked, Depends(asker)], name: _Name) -> Response:
        """Explain each amount step by step, and say what it was rated from."""
        found = _document(asked, name)
        inputs = list_inputs(asked.connection, asked.tenant, found["id"])
        shown = ("ordinal", "description", "quantity", "unit", "amount")
        content = {name: found[name] for name in _EXPLAINED}
        content["lines"] = [
            {name: line[name] for name in shown}
            | {"steps": line["trace"], "credit": _credit_of(found, line)}
            for line in found["lines"]
        ]
        return answer(content | {"inputs": [one["role"] for one in inputs]})

    @router.get(
        "/invoices/{name}/verify", tags=["invoices"], response_model=Verdict,
        responses=problems(404),
    )  # fmt: skip
    def verify_invoice(asked: Annotated[Asked, Depends(asker)], name: _Name) -> Response:
        """Rate a document again from its inputs, and check its lines, total and journal entry."""
        found = _document(asked, name)
        checks = check_document(asked.connection, asked.tenant, found)
        holds = all(check["holds"] for check in checks)
        return answer({"number": found["number"], "holds": holds, "checks": checks})

    @router.get(
        "/invoices/{name}/inputs", tags=["invoices"], response_model=Page[InputShown],
        responses=problems(404),
    )  # fmt: skip
    def list_invoice_inputs(asked: Annotated[Asked, Depends(asker)], name: _Name) -> Response:
        """List what a document was rated from: cut, facts, prices, quantities, as they were."""
        found = _document(asked, name)
        inputs = list_inputs(asked.connection, asked.tenant, found["id"])
        return answer({"items": inputs, "next": None})


def _document(asked: Asked, name: str) -> dict[str, Any]:
    found = invoice(asked.connection, asked.tenant, name)
    if found is None:
        raise ProblemError(404, f"there is no invoice {name}")
    return found


def _credit_of(found: dict[str, Any], line: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in found["credit"] if one["line"] == line["ordinal"]]
