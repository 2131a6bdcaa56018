"""When tenants were audited last: by their cuts."""

from datetime import UTC
from typing import Any

import psycopg

from pipelines.daily_audit import LastAudit


def last_audits(connection: "psycopg.Connection[Any]") -> list[LastAudit]:
    """Return the last audit of every tenant; those on a virtual clock have days of their own.

    A tenant without a cut waits since it was made, or since there is a log.
    """
    rows = connection.execute(
        "SELECT t.tenant, coalesce(c.number, 0), coalesce(c.fixed_at, greatest(t.created_at,"
        "   (SELECT min(opened_at) FROM logs)))"
        " FROM tenants t LEFT JOIN LATERAL (SELECT number, fixed_at FROM cuts"
        "   WHERE cuts.tenant = t.tenant ORDER BY number DESC LIMIT 1) c ON true"
        " WHERE NOT t.virtual_clock AND EXISTS (SELECT FROM logs) ORDER BY t.tenant"
    ).fetchall()
    return [LastAudit(tenant, number, at.astimezone(UTC)) for tenant, number, at in rows]
