"""`/v1/wallets`: credit that was bought or given, what holds it, and every movement of it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from billing import postgres_wallet_grants as grants
from billing import postgres_wallet_holds as holds
from billing import postgres_wallet_reports as reports
from billing.customer import Moment
from billing.postgres_clock import read_clock
from billing.postgres_wallets import WalletWriter
from billing.wallet_terms import (
    GrantTerms,
    HoldTerms,
    NotEnoughCreditError,
    Reason,
    Settlement,
    WalletError,
    WalletTerms,
)
from tollbook.api.asked import Asked
from tollbook.api.declared import answer
from tollbook.api.paging import Page, Paged
from tollbook.api.problem import ProblemError, problems

_Key = Annotated[str, Path(max_length=128, description="Key of a wallet.")]
_Name = Annotated[str, Path(max_length=128, description="Key of a grant or hold of it.")]
_HoldState = Literal["open", "settled", "released", "expired", "invoiced"]
_NewWallet = Annotated[WalletTerms, Body(openapi_examples={"with top-ups": {"value": {
    "key": "UA-USD", "customer": "UA", "currency": "USD",
    "top_up": {"below": "20.00", "amount": "100.00"},
}}})]  # fmt: skip
_NewGrant = Annotated[GrantTerms, Body(openapi_examples={
    "bought": {"value": {"key": "g1", "amount": "100.00", "payment": "wire-1"}},
    "given": {"value": {"key": "welcome", "kind": "promotional", "amount": "25.00",
              "priority": 10, "expires_at": "2013-03-01", "scope": {"charges": ["api"]}}},
})]  # fmt: skip
_NewHold = Annotated[HoldTerms, Body(openapi_examples={
    "for a call": {"value": {"key": "call-1", "amount": "12.50", "charge": "api"}}
})]  # fmt: skip


class WalletShown(BaseModel):
    """A wallet; `available` is its balance less what is held and less what is unbilled."""

    model_config = ConfigDict(extra="allow")

    key: str = Field(examples=["UA-USD"])
    customer: str
    legal_entity: str
    currency: str
    tax_at: Literal["purchase", "use"]
    balance_minor: int
    held_minor: int
    unbilled_minor: int = Field(description="Settled, and not on a document yet.")
    available_minor: int
    owed_minor: int = Field(description="What was paid for what is left.")
    top_up_pending: int | None = Field(description="Number of the top-up that it asks for.")


class GrantShown(BaseModel):
    """A grant, and what became of it."""

    model_config = ConfigDict(extra="allow")

    number: int
    key: str
    kind: Literal["prepaid", "promotional"]
    priority: int
    effective_at: str
    expires_at: str | None
    scope: dict[str, list[str]]
    granted_minor: int
    cost_minor: int
    left_minor: int
    held_minor: int
    settled_minor: int
    drawn_minor: int
    expired_minor: int
    voided_minor: int


class HoldShown(BaseModel):
    """A hold, and how it stands."""

    model_config = ConfigDict(extra="allow")

    key: str
    state: _HoldState
    amount_minor: int
    settled_minor: int | None
    held_at: str
    expires_at: str | None
    used_at: str | None


class MovementShown(BaseModel):
    """What changed of a grant: of what is left, held, settled, and owed for what was paid."""

    model_config = ConfigDict(extra="allow")

    sequence: int
    kind: str
    grant: str
    left_minor: int
    held_minor: int
    settled_minor: int
    owed_minor: int
    hold: str | None
    document: str | None
    at: str
    actor: str
    reason: str


class Payment(BaseModel):
    """What paid for a top-up."""

    model_config = ConfigDict(extra="forbid")

    payment: str = Field(min_length=1, max_length=256, examples=["wire-1"])
    expires_at: Moment | None = None


class Void(BaseModel):
    """Why a grant is taken back."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason = "voided"


class WalletsCheck(BaseModel):
    """What wallets hold against what the books say, per balance, and where the two differ."""

    accounts: list[dict[str, str | bool]]
    faults: list[str]


