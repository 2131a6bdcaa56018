"""The routes of the billing API; every query is of the tenant whose key asks."""

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from tollbook.api.asked import asker
from tollbook.api.bill_runs import add_bill_runs
from tollbook.api.books import add_books
from tollbook.api.clock import add_clock
from tollbook.api.corrections import add_corrections
from tollbook.api.customers import add_customers
from tollbook.api.cuts import add_cuts
from tollbook.api.database import Database
from tollbook.api.invoices import add_invoices
from tollbook.api.meters import add_meters
from tollbook.api.openmeter import build_openmeter
from tollbook.api.price_books import add_price_books
from tollbook.api.problem import problems
from tollbook.api.quarantine import add_quarantine
from tollbook.api.replacements import add_replacements
from tollbook.api.subscriptions import add_subscriptions
from tollbook.api.traces import add_traces
from tollbook.api.usage import add_usage
from tollbook.api.wallets import add_wallets
from tollbook.stack_file import Stack


def build_router(database: Database, stack_of: Callable[[str], Stack]) -> APIRouter:
    """Return all routes; `stack_of` gives the servers that a tenant's usage is read from."""
    router = APIRouter()
    asking = asker(database)

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

    v1 = APIRouter(prefix="/v1", responses=problems(400, 401, 403, 422, 503))
    add_customers(v1, asking)
    add_price_books(v1, asking)
    add_subscriptions(v1, asking, stack_of)
    add_clock(v1, asking, stack_of)
    add_wallets(v1, asking)
    add_invoices(v1, asking)
    add_books(v1, asking, stack_of)
    add_meters(v1, asking, stack_of)
    add_usage(v1, asking, stack_of)
    add_cuts(v1, asking, stack_of)
    add_traces(v1, asking, stack_of)
    add_quarantine(v1, asking, stack_of)
    add_corrections(v1, asking, stack_of)
    add_replacements(v1, asking, stack_of)
    add_bill_runs(v1, asking, stack_of)
    router.include_router(v1)
    router.include_router(build_openmeter(asking, stack_of))
    return router
