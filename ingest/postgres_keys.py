"""Reads API keys and their tenants from Postgres."""

from collections.abc import Mapping

import psycopg

from ingest.keys import ApiKey

_KEYS = """
    SELECT k.key_hash, t.tenant, k.role, k.revoked_at IS NOT NULL, t.open_for_history
    FROM api_keys AS k JOIN tenants AS t USING (tenant)
"""


class KeysUnavailableError(RuntimeError):
    """Postgres did not answer; the keys in memory stay in force."""


def read_keys(dsn: str, timeout_seconds: int = 5) -> Mapping[bytes, ApiKey]:
    """Return every key by its SHA-256.

    Raises:
        KeysUnavailableError: Postgres is away or refuses.
    """
    options = f"-c statement_timeout={timeout_seconds * 1000}"
    try:
        with psycopg.connect(dsn, connect_timeout=timeout_seconds, options=options) as connection:
            rows = connection.execute(_KEYS).fetchall()
    except psycopg.Error as error:
        raise KeysUnavailableError(str(error).strip().replace("\n", " ")) from error
    return {
        bytes(key_hash): ApiKey(tenant, role, is_revoked, open_for_history)
        for key_hash, tenant, role, is_revoked, open_for_history in rows
    }
