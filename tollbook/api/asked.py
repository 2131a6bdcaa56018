"""Who asks: one request's connection and the tenant whose key it came with; pages of lists."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tollbook.api.database import Connection, Database

Cursor = Annotated[str | None, Query(description="`next` of the page before.", max_length=512)]
Limit = Annotated[int, Query(ge=1, le=500)]

_BEARER = HTTPBearer(auto_error=False, description="An API key: tb_...")
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_KEY = (
    "SELECT tenant, name FROM api_keys WHERE key_hash = %s AND role = 'owner'"
    " AND (revoked_at IS NULL OR revoked_at > now())"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: a connection, and the tenant whose key, of that name, it came with."""

    connection: Connection
    tenant: str
    key_name: str = ""


def asker(database: Database) -> Callable[..., Iterator[Asked]]:
    """Return the dependency that lets owners of a tenant in, and nobody else."""

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
            yield Asked(connection, *row)

    return asked


def page(rows: list[dict[str, Any]], key: str, limit: int) -> dict[str, Any]:
    """Return a page; `next` is its last key where there may be more."""
    more = len(rows) == limit
    return {"items": rows, "next": str(rows[-1][key]) if more else None}
