"""Work that falls due, done once each and in order, by any number of workers.

A worker claims a row, does what it asks for and marks it done in one transaction: one that is
killed leaves it waiting. Of one key, the next row is claimed only after those before it are done.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from billing.lifecycle import Work
from billing.postgres_facts import Connection
from billing.postgres_subscriptions import carry_out
from billing.postgres_wallet_expiry import expire_wallet
from billing.postgres_wallets import WORK_PREFIX

_CLAIM = """
    SELECT d.tenant, d.key, d.due_at, d.kind, d.ordinal FROM due_work d
    WHERE d.state = 'waiting' AND d.due_at <= %(until)s
    AND CASE WHEN %(tenant)s::text IS NULL
        THEN NOT EXISTS (SELECT FROM tenant_clocks c WHERE c.tenant = d.tenant)
        ELSE d.tenant = %(tenant)s END
    AND NOT EXISTS (SELECT FROM due_work e WHERE e.tenant = d.tenant AND e.key = d.key
        AND e.state = 'waiting' AND (e.due_at, e.ordinal) < (d.due_at, d.ordinal))
    ORDER BY d.due_at, d.tenant, d.key LIMIT 1 FOR UPDATE OF d SKIP LOCKED
"""
_DONE = (
    "UPDATE due_work SET state = 'done', done_at = now()"
    " WHERE tenant = %s AND key = %s AND due_at = %s AND ordinal = %s"
)


def do_due_work(
    connection: Connection,
    until: datetime,
    tenant: str | None = None,
    stops: Callable[[], bool] = lambda: False,
) -> int:
    """Do what is due through an instant; returns how much that was.

    Without a tenant, it is that of all who live by the world's clock. What another worker has
    claimed is left to it.
    """
    done = 0
    while not stops() and _do_next(connection, until, tenant):
        done += 1
    return done


def _do_next(connection: Connection, until: datetime, tenant: str | None) -> bool:
    with connection.transaction():
        row = connection.execute(_CLAIM, {"until": until, "tenant": tenant}).fetchone()
        if row is None:
            return False
        owner, key, due_at, kind, ordinal = row
        if kind == "expire":
            expire_wallet(connection, owner, key.removeprefix(WORK_PREFIX), due_at.astimezone(UTC))
        else:
            carry_out(connection, owner, Work(key, due_at.astimezone(UTC), kind))
        connection.execute(_DONE, (owner, key, due_at, ordinal))
    return True


def do_own_work(connection: Connection, tenant: str, key: str, until: datetime) -> None:
    """Do what is due of one key, within the transaction that made it due."""
    rows = connection.execute(
        "SELECT due_at, kind, ordinal FROM due_work WHERE tenant = %s AND key = %s"
        " AND state = 'waiting' AND due_at <= %s ORDER BY due_at, ordinal FOR UPDATE",
        (tenant, key, until),
    ).fetchall()
    for due_at, kind, ordinal in rows:
        carry_out(connection, tenant, Work(key, due_at.astimezone(UTC), kind))
        connection.execute(_DONE, (tenant, key, due_at, ordinal))


def next_due(connection: Connection, tenant: str) -> datetime | None:
    """Return when the first waiting work of a tenant falls due."""
    row = connection.execute(
        "SELECT min(due_at) FROM due_work WHERE tenant = %s AND state = 'waiting'", (tenant,)
    ).fetchone()
    return None if row is None or row[0] is None else row[0].astimezone(UTC)
