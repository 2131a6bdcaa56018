"""Reads the books: accounts, journal entries with their postings, months and their locks."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from billing.money import amount_text
from billing.period import add_months, last_day, month_of
from billing.postgres_facts import Connection
from billing.postgres_ledger import locked_through

_ACCOUNTS = """
    SELECT account_id AS id, legal_entity, currency, code, kind FROM accounts
    WHERE tenant = %s AND account_id > %s ORDER BY account_id LIMIT %s
"""
_ENTRIES = """
    SELECT entry_id AS id, kind, effective_on, recorded_at, description, posting_key, reverses
    FROM journal_entries e WHERE tenant = %(tenant)s AND entry_id > %(after)s {where}
    ORDER BY entry_id LIMIT %(limit)s
"""
_WHERE_BY_FILTER = {
    "kind": "AND kind = %(kind)s",
    "effective_from": "AND effective_on >= %(effective_from)s",
    "effective_to": "AND effective_on < %(effective_to)s",
    "account": "AND EXISTS (SELECT FROM postings p WHERE p.entry_id = e.entry_id"
    " AND p.account_id = %(account)s)",
    "invoice": "AND entry_id IN (SELECT p.entry_id FROM postings p JOIN invoices i"
    " USING (tenant, invoice_id) WHERE i.tenant = %(tenant)s AND i.number = %(invoice)s)",
}
_POSTINGS = """
    SELECT p.entry_id, a.code AS account, a.account_id, a.legal_entity, p.currency,
        p.amount_minor, p.customer, p.invoice_id::text AS invoice_id, p.line
    FROM postings p JOIN accounts a USING (account_id)
    WHERE p.entry_id = ANY(%s) ORDER BY p.entry_id, p.ordinal
"""
_CLOSES = """
    SELECT through, max(run_id) AS run_id, max(finished_at) AS closed_at FROM bill_runs
    WHERE tenant = %s AND kind = 'close' AND state = 'done' GROUP BY through
"""
_FIRST_SERVICE = "SELECT min(service_from) FROM invoice_lines WHERE tenant = %s"
_ENTITIES = """
    SELECT legal_entity, document_type, year, last_sequence, last_issued_on FROM invoice_series
    WHERE tenant = %s ORDER BY legal_entity, document_type, year
"""


def list_accounts(
    connection: Connection, tenant: str, after: int = 0, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return the ledger's accounts."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_ACCOUNTS, (tenant, after, limit)).fetchall()


def list_entries(
    connection: Connection,
    tenant: str,
    after: int = 0,
    limit: int = 1000,
    filters: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return journal entries with their postings, in the order they were made."""
    chosen = filters or {}
    where = " ".join(_WHERE_BY_FILTER[name] for name in chosen)
    bound = {"tenant": tenant, "after": after, "limit": limit, **chosen}
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql.SQL(_ENTRIES.format(where=where)), bound).fetchall()
        postings = cursor.execute(_POSTINGS, ([row["id"] for row in rows],)).fetchall()
    entries = {row["id"]: row | {"postings": []} for row in rows}
    for entry in entries.values():
        entry["effective_on"] = entry["effective_on"].isoformat()
        entry["recorded_at"] = entry["recorded_at"].isoformat()
    for posting in postings:
        posting["amount"] = amount_text(posting["amount_minor"], posting["currency"])
        entries[posting.pop("entry_id")]["postings"].append(posting)
    return list(entries.values())


def list_months(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    """Return the months that have something billed or are closed or locked, and which they are.

    A close bills all that is due before, so the months before a closed one are closed too.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        closes = {
            add_months(date.fromisoformat(row["through"]), -1): row
            for row in cursor.execute(_CLOSES, (tenant,)).fetchall()
        }
    row = connection.execute(_FIRST_SERVICE, (tenant,)).fetchone()
    locked = locked_through(connection, tenant)
    known = [*closes, *([row[0].replace(day=1)] if row and row[0] else [])]
    if not known:
        return []
    last_closed = max(closes, default=None)
    months = []
    month = min(known)
    while month <= max(known):
        own = closes.get(month)
        is_locked = locked is not None and last_day(month) <= locked
        is_closed = last_closed is not None and month <= last_closed
        state = "locked" if is_locked else "closed" if is_closed else "open"
        closed_at = own["closed_at"].isoformat() if own and own["closed_at"] else None
        months.append(
            {
                "period": f"{month:%Y-%m}",
                "state": state,
                "closed_at": closed_at,
                "bill_run": own["run_id"] if own else None,
            }
        )
        month = add_months(month, 1)
    return months


def find_month(connection: Connection, tenant: str, period: str) -> dict[str, Any] | None:
    """Return one month as listed, None where nothing is known of it; raises ValueError."""
    month_of(period)
    found = [one for one in list_months(connection, tenant) if one["period"] == period]
    return found[0] if found else None


def list_entities(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    """Return the legal entities that issue documents, and their series of numbers."""
    entities: dict[str, dict[str, Any]] = {"main": {"key": "main", "series": []}}
    for key, document_type, year, last, issued_on in connection.execute(_ENTITIES, (tenant,)):
        entity = entities.setdefault(key, {"key": key, "series": []})
        entity["series"].append(
            {
                "document_type": document_type,
                "year": year,
                "last_sequence": last,
                "last_issued_on": issued_on.isoformat(),
            }
        )
    return [entities[key] for key in sorted(entities)]
