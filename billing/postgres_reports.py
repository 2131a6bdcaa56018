"""Reads for people and the API: lists by key, documents with their lines, balances.

Amounts are integer minor units; quantities and prices are text.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from psycopg.rows import dict_row

from billing.ledger import trial_line
from billing.money import amount_text, text_of
from billing.postgres_facts import Connection
from billing.postgres_wallet_reports import applied_credit

_INVOICE = (
    "invoice_id::text AS id, number, document_type, customer, legal_entity, currency, bill_on,"
    " issued_on, due_on, state, total_minor, wallet_minor, amount_due_minor, cut_number"
)
_LINE = (
    "ordinal, kind, cause, subscription, item, charge, dimensions, description, product,"
    " service_from, service_until, quantity, unit, amount_minor, price_book, book_version, trace"
)
# Adds up by account before anything else is looked at; only a day's balances need the entries.
_TRIAL_BALANCE = """
    SELECT a.legal_entity, a.currency, a.code, a.kind, debit_minor, credit_minor FROM (
        SELECT account_id,
            coalesce(sum(amount_minor) FILTER (WHERE amount_minor > 0), 0)::bigint AS debit_minor,
            coalesce(-sum(amount_minor) FILTER (WHERE amount_minor < 0), 0)::bigint AS credit_minor
        FROM postings p {until} WHERE p.tenant = %(tenant)s {where} GROUP BY account_id) AS totals
    JOIN accounts a USING (account_id) ORDER BY 1, 2, 4, 3
"""


def meters(connection: Connection, tenant: str, revision: int) -> list[str]:
    """Return the keys of the meters that were known at a revision, in order."""
    rows = connection.execute(
        "SELECT DISTINCT key FROM meters WHERE tenant = %s AND known_revision <= %s ORDER BY key",
        (tenant, revision),
    ).fetchall()
    return [key for (key,) in rows]


def subscriptions(
    connection: Connection, tenant: str, after: str | None = None, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return subscriptions after a key, each in its latest version."""
    return _things(connection, "subscription", tenant, after, limit)


def _things(
    connection: Connection, thing: str, tenant: str, after: str | None, limit: int
) -> list[dict[str, Any]]:
    rows = connection.execute(
        f"SELECT DISTINCT ON ({thing}) content, version FROM {thing}_versions"
        f" WHERE tenant = %s AND {thing} > %s ORDER BY {thing}, version DESC LIMIT %s",
        (tenant, after or "", limit),
    ).fetchall()
    return [{**content, "version": version} for content, version in rows]


def price_books(
    connection: Connection, tenant: str, after: str | None = None, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return price books after a key, with all their versions and hashes."""
    rows = connection.execute(
        "SELECT price_book, json_agg(json_build_object('content', content, 'hash',"
        " encode(content_hash, 'hex')) ORDER BY version) FROM price_book_versions"
        " WHERE tenant = %s AND price_book > %s GROUP BY price_book ORDER BY price_book LIMIT %s",
        (tenant, after or "", limit),
    ).fetchall()
    return [
        {"key": key, "versions": [{**v["content"], "hash": v["hash"]} for v in versions]}
        for key, versions in rows
    ]


INVOICE_FILTERS = {
    "customer": "customer = %(customer)s",
    "state": "state = %(state)s",
    "document_type": "document_type = %(document_type)s",
    "currency": "currency = %(currency)s",
    "legal_entity": "legal_entity = %(legal_entity)s",
    "issued_from": "issued_on >= %(issued_from)s",
    "issued_to": "issued_on < %(issued_to)s",
    "due_to": "due_on < %(due_to)s",
    "subscription": "EXISTS (SELECT FROM invoice_lines l WHERE l.tenant = invoices.tenant"
    " AND l.invoice_id = invoices.invoice_id AND l.subscription = %(subscription)s)",
}
"""What documents can be chosen by."""


def invoices(
    connection: Connection,
    tenant: str,
    filters: Mapping[str, Any] | None = None,
    *,
    after: str | None = None,
    limit: int = 1000,
) -> list[dict[str, Any]]:
    """Return documents after a number, without their lines."""
    chosen = filters or {}
    where = "".join(f" AND {INVOICE_FILTERS[name]}" for name in chosen)
    bound = {"tenant": tenant, "after": after or "", "limit": limit, **chosen}
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"SELECT {_INVOICE} FROM invoices WHERE tenant = %(tenant)s AND number > %(after)s"
            f"{where} ORDER BY number LIMIT %(limit)s",
            bound,
        ).fetchall()
    return [_with_amounts(row) for row in rows]


def bill_runs(
    connection: Connection, tenant: str, after: int = 0, limit: int = 1000
) -> list[dict[str, Any]]:
    """Return bill runs after one, in the order they were begun."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT run_id AS id, kind, through, cut_number, state, started_at, finished_at"
            " FROM bill_runs WHERE tenant = %s AND run_id > %s ORDER BY run_id LIMIT %s",
            (tenant, after, limit),
        ).fetchall()
    for row in rows:
        for name in ("started_at", "finished_at"):
            row[name] = row[name].isoformat() if row[name] else None
    return rows


