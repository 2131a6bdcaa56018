"""The billing API: `python -m tollbook.api`, FastAPI on uvicorn, one tenant per key."""

import os
from collections.abc import Mapping
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from tollbook.api_database import Database
from tollbook.api_problem import install_problems
from tollbook.api_routes import build_router
from tollbook.stack_file import Stack


def build_app(environment: Mapping[str, str]) -> FastAPI:
    """Return the application; nothing connects before the first request."""
    servers = _stack(environment)
    app = FastAPI(
        title="Tollbook",
        version="0.1.0",
        description="Meters, customers, subscriptions, invoices and the ledger of one tenant.",
        openapi_url="/openapi.json",
    )
    install_problems(app)
    database = Database(servers.postgres_dsn)
    app.include_router(build_router(database, lambda tenant: replace(servers, tenant=tenant)))
    return app


def _stack(environment: Mapping[str, str]) -> Stack:
    """Return the servers of the environment; a tenant's key is not among them."""
    return Stack(
        ingest_url=environment.get("TOLLBOOK_INGEST_URL", ""),
        api_url="",
        clickhouse_url=environment.get("TOLLBOOK_CLICKHOUSE_URL", ""),
        postgres_dsn=environment["TOLLBOOK_POSTGRES_DSN"],
        kafka_bootstrap=environment.get("TOLLBOOK_KAFKA_BOOTSTRAP", ""),
        redis_url="",
        tenant="",
        api_key="",
        pids={},
    )


def main() -> None:
    """Serve until told to stop."""
    uvicorn.run(
        build_app(os.environ),
        host=os.environ.get("TOLLBOOK_API_HOST", "127.0.0.1"),
        port=int(os.environ["TOLLBOOK_API_PORT"]),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
