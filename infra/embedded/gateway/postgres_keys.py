"""The keys of analysts, from Postgres, where `tollbook key` keeps them: whose tenant, if any."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psycopg

from infra.analysts import user_name
from infra.embedded.gateway.errors import GatewayError

log = logging.getLogger("tollbook.clickhouse")

_KEYS = """
    SELECT key_hash, tenant FROM api_keys
    WHERE role = 'analyst' AND (revoked_at IS NULL OR revoked_at > now())
"""
_FRESH_SECONDS = 2.0
"""How long a revoked key may still be let in."""
_PAUSE_SECONDS = 0.5
"""However many unknown keys come, Postgres is asked no more often than this."""

KeysByHash = Mapping[bytes, str]


@dataclass(slots=True)
class AnalystKeys:
    """All analysts' keys, as of a moment ago; `read` returns tenants by a key's SHA-256."""

    read: Callable[[], KeysByHash]
    _known: KeysByHash = field(default_factory=dict)
    _read_at: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tenant_of(self, user: str, key: str) -> str | None:
        """Return the tenant of a login, or None where there is no such user or key.

        Raises:
            GatewayError: the keys cannot be read now (503).
        """
        digest = hashlib.sha256(key.encode()).digest()
        with self._lock:
            age = time.monotonic() - self._read_at
            if age > _FRESH_SECONDS or (digest not in self._known and age > _PAUSE_SECONDS):
                self._known, self._read_at = self.read(), time.monotonic()
            tenant = self._known.get(digest)
        # Looked up by its hash, the key has been compared whole; the name only says the same again.
        return tenant if tenant is not None and user == user_name(tenant, digest) else None


def open_keys(dsn: str) -> AnalystKeys:
    """Return the keys that a Tollbook's Postgres holds; it is asked when somebody logs in."""

    def read() -> KeysByHash:
        try:
            with psycopg.connect(dsn, connect_timeout=3) as connection:
                rows = connection.execute(_KEYS).fetchall()
        except psycopg.Error as error:
            log.info("analysts' keys cannot be read: %s", type(error).__name__)
            message = "The keys of analysts cannot be read now; try again"
            raise GatewayError(210, "NETWORK_ERROR", message, status=503) from error
        return {bytes(key_hash): str(tenant) for key_hash, tenant in rows}

    return AnalystKeys(read)
