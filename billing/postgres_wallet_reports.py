"""Reads of wallets for people and the API, and whether they agree with the books."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import dict_row

from billing.money import amount_text
from billing.postgres_facts import Connection

_WALLET = """
    SELECT w.wallet AS key, w.customer, w.legal_entity, w.currency, w.tax_at, w.below_minor,
        w.top_up_minor, w.created_at, coalesce(g.balance_minor, 0) AS balance_minor,
        coalesce(g.held_minor, 0) AS held_minor, coalesce(g.unbilled_minor, 0) AS unbilled_minor,
        coalesce(g.balance_minor - g.held_minor - g.unbilled_minor, 0) AS available_minor,
        coalesce(g.owed_minor, 0) AS owed_minor, t.number AS top_up_pending
    FROM wallets w
    LEFT JOIN LATERAL (
        SELECT sum(left_minor)::bigint AS balance_minor, sum(held_minor)::bigint AS held_minor,
            sum(settled_minor)::bigint AS unbilled_minor, sum(owed_minor)::bigint AS owed_minor
        FROM wallet_grants g WHERE g.tenant = w.tenant AND g.wallet = w.wallet) g ON true
    LEFT JOIN wallet_top_ups t
        ON t.tenant = w.tenant AND t.wallet = w.wallet AND t.state = 'pending'
    WHERE w.tenant = %(tenant)s
"""
_GRANT = """
    SELECT g.number, g.key, g.kind, g.priority, g.granted_minor, g.cost_minor, g.effective_at,
        g.expires_at, g.scope, g.payment, i.number AS invoice, g.line, l.product, g.reason,
        g.left_minor, g.held_minor, g.settled_minor, g.drawn_minor, g.expired_minor,
        g.voided_minor, g.owed_minor, w.currency
    FROM wallet_grants g JOIN wallets w USING (tenant, wallet)
    LEFT JOIN invoices i ON i.invoice_id = g.invoice_id
    LEFT JOIN invoice_lines l ON l.invoice_id = g.invoice_id AND l.ordinal = g.line
    WHERE g.tenant = %(tenant)s AND g.wallet = %(wallet)s
"""
_HOLD = """
    SELECT h.hold AS key, h.state, h.amount_minor, h.settled_minor, h.charge, h.product, h.meter,
        h.held_at, h.expires_at, h.used_at, w.currency, (SELECT count(*) FROM wallet_events e
            WHERE e.tenant = h.tenant AND e.wallet = h.wallet AND e.hold = h.hold) AS events
    FROM wallet_holds h JOIN wallets w USING (tenant, wallet)
    WHERE h.tenant = %(tenant)s AND h.wallet = %(wallet)s
"""
_MOVEMENT = """
    SELECT m.sequence, m.kind, g.key AS "grant", m.left_minor, m.held_minor, m.settled_minor,
        m.owed_minor, m.hold, i.number AS document, m.line, m.at, m.actor, m.reason, w.currency
    FROM wallet_movements m JOIN wallet_grants g USING (tenant, wallet, number)
    JOIN wallets w USING (tenant, wallet) LEFT JOIN invoices i ON i.invoice_id = m.invoice_id
    WHERE m.tenant = %(tenant)s AND m.wallet = %(wallet)s AND m.sequence > %(after)s
    ORDER BY m.sequence LIMIT %(limit)s
"""
_APPLIED = """
    SELECT m.wallet, g.key AS "grant", g.kind, m.line, -sum(m.left_minor)::bigint AS amount_minor
    FROM wallet_movements m JOIN wallet_grants g USING (tenant, wallet, number)
    WHERE m.tenant = %s AND m.invoice_id = %s AND m.kind IN ('draw', 'restore')
    GROUP BY 1, 2, 3, 4 ORDER BY min(m.sequence)
"""
# What is owed by grants, against the account that says so; what is drawn of given credit likewise.
_OWED = """
    SELECT legal_entity, customer, currency, sum(wallet)::bigint, sum(ledger)::bigint FROM (
        SELECT w.legal_entity, w.customer, w.currency, g.owed_minor AS wallet, 0 AS ledger
        FROM wallets w JOIN wallet_grants g USING (tenant, wallet) WHERE w.tenant = %(tenant)s
        UNION ALL SELECT a.legal_entity, p.customer, a.currency, 0, -p.amount_minor
        FROM accounts a JOIN postings p USING (account_id)
        WHERE a.tenant = %(tenant)s AND a.code = 'prepaid_credit') both_sides
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_GIVEN = """
    SELECT legal_entity, customer, currency, sum(wallet)::bigint, sum(ledger)::bigint FROM (
        SELECT w.legal_entity, w.customer, w.currency, m.owed_minor - m.left_minor AS wallet,
            0 AS ledger
        FROM wallets w JOIN wallet_movements m USING (tenant, wallet)
        WHERE w.tenant = %(tenant)s AND m.kind IN ('draw', 'restore')
        UNION ALL SELECT a.legal_entity, p.customer, a.currency, 0, p.amount_minor
        FROM accounts a JOIN postings p USING (account_id)
        WHERE a.tenant = %(tenant)s AND a.code = 'promotional_credit') both_sides
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_UNSUMMED = """
    SELECT g.wallet, g.key FROM wallet_grants g LEFT JOIN (
        SELECT wallet, number, sum(left_minor) AS l, sum(held_minor) AS h,
            sum(settled_minor) AS s, sum(owed_minor) AS o
        FROM wallet_movements WHERE tenant = %(tenant)s GROUP BY 1, 2) m USING (wallet, number)
    WHERE g.tenant = %(tenant)s AND (m.l, m.h, m.s, m.o) IS DISTINCT FROM
        (g.left_minor::numeric, g.held_minor::numeric, g.settled_minor::numeric,
         g.owed_minor::numeric)
    ORDER BY 1, 2
