"""Writes that are made once: a repeated request gets the answer of the first.

The answer is stored in the transaction of the write, so both are there or neither. Refusals are not
stored: a request that was refused may be tried again with the same key.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi.responses import Response
from psycopg import Rollback
from psycopg.errors import LockNotAvailable
from psycopg.types.json import Jsonb

from tollbook.api.database import Connection
from tollbook.api.problem import ProblemError, fault

KEY_CHARACTERS_MAX = 256
_KEPT_HEADERS = ("content-type", "etag", "location")

# An expired answer is overwritten as if it were not there. While another request with this key is
# at work, this waits for it, up to the connection's lock_timeout.
_BEGIN = """
    INSERT INTO idempotent_answers AS known (tenant, request_key, request_hash)
    VALUES (%s, %s, %s)
    ON CONFLICT (tenant, request_key) DO UPDATE
    SET request_hash = excluded.request_hash, status = NULL, headers = NULL, body = NULL,
        begun_at = now()
    WHERE known.begun_at < now() - interval '1 day'
    RETURNING true
"""
_FIND = (
    "SELECT request_hash, status, headers, body FROM idempotent_answers"
    " WHERE tenant = %s AND request_key = %s"
)
# Each write takes a few of those away that are over, so that nothing else needs to.
_END = """
    WITH forgotten AS (
        DELETE FROM idempotent_answers WHERE (tenant, request_key) IN (
            SELECT tenant, request_key FROM idempotent_answers
            WHERE begun_at < now() - interval '1 day' ORDER BY begun_at LIMIT 10
            FOR UPDATE SKIP LOCKED))
    UPDATE idempotent_answers SET status = %s, headers = %s, body = %s
    WHERE tenant = %s AND request_key = %s
"""


@dataclass(frozen=True, slots=True)
class Keyed:
    """A request by its Idempotency-Key, and the hash of all that it asks."""

    key: str
    digest: bytes


def once(
    connection: Connection, tenant: str, keyed: Keyed | None, write: Callable[[], Response]
) -> Response:
    """Write in one transaction and return the answer, or the stored one of the same request."""
    with connection.transaction() as transaction:
        if keyed is not None:
            stored = _begin(connection, tenant, keyed)
            if stored is not None:
                return stored
        answer = write()
        if answer.status_code >= 400:
            raise Rollback(transaction)
        if keyed is not None:
            _end(connection, tenant, keyed, answer)
    return answer


def repeatable(
    connection: Connection, tenant: str, keyed: Keyed | None, write: Callable[[], Response]
) -> Response:
    """Make a write that commits by itself, or return the stored answer of the same request.

    Its answer is stored after it: where that fails, or two come at once, it is made again, so it
    must be one that does nothing twice.
    """
    if keyed is None:
        return write()
    with connection.transaction() as transaction:
        stored = _begin(connection, tenant, keyed)
        raise Rollback(transaction)
    if stored is not None:
        return stored
    answer = write()
    if answer.status_code < 400:
        with connection.transaction():
            if _begin(connection, tenant, keyed) is None:
                _end(connection, tenant, keyed, answer)
    return answer


def _begin(connection: Connection, tenant: str, keyed: Keyed) -> Response | None:
    busy = "another request with this Idempotency-Key is being carried out"
    try:
        begun = connection.execute(_BEGIN, (tenant, keyed.key, keyed.digest)).fetchone()
    except LockNotAvailable as error:
        raise ProblemError(409, busy, {"Retry-After": "1"}) from error
    if begun is not None:
        return None
    row = connection.execute(_FIND, (tenant, keyed.key)).fetchone()
    if row is None:  # it expired this very moment
        raise ProblemError(409, busy, {"Retry-After": "1"})
    digest, status, headers, body = row
    if digest != keyed.digest:
        reason = "this Idempotency-Key was used for another request"
        raise ProblemError(422, reason, errors=[fault("header", "idempotency-key", reason=reason)])
    return Response(body, status, {**headers, "Idempotent-Replayed": "true"})


def _end(connection: Connection, tenant: str, keyed: Keyed, answer: Response) -> None:
    headers = {name: value for name, value in answer.headers.items() if name in _KEPT_HEADERS}
    values = (answer.status_code, Jsonb(headers), bytes(answer.body), tenant, keyed.key)
    connection.execute(_END, values)
