"""The API as an application of FastAPI, one tenant per key."""

from collections.abc import Mapping
from dataclasses import replace

from fastapi import FastAPI

from tollbook.api.database import Database
from tollbook.api.openapi import describe, operation_id
from tollbook.api.problem import install_problems
from tollbook.api.routes import build_router
from tollbook.stack_file import Stack

BODY_BYTES_MAX = 16 << 20


def build_app(environment: Mapping[str, str]) -> FastAPI:
    """Return the application; nothing connects before the first request."""
    servers = _stack(environment)
    app = FastAPI(
        title="Tollbook",
        version="0.1.0",
        openapi_url="/openapi.json",
        generate_unique_id_function=operation_id,
        max_body_size=BODY_BYTES_MAX,
    )
    describe(app)
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