def add_wallets(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    """Add the routes."""
    _add_wallets(router, asker)
    _add_check(router, asker)
    _add_grants(router, asker)
    _add_holds(router, asker)


def _add_wallets(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/wallets", tags=["wallets"], response_model=Page[WalletShown])
    def list_wallets(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        customer: Annotated[str | None, Query(max_length=128)] = None,
    ) -> Response:
        """List wallets by key, with what is available in each."""
        after = paging.after(str) or ""
        rows = reports.list_wallets(
            asked.connection, asked.tenant, after, paging.fetch, customer
        )  # fmt: skip
        return answer(paging.page(rows, "key"))

    @router.post(
        "/wallets", tags=["wallets"], status_code=201, response_model=WalletShown,
        responses=problems(409),
    )  # fmt: skip
    def create_wallet(asked: Annotated[Asked, Depends(asker)], given: _NewWallet) -> Response:
        """Make a wallet for a customer, one in each currency; the same again is the same one."""
        return _write(asked, lambda writer: grants.create_wallet(writer, given), 201)

    @router.get(
        "/wallets/{key}", tags=["wallets"], response_model=WalletShown, responses=problems(404)
    )
    def read_wallet(asked: Annotated[Asked, Depends(asker)], key: _Key) -> Response:
        """Read a wallet: its balance, what is held and unbilled of it, and what is available."""
        return answer(_known(asked, key))

    @router.get(
        "/wallets/{key}/movements", tags=["wallets"], response_model=Page[MovementShown],
        responses=problems(404),
    )  # fmt: skip
    def list_wallet_movements(
        asked: Annotated[Asked, Depends(asker)], paging: Paged, key: _Key
    ) -> Response:
        """List all that happened to a wallet, the first first."""
        _known(asked, key)
        after = paging.after(int) or 0
        rows = reports.list_movements(asked.connection, asked.tenant, key, after, paging.fetch)
        return answer(paging.page(rows, "sequence"))

    @router.post(
        "/wallets/{key}/top-up", tags=["wallets"], status_code=201, response_model=GrantShown,
        responses=problems(404, 409),
    )  # fmt: skip
    def top_up_wallet(
        asked: Annotated[Asked, Depends(asker)], key: _Key, given: Payment
    ) -> Response:
        """Grant the top-up that a wallet asks for, now that it is paid."""
        _known(asked, key)
        payment, until = given.payment, given.expires_at
        return _write(asked, lambda writer: grants.top_up(writer, key, payment, until), 201)


def _add_check(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/ledger/wallets", tags=["ledger"], response_model=WalletsCheck)
    def check_wallets(asked: Annotated[Asked, Depends(asker)]) -> Response:
        """Compare all wallets with the books; without faults the two agree."""
        return answer(reports.reconcile(asked.connection, asked.tenant))


def _add_grants(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get(
        "/wallets/{key}/grants", tags=["wallets"], response_model=Page[GrantShown],
        responses=problems(404),
    )  # fmt: skip
    def list_grants(asked: Annotated[Asked, Depends(asker)], paging: Paged, key: _Key) -> Response:
        """List a wallet's grants in the order in which they were made."""
        _known(asked, key)
        after = paging.after(int) or 0
        rows = reports.list_grants(asked.connection, asked.tenant, key, after, paging.fetch)
        return answer(paging.page(rows, "number"))

    @router.post(
        "/wallets/{key}/grants", tags=["wallets"], status_code=201, response_model=GrantShown,
        responses=problems(404, 409),
    )  # fmt: skip
    def create_grant(
        asked: Annotated[Asked, Depends(asker)], key: _Key, given: _NewGrant
    ) -> Response:
        """Put credit into a wallet, bought or given; the same again is the same grant."""
        _known(asked, key)
        return _write(asked, lambda writer: grants.grant(writer, key, given), 201)

    @router.get(
        "/wallets/{key}/grants/{name}", tags=["wallets"], response_model=GrantShown,
        responses=problems(404),
    )  # fmt: skip
    def read_grant(asked: Annotated[Asked, Depends(asker)], key: _Key, name: _Name) -> Response:
        """Read a grant and what became of it."""
        return answer(_grant(asked, key, name))

    @router.post(
        "/wallets/{key}/grants/{name}/void", tags=["wallets"], response_model=GrantShown,
        responses=problems(404, 409),
    )  # fmt: skip
    def void_grant(
        asked: Annotated[Asked, Depends(asker)], key: _Key, name: _Name, given: Void
    ) -> Response:
        """Take back what is left of a grant; what was paid for it goes back where it came from."""
        _grant(asked, key, name)
        return _write(asked, lambda writer: grants.void(writer, key, name, given.reason))


def _add_holds(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get(
        "/wallets/{key}/holds", tags=["wallets"], response_model=Page[HoldShown],
        responses=problems(404),
    )  # fmt: skip
    def list_holds(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        key: _Key,
        state: _HoldState | None = None,
    ) -> Response:
        """List a wallet's holds by key."""
        _known(asked, key)
        after = paging.after(str) or ""
        rows = reports.list_holds(asked.connection, asked.tenant, key, after, paging.fetch, state)
        return answer(paging.page(rows, "key"))

    @router.post(
        "/wallets/{key}/holds", tags=["wallets"], status_code=201, response_model=HoldShown,
        responses=problems(404, 409),
    )  # fmt: skip
    def create_hold(
        asked: Annotated[Asked, Depends(asker)], key: _Key, given: _NewHold
    ) -> Response:
        """Reserve credit for a use that may come; 409 with `available_minor` where it is less."""
        _known(asked, key)
        return _write(asked, lambda writer: holds.hold(writer, key, given), 201)

    @router.get(
        "/wallets/{key}/holds/{name}", tags=["wallets"], response_model=HoldShown,
        responses=problems(404),
    )  # fmt: skip
    def read_hold(asked: Annotated[Asked, Depends(asker)], key: _Key, name: _Name) -> Response:
        """Read a hold and how it stands."""
        return answer(_hold(asked, key, name))

    @router.post(
        "/wallets/{key}/holds/{name}/settle", tags=["wallets"], response_model=HoldShown,
        responses=problems(404, 409),
    )  # fmt: skip
    def settle_hold(
        asked: Annotated[Asked, Depends(asker)], key: _Key, name: _Name, given: Settlement
    ) -> Response:
        """Say what was used of a hold, and by which events; the rest of it is free again."""
        _hold(asked, key, name)
        return _write(asked, lambda writer: holds.settle(writer, key, name, given))

    @router.post(
        "/wallets/{key}/holds/{name}/release", tags=["wallets"], response_model=HoldShown,
        responses=problems(404, 409),
    )  # fmt: skip
    def release_hold(asked: Annotated[Asked, Depends(asker)], key: _Key, name: _Name) -> Response:
        """Free what a hold reserves."""
        _hold(asked, key, name)
        return _write(asked, lambda writer: holds.release(writer, key, name))


def _write(
    asked: Asked, verb: Callable[[WalletWriter], dict[str, Any]], status: int = 200
) -> Response:
    def write() -> Response:
        at = read_clock(asked.connection, asked.tenant, datetime.now(UTC)).at
        actor = f"key {asked.key_name or 'unnamed'}"
        try:
            return answer(verb(WalletWriter(asked.connection, asked.tenant, actor, at)), status)
        except NotEnoughCreditError as error:
            detail = str(error)
            raise ProblemError(409, detail, available_minor=error.available_minor) from error
        except (WalletError, LookupError) as error:
            raise ProblemError(409, str(error.args[0])) from error

    return asked.once(write)


def _known(asked: Asked, key: str) -> dict[str, Any]:
    return _found(reports.find_wallet(asked.connection, asked.tenant, key), f"wallet {key}")


def _grant(asked: Asked, key: str, name: str) -> dict[str, Any]:
    found = reports.find_grant(asked.connection, asked.tenant, key, name)
    return _found(found, f"grant {name} in wallet {key}")


def _hold(asked: Asked, key: str, name: str) -> dict[str, Any]:
    found = reports.find_hold(asked.connection, asked.tenant, key, name)
    return _found(found, f"hold {name} in wallet {key}")


def _found(found: dict[str, Any] | None, what: str) -> dict[str, Any]:
    if found is None:
        raise ProblemError(404, f"there is no {what}")
    return found
