"""The billing API: `python -m tollbook.api`, FastAPI on uvicorn, one tenant per key."""

import os

import uvicorn
from fastapi import FastAPI

from tollbook.api_database import Database
from tollbook.api_problem import install_problems
from tollbook.api_routes import build_router


def build_app(postgres_dsn: str) -> FastAPI:
    """Return the application; nothing connects before the first request."""
    app = FastAPI(
        title="Tollbook",
        version="0.1.0",
        description="Meters, customers, subscriptions, invoices and the ledger of one tenant.",
        openapi_url="/openapi.json",
    )
    install_problems(app)
    app.include_router(build_router(Database(postgres_dsn)))
    return app


def main() -> None:
    """Serve until told to stop."""
    uvicorn.run(
        build_app(os.environ["TOLLBOOK_POSTGRES_DSN"]),
        host=os.environ.get("TOLLBOOK_API_HOST", "127.0.0.1"),
        port=int(os.environ["TOLLBOOK_API_PORT"]),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
