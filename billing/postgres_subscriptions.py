"""The states of subscriptions in Postgres: recorded with their terms, moved by work that falls due.

Who changes a subscription locks its due work first, then its row: workers do the same, so that
neither waits for the other in a circle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import dict_row

from billing.customer import Customer, Subscription
from billing.lifecycle import (
    MOVES,
    REASONS,
    TOLD,
    State,
    Work,
    end_of,
    ends_by,
    first_state,
    moved_by,
    work_of,
)
from billing.money import to_major
from billing.postgres_facts import Connection

_CREATE = """
    INSERT INTO subscriptions (tenant, subscription, customer, state, version, content_version,
        predecessor, cancel_at, changed_at, actor, reason)
    VALUES (%(tenant)s, %(key)s, %(customer)s, %(state)s, 1, %(content_version)s,
        %(predecessor)s, %(cancel_at)s, %(at)s, %(actor)s, %(reason)s)
"""
_CHANGE = """
    UPDATE subscriptions SET customer = %(customer)s, version = version + 1,
        content_version = %(content_version)s, cancel_at = %(cancel_at)s,
        changed_at = greatest(changed_at, %(at)s), actor = %(actor)s, reason = %(reason)s
    WHERE tenant = %(tenant)s AND subscription = %(key)s
"""
_MOVE = """
    UPDATE subscriptions SET state = %(state)s, version = version + 1,
        changed_at = greatest(changed_at, %(at)s), actor = %(actor)s, reason = %(reason)s
    WHERE tenant = %(tenant)s AND subscription = %(key)s
"""
_SHOWN = (
    "s.subscription AS key, s.version, s.customer, s.state, s.predecessor, s.cancel_at,"
    " subscription_is_overdue(s.tenant, s.subscription, coalesce(c.at, now())) AS overdue,"
    " s.changed_at, v.content FROM subscriptions s"
    " JOIN subscription_versions v ON v.tenant = s.tenant AND v.subscription = s.subscription"
    " AND v.version = s.content_version LEFT JOIN tenant_clocks c ON c.tenant = s.tenant"
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Who changes something, and why."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Written:
    """A subscription's new terms, and the version of the facts that holds them."""

    subscription: Subscription
    content_version: int


class StaleVersionError(Exception):
    """A subscription is at another version than the one that a writer read."""

    def __init__(self, key: str, expected: int, current: int) -> None:
        super().__init__(
            f"subscription {key} is at version {current}, not {expected}: read it again"
        )
        self.current = current


class MoveError(Exception):
    """A subscription cannot go where it is told to."""


def states(
    connection: Connection, tenant: str, keys: Sequence[str]
) -> dict[str, tuple[State, int]]:
    """Lock subscriptions and their waiting work; returns state and version by key."""
    connection.execute(
        "SELECT FROM due_work WHERE tenant = %s AND key = ANY(%s) AND state = 'waiting'"
        " ORDER BY key, due_at, ordinal FOR UPDATE",
        (tenant, list(keys)),
    )
    rows = connection.execute(
        "SELECT subscription, state, version FROM subscriptions WHERE tenant = %s"
        " AND subscription = ANY(%s) ORDER BY subscription FOR UPDATE",
        (tenant, list(keys)),
    ).fetchall()
    return {key: (state, version) for key, state, version in rows}


def record(
    connection: Connection,
    tenant: str,
    written: Sequence[Written],
    customers: Mapping[str, Customer],
    *,
    at: datetime,
    cause: Cause,
) -> list[str]:
    """Record new terms: a row for each new subscription, a version more of each known one.

    Returns those that are canceled, and would go on beyond their end by these terms.
    """
    if not written:
        return []
    known = states(connection, tenant, [one.subscription.key for one in written])
    created: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    work: list[Work] = []
    revived: list[str] = []
    for one in written:
        subscription = one.subscription
        zone = customers[subscription.customer].zone
        state, _ = known.get(subscription.key, (first_state(subscription, zone, at), 0))
        row = {
            "tenant": tenant,
            "key": subscription.key,
            "customer": subscription.customer,
            "state": state,
            "content_version": one.content_version,
            "predecessor": subscription.predecessor,
            "cancel_at": end_of(subscription, zone),
            "at": at,
            "actor": cause.actor,
            "reason": cause.reason,
        }
        if state == "canceled" and not ends_by(subscription, zone, at):
            revived.append(subscription.key)
        (changed if subscription.key in known else created).append(row)
        # Nobody is told of what is over.
        due = work_of(subscription, zone, state)
        work += [each for each in due if each.kind not in TOLD or at <= each.due_at]
    with connection.cursor() as cursor:
        cursor.executemany(_CREATE, created)
        cursor.executemany(_CHANGE, changed)
        cursor.execute(
            "DELETE FROM due_work WHERE tenant = %s AND key = ANY(%s) AND state = 'waiting'",
            (tenant, list(known)),
        )
        cursor.executemany(
            "INSERT INTO due_work (tenant, key, due_at, ordinal, kind) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [(tenant, one.key, one.due_at, one.ordinal, one.kind) for one in work],
        )
    return revived


def carry_out(connection: Connection, tenant: str, work: Work) -> None:
    """Do what fell due to a subscription, as of the instant it was due."""
    row = connection.execute(
        "SELECT state FROM subscriptions WHERE tenant = %s AND subscription = %s FOR UPDATE",
        (tenant, work.key),
    ).fetchone()
    assert row is not None  # noqa: S101 - work is written after its subscription
    state = moved_by(work.kind, row[0])
    if work.kind == "resume" and state == "active":
        state = "past_due" if _is_overdue(connection, tenant, work.key, work.due_at) else state
    if state != row[0] or state in TOLD.get(work.kind, ()):
        cause = Cause("schedule", REASONS[work.kind])
        _write_move(connection, tenant, work.key, state, work.due_at, cause)


