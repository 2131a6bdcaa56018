"""The routes of the billing API; every query is of the tenant whose key asks."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from billing import postgres_reports as reports
from tollbook.api_database import Connection, Database
from tollbook.api_problem import problem

_BEARER = HTTPBearer(auto_error=False, description="An API key: tb_...")
_KEY = (
    "SELECT tenant FROM api_keys WHERE key_hash = %s AND role = 'owner'"
    " AND (revoked_at IS NULL OR revoked_at > now())"
)

Cursor = Annotated[str | None, Query(description="`next` of the page before.", max_length=512)]
Limit = Annotated[int, Query(ge=1, le=500)]


class Asked:
    """One request: a connection, and the tenant whose key it came with."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self.connection = connection
        self.tenant = tenant


def build_router(database: Database) -> APIRouter:
    """Return all routes."""
    router = APIRouter()
    asked = _asker(database)

    @router.get("/healthz", tags=["health"])
    def healthz() -> dict[str, str]:
        """Answer while the process lives."""
        return {"status": "ok"}

    @router.get("/readyz", tags=["health"])
    def readyz() -> JSONResponse:
        """Answer 200 when the database answers, else 503."""
        with database.lend() as connection:
            connection.execute("SELECT 1")
        return JSONResponse({"status": "ready"})

    v1 = APIRouter(prefix="/v1", responses={401: {}, 422: {}, 503: {}})
    _add_catalog(v1, asked)
    _add_invoices(v1, asked)
    router.include_router(v1)
    return router


def _asker(database: Database) -> Callable[..., Iterator[Asked]]:
    def asked(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> Iterator[Asked]:
        if given is None:
            raise HTTPException(401, "give an API key as a bearer token", _CHALLENGE)
        with database.lend() as connection:
            digest = hashlib.sha256(given.credentials.encode()).digest()
            row = connection.execute(_KEY, (digest,)).fetchone()
            if row is None:
                raise HTTPException(401, "no such API key, or it may not read", _CHALLENGE)
            yield Asked(connection, row[0])

    return asked


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


def _add_catalog(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/meters", tags=["catalog"])
    def list_meters(
        asked: Annotated[Asked, Depends(asker)], cursor: Cursor = None, limit: Limit = 100
    ) -> dict[str, Any]:
        """List the meters, each in its latest version."""
        return _page(reports.meters(asked.connection, asked.tenant, cursor, limit), "key", limit)

    @router.get("/customers", tags=["catalog"])
    def list_customers(
        asked: Annotated[Asked, Depends(asker)], cursor: Cursor = None, limit: Limit = 100
    ) -> dict[str, Any]:
        """List the customers."""
        found = reports.customers(asked.connection, asked.tenant, cursor, limit)
        return _page(found, "key", limit)

    @router.get("/subscriptions", tags=["catalog"])
    def list_subscriptions(
        asked: Annotated[Asked, Depends(asker)], cursor: Cursor = None, limit: Limit = 100
    ) -> dict[str, Any]:
        """List the subscriptions."""
        found = reports.subscriptions(asked.connection, asked.tenant, cursor, limit)
        return _page(found, "key", limit)

    @router.get("/price-books", tags=["catalog"])
    def list_price_books(
        asked: Annotated[Asked, Depends(asker)], cursor: Cursor = None, limit: Limit = 100
    ) -> dict[str, Any]:
        """List the price books with all their versions."""
        found = reports.price_books(asked.connection, asked.tenant, cursor, limit)
        return _page(found, "key", limit)


def _add_invoices(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/invoices", tags=["invoices"])
    def list_invoices(
        asked: Annotated[Asked, Depends(asker)],
        customer: Annotated[str | None, Query(max_length=128)] = None,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> dict[str, Any]:
        """List invoices and credit notes by number."""
        found = reports.invoices(
            asked.connection, asked.tenant, customer=customer, after=cursor, limit=limit
        )
        return _page(found, "number", limit)

    @router.get("/invoices/{name}", tags=["invoices"], responses={404: {}})
    def read_invoice(asked: Annotated[Asked, Depends(asker)], name: str) -> Any:
        """Read one invoice with its lines, by id or number."""
        found = reports.invoice(asked.connection, asked.tenant, name)
        return found if found is not None else problem(404, f"there is no invoice {name}")

    @router.get("/ledger/trial-balance", tags=["ledger"])
    def read_trial_balance(
        asked: Annotated[Asked, Depends(asker)], as_of: date | None = None
    ) -> dict[str, Any]:
        """Return debits, credits and balance of every account, as of the end of a day."""
        accounts = reports.trial_balance(asked.connection, asked.tenant, as_of)
        return {"as_of": as_of.isoformat() if as_of else None, "accounts": accounts}


def _page(rows: list[dict[str, Any]], key: str, limit: int) -> dict[str, Any]:
    """Return a page; `next` is its last key where there may be more."""
    more = len(rows) == limit
    return {"items": rows, "next": rows[-1][key] if more else None}