"""


def find_wallet(connection: Connection, tenant: str, key: str) -> dict[str, Any] | None:
    """Return a wallet with its balance, what is held and unbilled of it, and what is available."""
    rows = _rows(connection, f"{_WALLET} AND w.wallet = %(key)s", {"tenant": tenant, "key": key})
    return rows[0] if rows else None


def list_wallets(
    connection: Connection,
    tenant: str,
    after: str = "",
    limit: int = 1000,
    customer: str | None = None,
) -> list[dict[str, Any]]:
    """Return wallets by key."""
    where = (
        " AND w.wallet > %(after)s AND (%(customer)s::text IS NULL OR w.customer = %(customer)s)"
    )
    bound = {"tenant": tenant, "after": after, "limit": limit, "customer": customer}
    return _rows(connection, f"{_WALLET}{where} ORDER BY w.wallet LIMIT %(limit)s", bound)


def find_grant(connection: Connection, tenant: str, wallet: str, key: str) -> dict[str, Any] | None:
    """Return a grant and what became of it."""
    bound = {"tenant": tenant, "wallet": wallet, "key": key}
    rows = _rows(connection, f"{_GRANT} AND g.key = %(key)s", bound)
    return rows[0] if rows else None


def list_grants(
    connection: Connection, tenant: str, wallet: str, after: int = 0, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return a wallet's grants in the order they were made."""
    bound = {"tenant": tenant, "wallet": wallet, "after": after, "limit": limit}
    where = " AND g.number > %(after)s ORDER BY g.number LIMIT %(limit)s"
    return _rows(connection, _GRANT + where, bound)


def find_hold(connection: Connection, tenant: str, wallet: str, key: str) -> dict[str, Any] | None:
    """Return a hold and what became of it."""
    bound = {"tenant": tenant, "wallet": wallet, "key": key}
    rows = _rows(connection, f"{_HOLD} AND h.hold = %(key)s", bound)
    return rows[0] if rows else None


def list_holds(
    connection: Connection,
    tenant: str,
    wallet: str,
    after: str = "",
    limit: int = 1000,
    state: str | None = None,
) -> list[dict[str, Any]]:
    """Return a wallet's holds by key."""
    bound = {"tenant": tenant, "wallet": wallet, "after": after, "limit": limit, "state": state}
    where = (
        " AND h.hold > %(after)s AND (%(state)s::text IS NULL OR h.state = %(state)s)"
        " ORDER BY h.hold LIMIT %(limit)s"
    )
    return _rows(connection, _HOLD + where, bound)


def list_movements(
    connection: Connection, tenant: str, wallet: str, after: int = 0, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return all that happened to a wallet, the first first."""
    bound = {"tenant": tenant, "wallet": wallet, "after": after, "limit": limit}
    return _rows(connection, _MOVEMENT, bound)


def applied_credit(
    connection: Connection, tenant: str, invoice_id: str, currency: str
) -> list[dict[str, Any]]:
    """Return what a document draws from wallets, per grant and line; putting back is negative."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_APPLIED, (tenant, invoice_id)).fetchall()
    return [{**row, "amount": _amount(row["amount_minor"], currency)} for row in rows]


def reconcile(connection: Connection, tenant: str) -> dict[str, Any]:
    """Return what wallets hold against what the books say, and where the two differ."""
    accounts, faults = [], []
    for account, query in (("prepaid_credit", _OWED), ("promotional_credit", _GIVEN)):
        for entity, customer, currency, wallet, ledger in connection.execute(
            query, {"tenant": tenant}
        ).fetchall():
            row = {
                "account": account,
                "legal_entity": entity,
                "customer": customer,
                "currency": currency,
                "wallets": _amount(wallet, currency),
                "ledger": _amount(ledger, currency),
                "agrees": wallet == ledger,
            }
            accounts.append(row)
            if wallet != ledger:
                faults.append(f"{account} of {customer}: {row['wallets']} in wallets,"
                              f" {row['ledger']} {currency} in the books")  # fmt: skip
    for wallet, key in connection.execute(_UNSUMMED, {"tenant": tenant}).fetchall():
        faults.append(f"grant {key} of wallet {wallet} is not the sum of its movements")
    return {"accounts": accounts, "faults": faults}


def _rows(connection: Connection, query: str, bound: Mapping[str, Any]) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows: Sequence[dict[str, Any]] = cursor.execute(query, bound).fetchall()
    return [_shown(row) for row in rows]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its times as text, and each amount in major units too."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        found[name] = value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        if name.endswith("_minor"):
            found[name.removesuffix("_minor")] = _amount(value, row["currency"])
    return found


def _amount(minor: int | None, currency: str) -> str | None:
    return None if minor is None else amount_text(minor, currency)
