"""`/v1/ledger`, `/v1/periods` and `/v1/legal-entities`: the books, and which months are closed."""

from collections.abc import Callable, Iterator
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from billing.period import last_day, month_of
from billing.postgres_books import (
    find_month,
    list_accounts,
    list_entities,
    list_entries,
    list_months,
)
from billing.postgres_ledger import lock_books
from billing.postgres_reports import trial_balance
from infra.embedded.errors import StackError
from tollbook.api.asked import Asked
from tollbook.api.declared import answer
from tollbook.api.paging import Page, Paged
from tollbook.api.problem import ProblemError, problems
from tollbook.bill_runs import close_month
from tollbook.stack_file import Stack

_Month = Annotated[str, Path(max_length=7, examples=["2013-01"])]
_Kind = Literal["invoice", "credit_note", "recognition", "accrual", "reversal"]


class AccountShown(BaseModel):
    """A ledger account."""

    id: int
    legal_entity: str = Field(examples=["main"])
    currency: str = Field(examples=["USD"])
    code: str = Field(examples=["revenue:access"])
    kind: Literal["asset", "liability", "revenue", "expense"]


class PostingShown(BaseModel):
    """A debit (positive) or a credit (negative) on an account."""

    account: str
    account_id: int
    legal_entity: str
    currency: str
    amount_minor: int
    amount: str
    customer: str
    invoice_id: str | None
    line: int | None


class EntryShown(BaseModel):
    """A balanced set of postings; `reverses` is the entry it is the opposite of."""

    id: int
    kind: str
    effective_on: str
    recorded_at: str
    description: str
    posting_key: str
    reverses: int | None
    postings: list[PostingShown]


class BalanceShown(BaseModel):
    """What was posted to an account."""

    model_config = ConfigDict(extra="allow")

    legal_entity: str
    account: str
    kind: str
    currency: str
    debit_minor: int
    credit_minor: int
    balance_minor: int


class TrialBalance(BaseModel):
    """All accounts as of the end of a day; the balances of a currency sum to zero."""

    as_of: str | None
    accounts: list[BalanceShown]


class PeriodShown(BaseModel):
    """A month of the books."""

    period: str = Field(examples=["2013-01"])
    state: Literal["open", "closed", "locked"]
    closed_at: str | None
    bill_run: int | None


class EntityShown(BaseModel):
    """A legal entity, and the numbers of its documents."""

    key: str = Field(examples=["main"])
    series: list[dict[str, Any]]


class Close(BaseModel):
    """Whether to lock the books of the month too."""

    model_config = ConfigDict(extra="forbid")

    lock: bool = False


def add_books(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers that a tenant's usage is read from."""
    _add_ledger(router, asker)
    _add_periods(router, asker)
    _add_closing(router, asker, stack_of)


def _add_ledger(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/ledger/accounts", tags=["ledger"], response_model=Page[AccountShown])
    def list_accounts_(asked: Annotated[Asked, Depends(asker)], paging: Paged) -> Response:
        """List the accounts, the first made first."""
        after = paging.after(int) or 0
        rows = list_accounts(asked.connection, asked.tenant, after, paging.fetch)
        return answer(paging.page(rows, "id"))

    @router.get("/ledger/entries", tags=["ledger"], response_model=Page[EntryShown])
    def list_entries_(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        kind: _Kind | None = None,
        account: Annotated[int | None, Query(ge=1, le=1 << 62)] = None,
        invoice: Annotated[str | None, Query(max_length=128, description="Its number.")] = None,
        effective_from: date | None = None,
        effective_to: date | None = None,
    ) -> Response:
        """List journal entries with their postings, the first made first; `to` excludes its day."""
        given = {
            "kind": kind, "account": account, "invoice": invoice,
            "effective_from": effective_from, "effective_to": effective_to,
        }  # fmt: skip
        filters = {name: value for name, value in given.items() if value is not None}
        after = paging.after(int) or 0
        rows = list_entries(asked.connection, asked.tenant, after, paging.fetch, filters)
        return answer(paging.page(rows, "id"))

    @router.get("/ledger/trial-balance", tags=["ledger"], response_model=TrialBalance)
    def read_trial_balance(
        asked: Annotated[Asked, Depends(asker)], as_of: date | None = None
    ) -> Response:
        """Return debits, credits and balance of every account, as of the end of a day."""
        accounts = trial_balance(asked.connection, asked.tenant, as_of)
        return answer({"as_of": as_of.isoformat() if as_of else None, "accounts": accounts})

    @router.get("/legal-entities", tags=["ledger"], response_model=Page[EntityShown])
    def list_legal_entities(asked: Annotated[Asked, Depends(asker)]) -> Response:
        """List the legal entities that issue documents, and how far their numbers are."""
        return answer({"items": list_entities(asked.connection, asked.tenant), "next": None})


def _add_periods(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/periods", tags=["ledger"], response_model=Page[PeriodShown])
    def list_periods(asked: Annotated[Asked, Depends(asker)], paging: Paged) -> Response:
        """List the months from the first that has something billed."""
        after = paging.after(str) or ""
        months = list_months(asked.connection, asked.tenant)
        rows = [month for month in months if month["period"] > after]
        return answer(paging.page(rows, "period"))

    @router.get(
        "/periods/{period}", tags=["ledger"], response_model=PeriodShown, responses=problems(404)
    )
    def read_period(asked: Annotated[Asked, Depends(asker)], period: _Month) -> Response:
        """Read whether a month is open, closed or locked."""
        return answer(_month(asked, period))


def _add_closing(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    @router.post(
        "/periods/{period}/close", tags=["ledger"], status_code=201, response_model=None,
        responses=problems(404, 409),
    )  # fmt: skip
    def close_period(
        asked: Annotated[Asked, Depends(asker)], period: _Month, given: Close | None = None
    ) -> Response:
        """Bill all that is due in a month, book what it earned; again, it does nothing twice."""
        month = _read_month(period)
        lock = given is not None and given.lock

        def close() -> Response:
            try:
                done = close_month(stack_of(asked.tenant), month, _silent, lock=lock)
            except StackError as error:
                raise ProblemError(409, str(error)) from error
            return answer(done, 201)

        return asked.repeatable(close)

    @router.post(
        "/periods/{period}/lock", tags=["ledger"], response_model=PeriodShown,
        responses=problems(404, 409),
    )  # fmt: skip
    def lock_period(asked: Annotated[Asked, Depends(asker)], period: _Month) -> Response:
        """Lock the books through the end of a closed month: nothing is booked into it any more."""
        month = _read_month(period)

        def lock() -> Response:
            if _month(asked, period)["state"] == "open":
                raise ProblemError(409, f"{period} is open: close it first")
            lock_books(asked.connection, asked.tenant, last_day(month))
            return answer(_month(asked, period))

        return asked.once(lock)


def _read_month(period: str) -> date:
    try:
        return month_of(period)
    except ValueError as error:
        raise ProblemError(404, f"not a month like 2013-01: {period}") from error


def _month(asked: Asked, period: str) -> dict[str, Any]:
    _read_month(period)
    found = find_month(asked.connection, asked.tenant, period)
    if found is None:
        raise ProblemError(404, f"nothing was billed in {period} or before it")
    return found


def _silent(done: int, total: int) -> None:
    """Nobody watches."""
    del done, total
