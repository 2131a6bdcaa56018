"""What a tenant's analysts may read in ClickHouse, and how much: the one place that says it.

The gateway of the embedded engine and the rights on a server are both made from these lists. What
is not named here is closed to them.
"""

import re

DATABASE = "tollbook"


class AccessError(Exception):
    """A ClickHouse server cannot, or may not, be given users."""


TENANT_TABLES = (
    "usage_events",
    "usage_duplicates",
    "usage_dead_letters",
    "usage_quarantine",
    "usage_rejections",
    "usage_corrections",
    "usage_audit_voids",
    "usage_replacements",
    "usage_windows",
)
"""Tables of which an analyst sees the rows of one tenant, by their column `tenant`."""

VIEWS = ("events", "usage_minutely", "usage_hourly", "usage_daily", "usage_samples")
"""Views over those tables and nothing else, so that their rows are limited with them."""

SIZED_VIEWS = ("usage_by_window",)
"""The like of those, for windows of any size, which is their parameter."""

OPEN_TABLES = ("usage_progress",)
"""Tables that tell of no tenant: how far the log is counted."""

CLOSED_TABLES = ("usage_identities", "schema_migrations")
"""Tables that no analyst reads: rows of all tenants without saying whose."""

READABLE = (*TENANT_TABLES, *VIEWS, *SIZED_VIEWS, *OPEN_TABLES)

BOUNDS = {
    "max_execution_time": "30",
    "timeout_overflow_mode": "throw",
    "max_memory_usage": str(512 << 20),
    "max_threads": "2",
    "max_result_rows": "1000000",
    "max_result_bytes": str(256 << 20),
    "result_overflow_mode": "throw",
    "max_rows_in_set": "10000000",
    "max_bytes_in_join": str(256 << 20),
    "max_ast_depth": "500",
    "max_parser_depth": "200",
}
"""Settings that keep one query of an analyst small beside counting."""

EMBEDDED_ROLE = "embedded_analyst"
"""The engine's own role for analysts where it is embedded: there the gateway knows their keys."""

USER_PREFIX = "analyst_"
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def user_name(tenant: str, key_hash: bytes) -> str:
    """Return the login that goes with an analyst's key: tenant and start of the key's hash."""
    return f"{USER_PREFIX}{tenant}_{key_hash.hex()[:12]}"


def tenant_condition(tenant: str) -> str:
    """Return the condition on the rows that a tenant's analysts see.

    Raises:
        ValueError: no tenant has such a name.
    """
    if not _TENANT.fullmatch(tenant):
        raise ValueError(f"{tenant!r} is not the name of a tenant")
    return f"tenant = '{tenant}'"
