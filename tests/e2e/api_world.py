"""The billing API over the small world, billed for a month, with keys of each role."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

from fastapi.testclient import TestClient

from tests.e2e.billing_databases import databases
from tests.e2e.billing_world import close
from tests.embedded_stack import EmbeddedStack
from tollbook.api.application import build_app

KEYS = {"tb_owner": ("default", "owner"), "tb_ingest": ("default", "ingest"),
        "tb_other": ("other", "owner"), "tb_analyst": ("default", "analyst")}  # fmt: skip


@contextmanager
def billed_world(stack: EmbeddedStack, name: str) -> Iterator[TestClient]:
    """Yield a client of the API over a database of its own."""
    with databases(stack) as make:
        dsn, connection = make(name)
        close(connection, date(2013, 1, 1))
        connection.execute("INSERT INTO tenants (tenant, name) VALUES ('other', 'O')")
        for key, (tenant, role) in KEYS.items():
            digest = hashlib.sha256(key.encode()).digest()
            connection.execute(
                "INSERT INTO api_keys (key_hash, tenant, name, role) VALUES (%s, %s, %s, %s)",
                (digest, tenant, key, role),
            )
        app = build_app({"TOLLBOOK_POSTGRES_DSN": dsn})
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client


def call(
    client: TestClient, method: str, path: str, body: Any = None, key: str = "tb_owner",
    **headers: str,
) -> Any:  # fmt: skip
    """Ask; headers are named with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = {} if body is None else {"json": body}
    bearer = {"Authorization": f"Bearer {key}"}
    return client.request(method, path, headers={**bearer, **named}, **content)


def get(client: TestClient, path: str, key: str = "tb_owner") -> Any:
    """Ask for what is there."""
    answer = call(client, "GET", path, key=key)
    assert answer.status_code == 200, answer.text
    return answer.json()
