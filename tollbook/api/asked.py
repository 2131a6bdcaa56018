"""Who asks: one request's connection and the tenant whose key it came with; writes made once.

An owner reads and writes, an analyst reads, a key for ingest does neither.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, HTTPException, Request
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tollbook.api.database import Connection, Database
from tollbook.api.once import KEY_CHARACTERS_MAX, Keyed, once, repeatable

_BEARER = HTTPBearer(auto_error=False, description="An API key: tb_...")
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_KEY = (
    "SELECT tenant, name, role FROM api_keys WHERE key_hash = %s"
    " AND (revoked_at IS NULL OR revoked_at > now())"
)
_READS = {"GET", "HEAD"}
_RequestKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_CHARACTERS_MAX,
        description="For a day, the same request with the same key is answered, not made again.",
        examples=["5f0c2a9e"],
    ),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: a connection, and the tenant whose key, of that name, it came with."""

    connection: Connection
    tenant: str
    key_name: str = ""
    keyed: Keyed | None = None
    """The request as its Idempotency-Key repeats it, where it has one."""

    def once(self, write: Callable[[], Response]) -> Response:
        """Write in one transaction, and once per Idempotency-Key; return what it answers.

        A problem, raised or returned, undoes all that was written with this connection.
        """
        return once(self.connection, self.tenant, self.keyed, write)

    def repeatable(self, write: Callable[[], Response]) -> Response:
        """Make a write that commits by itself and does nothing twice; return what it answers."""
        return repeatable(self.connection, self.tenant, self.keyed, write)


async def _keyed(request: Request, request_key: _RequestKey = None) -> Keyed | None:
    """Read a request as its key repeats it: its method, address and body."""
    if request_key is None or request.method in _READS:
        return None
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    digest.update(await request.body())
    return Keyed(request_key, digest.digest())


def asker(database: Database) -> Callable[..., Iterator[Asked]]:
    """Return the dependency that lets in who may read, or write, and nobody else."""

    def asked(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        keyed: Annotated[Keyed | None, Depends(_keyed)],
    ) -> Iterator[Asked]:
        if given is None:
            raise HTTPException(401, "give an API key as a bearer token", _CHALLENGE)
        digest = hashlib.sha256(given.credentials.encode()).digest()
        with database.lend_after(_KEY, (digest,)) as (connection, row):
            if row is None:
                raise HTTPException(401, "no such API key", _CHALLENGE)
            tenant, name, role = row
            if role != "owner" and not (role == "analyst" and request.method in _READS):
                raise HTTPException(403, f"a key of role {role} may not do this")
            yield Asked(connection, tenant, name, keyed)

    return asked
