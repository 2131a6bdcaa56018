"""Reads customers as they are known now, and whose usage they pay for."""

from collections.abc import Mapping
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from billing.customer import Customer
from billing.money import amount_text
from billing.postgres_facts import Connection

_VERSION = "customer AS key, version, content, known_at FROM customer_versions"
_LIST = f"""
    SELECT {_VERSION} AS v WHERE tenant = %(tenant)s AND customer > %(after)s
    AND NOT EXISTS (SELECT FROM customer_versions AS newer WHERE newer.tenant = v.tenant
                    AND newer.customer = v.customer AND newer.version > v.version)
    {{where}} ORDER BY customer LIMIT %(limit)s
"""
_WHERE_BY_FILTER = {
    "currency": "AND content->>'currency' = %(currency)s",
    "legal_entity": "AND coalesce(content->>'legal_entity', 'main') = %(legal_entity)s",
    "subject": "AND customer IN (SELECT customer FROM subject_assignments WHERE tenant ="
    " %(tenant)s AND subject = %(subject)s AND withdrawn_revision IS NULL)",
}
_ASSIGNMENTS = """
    SELECT assignment_id AS id, subject, subscription, lower(during) AS "from",
        upper(during) AS "to", known_at
    FROM subject_assignments WHERE tenant = %s AND customer = %s AND assignment_id > %s
    AND withdrawn_revision IS NULL ORDER BY assignment_id LIMIT %s
"""
_OWED = """
    SELECT currency, 'owed', sum(amount_due_minor)::bigint FROM invoices
    WHERE tenant = %(tenant)s AND customer = %(customer)s AND state = 'open'
    AND document_type = 'invoice' GROUP BY currency
    UNION ALL SELECT p.currency, 'credit', -sum(p.amount_minor)::bigint
    FROM postings p JOIN accounts a USING (account_id)
    WHERE p.tenant = %(tenant)s AND p.customer = %(customer)s AND a.code = 'customer_credit'
    GROUP BY p.currency HAVING sum(p.amount_minor) <> 0
"""


def list_customers(
    connection: Connection,
    tenant: str,
    after: str = "",
    limit: int = 1000,
    filters: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return customers after a key; filters are by currency, legal_entity or owned subject."""
    chosen = filters or {}
    where = " ".join(_WHERE_BY_FILTER[name] for name in chosen)
    bound = {"tenant": tenant, "after": after, "limit": limit, **chosen}
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql.SQL(_LIST.format(where=where)), bound).fetchall()
    return [_shown(row) for row in rows]


def read_customer(connection: Connection, tenant: str, key: str) -> dict[str, Any] | None:
    """Return one customer in its latest version."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"SELECT {_VERSION} WHERE tenant = %s AND customer = %s ORDER BY version DESC LIMIT 1",
            (tenant, key),
        ).fetchone()
    return None if row is None else _shown(row)


def list_versions(connection: Connection, tenant: str, key: str) -> list[dict[str, Any]]:
    """Return all versions of a customer, the first first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"SELECT {_VERSION} WHERE tenant = %s AND customer = %s ORDER BY version",
            (tenant, key),
        ).fetchall()
    return [_shown(row) for row in rows]


def list_assignments(
    connection: Connection, tenant: str, key: str, after: int = 0, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return the subjects that a customer pays for, and from when to when."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_ASSIGNMENTS, (tenant, key, after, limit)).fetchall()
    for row in rows:
        for name in ("from", "to", "known_at"):
            row[name] = row[name].isoformat() if row[name] else None
    return rows


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a version with all its fields, those too that were left to their defaults."""
    customer = Customer.model_validate(row["content"])
    content = customer.model_dump(mode="json", by_alias=True, exclude={"subjects"})
    return {**content, "version": row["version"], "known_at": row["known_at"].isoformat()}


def balances_of(connection: Connection, tenant: str, key: str) -> list[dict[str, Any]]:
    """Return, by currency, what open invoices ask a customer for, and its credit of notes."""
    found: dict[str, dict[str, Any]] = {}
    for currency, name, minor in connection.execute(_OWED, {"tenant": tenant, "customer": key}):
        row = {"currency": currency, "owed_minor": 0, "credit_minor": 0}
        found.setdefault(currency, row)[f"{name}_minor"] = minor
    return [
        row | {name: amount_text(row[f"{name}_minor"], currency) for name in ("owed", "credit")}
        for currency, row in sorted(found.items())
    ]
