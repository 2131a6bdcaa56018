"""Reads what stands behind a document: its stored inputs, its checks, and what corrected what."""

import uuid
from collections.abc import Mapping
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from billing.money import amount_text, text_of, to_major
from billing.postgres_facts import Connection, load_facts
from billing.postgres_runs import BILLED, to_billed
from billing.price_book import content_hash
from billing.rerating import (
    CutOtherwiseError,
    differences,
    lines_again,
    period_names,
    was_rated_alike,
)
from billing.settlement import RepeatedLineError
from billing.tiers import total_of

_INPUTS = (
    "SELECT role, content_hash, content FROM invoice_inputs JOIN rating_inputs"
    " USING (tenant, content_hash) WHERE tenant = %s AND invoice_id = %s ORDER BY role"
)
# What a correction corrects: earlier lines of the same charge, dimensions and piece.
_CORRECTIONS = """
    SELECT i.number, l.ordinal, i.document_type, i.customer, i.currency, i.bill_on, l.cause,
        l.subscription, l.item, l.charge, l.dimensions, l.service_from, l.service_until,
        l.quantity, l.unit, l.amount_minor, l.description,
        ARRAY(SELECT DISTINCT b.number FROM invoice_lines k
              JOIN invoices b USING (tenant, invoice_id)
              WHERE k.tenant = l.tenant AND k.subscription = l.subscription AND k.item = l.item
              AND k.charge = l.charge AND k.dimensions = l.dimensions
              AND k.piece_start = l.piece_start AND k.piece_end = l.piece_end
              AND b.cut_number < i.cut_number ORDER BY 1) AS corrects
    FROM invoice_lines l JOIN invoices i USING (tenant, invoice_id)
    WHERE l.tenant = %(tenant)s AND l.kind = 'correction'
    AND (i.number, l.ordinal) > (%(number)s, %(ordinal)s) {where}
    ORDER BY i.number, l.ordinal LIMIT %(limit)s
"""
_WHERE_BY_FILTER = {
    "customer": "AND i.customer = %(customer)s",
    "subscription": "AND l.subscription = %(subscription)s",
    "invoice": "AND i.number = %(invoice)s",
}
_BILLED = (
    f"SELECT r.cut_number, {BILLED} WHERE b.tenant = %(tenant)s"
    " AND b.subscription = ANY(%(subscriptions)s)"
)
_POSTED = """
    SELECT coalesce(sum(p.amount_minor) FILTER (WHERE p.line IS NOT NULL), 0)::bigint,
        coalesce(sum(p.amount_minor), 0)::bigint
    FROM postings p JOIN journal_entries e USING (entry_id, tenant)
    WHERE p.tenant = %(tenant)s AND e.posting_key = %(posting_key)s
"""


def list_inputs(connection: Connection, tenant: str, invoice_id: str) -> list[dict[str, Any]]:
    """Return the stored inputs of a document: what it was rated from, with their hashes."""
    rows = connection.execute(_INPUTS, (tenant, uuid.UUID(invoice_id))).fetchall()
    return [
        {"role": role, "hash": digest.hex(), "content": content} for role, digest, content in rows
    ]


def list_corrections(
    connection: Connection,
    tenant: str,
    after: tuple[str, int] = ("", 0),
    limit: int = 1000,
    filters: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return correction lines by document, and the documents whose lines they correct."""
    chosen = filters or {}
    where = " ".join(_WHERE_BY_FILTER[name] for name in chosen)
    bound = {"tenant": tenant, "number": after[0], "ordinal": after[1], "limit": limit, **chosen}
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql.SQL(_CORRECTIONS.format(where=where)), bound).fetchall()
    for row in rows:
        for name in ("bill_on", "service_from", "service_until"):
            row[name] = row[name].isoformat()
        row["quantity"] = text_of(row["quantity"])
        row["amount"] = amount_text(row["amount_minor"], row["currency"])
    return rows


def check_document(
    connection: Connection, tenant: str, found: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what was checked of a document with its lines, and what is wrong where it is not so.

    What it was rated from is as it was stored, and gives the same lines when it is rated again;
    each line's steps add up to it, the lines to the total, and the journal entry to both.
    """
    sign = -1 if found["document_type"] == "credit_note" else 1
    inputs = list_inputs(connection, tenant, found["id"])
    changed = [one["role"] for one in inputs if content_hash(one["content"]).hex() != one["hash"]]
    off = [
        str(line["ordinal"])
        for line in found["lines"]
        if total_of(line["trace"]) != to_major(line["amount_minor"], found["currency"])
    ]
    total = sign * sum(line["amount_minor"] for line in found["lines"])
    posting_key = f"{found['document_type']}:{found['id']}"
    row = connection.execute(_POSTED, {"tenant": tenant, "posting_key": posting_key}).fetchone()
    of_lines, posted = row or (0, 0)
    return [
        _check("inputs", "each input has the hash it was stored with", ", ".join(changed)),
        _check_lines(connection, tenant, found, {one["role"]: one["content"] for one in inputs}),
        _check("traces", "the steps of each line add up to its amount", ", ".join(off)),
        _check(
            "total",
            "the lines add up to the total",
            "" if total == found["total_minor"] else f"{total} is not {found['total_minor']}",
        ),
        _check(
            "ledger",
            "the journal entry books the lines, and balances",
            "" if (posted, of_lines) == (0, -sign * total) else f"{-of_lines} is booked",
        ),
    ]


def _check_lines(
    connection: Connection, tenant: str, found: Mapping[str, Any], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    if not was_rated_alike(inputs):
        version = inputs["cut"]["rating_version"]
        return _check(
            "lines", f"not rated again: it was rated by version {version} of the rules", ""
        )
    names = period_names(inputs)
    subscriptions = sorted({key[0] for key, _ in names})
    bound = {"tenant": tenant, "subscriptions": subscriptions}
    billed = {
        (stored.key, stored.starts_at): (stored, cut_number)
        for cut_number, *row in connection.execute(_BILLED, bound)
        for stored in [to_billed(row)]
    }
    facts = load_facts(connection, tenant, inputs["cut"]["facts_revision"], found["customer"])
    try:
        lines = lines_again(inputs, facts, billed)[found["document_type"]]
    except (CutOtherwiseError, RepeatedLineError, KeyError, ValueError) as error:
        fault = f"it cannot be rated again: {type(error).__name__} {error}"
    else:
        fault = "; ".join(differences(lines, found["lines"]))
    text = f"{len(names)} periods rated again from the inputs give its {len(found['lines'])} lines"
    return _check("lines", text, fault)


def _check(name: str, text: str, fault: str) -> dict[str, Any]:
    return {"check": name, "holds": not fault, "text": text, "fault": fault or None}