def move(
    connection: Connection,
    tenant: str,
    key: str,
    state: State,
    *,
    at: datetime,
    cause: Cause,
    expected: int | None = None,
) -> None:
    """Move a subscription to a state, from the version that the caller read, where it says so.

    Raises:
        LookupError: there is no such subscription.
        StaleVersionError: it was changed since.
        MoveError: no such move is declared, or invoices of it are overdue.
    """
    with connection.transaction():
        known = states(connection, tenant, [key])
        if key not in known:
            raise LookupError(f"there is no subscription {key}")
        before, current = known[key]
        if expected not in (None, current):
            raise StaleVersionError(key, int(expected or 0), current)
        if state not in MOVES[before]:
            raise MoveError(f"subscription {key} is {before}: it cannot become {state}")
        restores = state == "active" and before in ("past_due", "paused")
        if restores and _is_overdue(connection, tenant, key, at):
            raise MoveError(f"subscription {key} has overdue invoices, so it is not active")
        _write_move(connection, tenant, key, state, at, cause)
        if state == "canceled":
            connection.execute(
                "DELETE FROM due_work WHERE tenant = %s AND key = %s AND state = 'waiting'",
                (tenant, key),
            )


def _is_overdue(connection: Connection, tenant: str, key: str, at: datetime) -> bool:
    row = connection.execute(
        "SELECT subscription_is_overdue(%s, %s, %s)", (tenant, key, at)
    ).fetchone()
    return bool(row and row[0])


def _write_move(
    connection: Connection, tenant: str, key: str, state: State, at: datetime, cause: Cause
) -> None:
    connection.execute(
        _MOVE,
        {
            "tenant": tenant,
            "key": key,
            "state": state,
            "at": at,
            "actor": cause.actor,
            "reason": cause.reason,
        },
    )


def find_subscription(connection: Connection, tenant: str, key: str) -> dict[str, Any] | None:
    """Return a subscription with its terms, as it stands now."""
    rows = _shown(connection, "WHERE s.tenant = %s AND s.subscription = %s", (tenant, key))
    return rows[0] if rows else None


def list_subscriptions(
    connection: Connection,
    tenant: str,
    after: str = "",
    limit: int = 1000,
    filters: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return subscriptions by key; filters are `state` and `customer`."""
    given = {name: (filters or {}).get(name) for name in ("state", "customer")}
    return _shown(
        connection,
        "WHERE s.tenant = %s AND s.subscription > %s AND (%s::text IS NULL OR s.state = %s)"
        " AND (%s::text IS NULL OR s.customer = %s) ORDER BY s.subscription LIMIT %s",
        (
            tenant,
            after,
            *(given["state"], given["state"]),
            *(given["customer"], given["customer"]),
            limit,
        ),
    )


def _shown(connection: Connection, where: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"SELECT {_SHOWN} {where}", values).fetchall()
    return [
        {
            **row.pop("content"),
            **row,
            "cancel_at": _text(row["cancel_at"]),
            "changed_at": _text(row["changed_at"]),
        }
        for row in rows
    ]


def list_history(
    connection: Connection, tenant: str, key: str, after: int = 0, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return what became of a subscription, the first version first, with its terms then.

    With the first version of some terms comes what was credited and charged by them, by currency.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_HISTORY, {"tenant": tenant, "key": key, "after": after,
                                         "limit": limit}).fetchall()  # fmt: skip
        sums = cursor.execute(_PRORATED, {"tenant": tenant, "key": key}).fetchall()
    for row in rows:
        row["at"] = _text(row["at"])
        by_terms = row.pop("terms") if row.pop("is_first") else None
        for name in ("credited", "charged"):
            row[name] = {
                one["currency"]: str(to_major(int(one["amount_minor"]), one["currency"]))
                for one in sums
                if one["what"] == name and one["terms"] == by_terms
            }
        row.pop("terms", None)
    return rows


_HISTORY = """
    SELECT h.version, h.from_state AS "from", h.to_state AS "to", h.at, h.actor, h.reason,
        v.content, h.content_version AS terms,
        h.version = (SELECT min(version) FROM subscription_history f WHERE f.tenant = h.tenant
            AND f.subscription = h.subscription
            AND f.content_version = h.content_version) AS is_first
    FROM subscription_history h JOIN subscription_versions v ON v.tenant = h.tenant
    AND v.subscription = h.subscription AND v.version = h.content_version
    WHERE h.tenant = %(tenant)s AND h.subscription = %(key)s AND h.version > %(after)s
    ORDER BY h.version LIMIT %(limit)s
"""
_PRORATED = """
    SELECT currency, substring(cause FROM 'terms ([0-9]+)')::bigint AS terms,
        CASE kind WHEN 'proration_credit' THEN 'credited' ELSE 'charged' END AS what,
        sum(amount_minor) AS amount_minor
    FROM invoice_lines JOIN invoices USING (tenant, invoice_id)
    WHERE tenant = %(tenant)s AND subscription = %(key)s
    AND kind IN ('proration_credit', 'proration_charge') GROUP BY 1, 2, 3 ORDER BY 1
"""


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()