def issued_documents(
    connection: Connection, tenant: str, run_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the documents that some bill runs issued."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"SELECT {_INVOICE} FROM invoices WHERE tenant = %s AND run_id = ANY(%s)"
            " ORDER BY document_type DESC, number",
            (tenant, list(run_ids)),
        ).fetchall()
    return [_with_amounts(row) for row in rows]


def invoice(connection: Connection, tenant: str, name: str) -> dict[str, Any] | None:
    """Return one document with its lines, by number or id."""
    try:
        key: tuple[str, Any] = ("invoice_id", uuid.UUID(name))
    except ValueError:
        key = ("number", name)
    with connection.cursor(row_factory=dict_row) as cursor:
        head = cursor.execute(
            f"SELECT {_INVOICE} FROM invoices WHERE tenant = %s AND {key[0]} = %s",
            (tenant, key[1]),
        ).fetchone()
        if head is None:
            return None
        lines = cursor.execute(
            f"SELECT {_LINE} FROM invoice_lines WHERE tenant = %s AND invoice_id = %s"
            " ORDER BY ordinal",
            (tenant, uuid.UUID(head["id"])),
        ).fetchall()
        customer = cursor.execute(
            "SELECT content->>'name' AS name FROM customer_versions WHERE tenant = %s"
            " AND customer = %s ORDER BY version DESC LIMIT 1",
            (tenant, head["customer"]),
        ).fetchone()
    head["customer_name"] = customer["name"] if customer else head["customer"]
    currency = head["currency"]
    return {
        **_with_amounts(head),
        "lines": [_line(line, currency) for line in lines],
        "credit": applied_credit(connection, tenant, head["id"], currency),
    }


def _with_amounts(row: Mapping[str, Any]) -> dict[str, Any]:
    days = {name: row[name].isoformat() for name in ("bill_on", "issued_on", "due_on")}
    amounts = {
        name: amount_text(row[f"{name}_minor"], row["currency"])
        for name in ("total", "wallet", "amount_due")
    }
    return {**row, **days, **amounts}


def _line(row: Mapping[str, Any], currency: str) -> dict[str, Any]:
    return {
        **row,
        "service_from": row["service_from"].isoformat(),
        "service_until": row["service_until"].isoformat(),
        "quantity": text_of(row["quantity"]),
        "amount": amount_text(row["amount_minor"], currency),
    }


def trial_balance(
    connection: Connection, tenant: str, as_of: date | None = None
) -> list[dict[str, Any]]:
    """Return debits, credits and balance per account, of entries effective up to a day."""
    until = "" if as_of is None else "JOIN journal_entries e USING (entry_id)"
    where = "" if as_of is None else "AND e.effective_on <= %(as_of)s"
    rows = connection.execute(
        _TRIAL_BALANCE.format(until=until, where=where), {"tenant": tenant, "as_of": as_of}
    ).fetchall()
    return [trial_line(*row) for row in rows]
