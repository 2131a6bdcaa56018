"""API keys in memory: which tenant a bearer key speaks for, without asking a database.

Only hashes are held. A key that is unknown may have been made a moment ago, so a look-up that
fails says whether a refresh is worth its while; refreshes are kept to one a second.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

ROLES = frozenset({"owner", "ingest"})
REFRESH_SECONDS_MIN = 1.0
"""However many unknown keys come, the database is asked no more often than this."""
_RECENT_MAX = 4096


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What a key stands for."""

    tenant: str
    role: str
    is_revoked: bool
    open_for_history: bool

    @property
    def may_ingest(self) -> bool:
        """Tell whether the key may send events."""
        return not self.is_revoked and self.role in ROLES


class KeyRing:
    """All keys by their hash, and the last few answers by the header they came in."""

    def __init__(self) -> None:
        self._keys: Mapping[bytes, ApiKey] = {}
        self._recent: dict[bytes, ApiKey] = {}
        self._refreshed_at = float("-inf")
        self.is_loaded = False

    def replace(self, keys: Mapping[bytes, ApiKey], now: float) -> None:
        """Take a fresh copy of all keys."""
        self._keys = keys
        self._recent = {}
        self._refreshed_at = now
        self.is_loaded = True

    def find(self, authorization: bytes) -> ApiKey | None:
        """Return the key of an Authorization header's value, or None."""
        known = self._recent.get(authorization)
        if known is not None:
            return known
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        key = self._keys.get(hashlib.sha256(token.strip()).digest())
        if key is not None:
            if len(self._recent) >= _RECENT_MAX:
                self._recent = {}
            self._recent[authorization] = key
        return key

    def is_refresh_due(self, now: float) -> bool:
        """Tell whether an unknown key is reason enough to read the keys again."""
        return now - self._refreshed_at >= REFRESH_SECONDS_MIN

    def note_attempt(self, now: float) -> None:
        """Remember that a refresh was tried, whether or not it succeeds."""
        self._refreshed_at = now
