"""The ledger in Postgres: posting once per key, month ends, trial balances."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from billing.ledger import (
    ADVANCE_KINDS,
    Entry,
    IssuedLine,
    account_kind,
    accrual_entries,
    recognition_entries,
)
from billing.period import add_months, last_day, whole_month
from billing.postgres_facts import Connection

_LINE = (
    "i.invoice_id, i.number, l.ordinal, i.legal_entity, i.customer, i.currency, l.product,"
    " l.amount_minor, l.service_from, l.service_until"
)


def post(connection: Connection, tenant: str, entries: Iterable[Entry]) -> int:
    """Post entries whose key is not posted yet; returns how many were.

    Called in a transaction, at the end of which the database checks each entry.
    """
    posted = 0
    for entry in entries:
        row = connection.execute(
            "INSERT INTO journal_entries"
            " (tenant, posting_key, kind, effective_on, description, reverses, postings_count)"
            " VALUES (%s, %s, %s, %s, %s, (SELECT entry_id FROM journal_entries"
            "   WHERE tenant = %s AND posting_key = %s), %s)"
            " ON CONFLICT (tenant, posting_key) DO NOTHING RETURNING entry_id",
            (
                tenant,
                entry.posting_key,
                entry.kind,
                entry.effective_on,
                entry.description,
                tenant,
                entry.reverses,
                len(entry.postings),
            ),
        ).fetchone()
        if row is not None:
            _insert_postings(connection, tenant, row[0], entry)
            posted += 1
    return posted


def _insert_postings(connection: Connection, tenant: str, entry_id: int, entry: Entry) -> None:
    account_ids = {
        code: _account(connection, tenant, entry, code)
        for code in sorted({posting.account for posting in entry.postings})
    }
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO postings (entry_id, ordinal, tenant, postings_count, account_id, currency,"
            " amount_minor, customer, invoice_id, line, service_from, service_until, gl_code)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    entry_id,
                    ordinal,
                    tenant,
                    len(entry.postings),
                    account_ids[posting.account],
                    entry.currency,
                    posting.amount_minor,
                    entry.customer,
                    posting.invoice_id,
                    posting.line,
                    posting.service_from,
                    posting.service_until,
                    posting.account,
                )
                for ordinal, posting in enumerate(entry.postings, 1)
            ],
        )


def _account(connection: Connection, tenant: str, entry: Entry, code: str) -> int:
    where = (tenant, entry.legal_entity, entry.currency, code)
    find = (
        "SELECT account_id FROM accounts"
        " WHERE tenant = %s AND legal_entity = %s AND currency = %s AND code = %s"
    )
    row = connection.execute(find, where).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO accounts (tenant, legal_entity, currency, code, kind)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (*where, account_kind(code)),
        )
        row = connection.execute(find, where).fetchone()
    assert row is not None  # noqa: S101 - it was inserted
    return int(row[0])


def locked_through(connection: Connection, tenant: str) -> date | None:
    """Return the last day of the books that is locked."""
    row = connection.execute(
        "SELECT max(locked_through) FROM accounting_locks WHERE tenant = %s", (tenant,)
    ).fetchone()
    return row[0] if row else None


def post_month_ends(connection: Connection, tenant: str, month: date) -> dict[str, int]:
    """Recognise what each month up to one has earned, and accrue what is invoiced after it.

    Returns how many entries of each kind were posted; none where all of them were before. Months
    whose books are locked get no accruals; what they earned is recognised on the first open day.
    """
    posted = {"recognition": 0, "accrual": 0}
    first = connection.execute(
        "SELECT min(service_from) FROM invoice_lines WHERE tenant = %s", (tenant,)
    ).fetchone()
    if first is None or first[0] is None:
        return posted
    locked = locked_through(connection, tenant)
    at = whole_month(first[0])
    while at <= month:
        for entry in recognition_entries(_advance_lines(connection, tenant, at), at, locked):
            with connection.transaction():
                posted["recognition"] += post(connection, tenant, [entry])
        if locked is None or last_day(at) > locked:
            for entry, opposite in accrual_entries(_later_lines(connection, tenant, at), at):
                with connection.transaction():
                    posted["accrual"] += post(connection, tenant, [entry])
                    post(connection, tenant, [opposite])
        at = add_months(at, 1)
    return posted


def _advance_lines(connection: Connection, tenant: str, month: date) -> list[IssuedLine]:
    """Return lines billed in advance that are in service in a month and not recognised in it."""
    return _lines(
        connection,
        "recognition",
        "l.kind = ANY(%(kinds)s) AND l.service_from < %(following)s"
        " AND l.service_until > %(month)s",
        {
            "tenant": tenant,
            "month": month,
            "following": add_months(month, 1),
            "kinds": list(ADVANCE_KINDS),
        },
    )


def _later_lines(connection: Connection, tenant: str, month: date) -> list[IssuedLine]:
    """Return lines of service that ended with a month, invoiced after it and not accrued."""
    return _lines(
        connection,
        "accrual",
        "l.kind = 'usage' AND l.service_until > %(month)s AND l.service_until <= %(following)s"
        " AND i.bill_on >= %(following)s",
        {"tenant": tenant, "month": month, "following": add_months(month, 1)},
    )


def _lines(
    connection: Connection, kind: str, where: str, bound: dict[str, Any]
) -> list[IssuedLine]:
    rows = connection.execute(
        f"SELECT {_LINE} FROM invoice_lines l JOIN invoices i USING (tenant, invoice_id)"
        f" WHERE tenant = %(tenant)s AND {where} AND NOT EXISTS ("
        "   SELECT FROM journal_entries e WHERE e.tenant = %(tenant)s"
        "   AND e.posting_key = %(prefix)s || i.invoice_id::text)"
        " ORDER BY i.number, l.ordinal",
        {**bound, "prefix": f"{kind}:{bound['month']:%Y-%m}:"},
    ).fetchall()
    return [IssuedLine(*row) for row in rows]


def lock_books(connection: Connection, tenant: str, through: date) -> None:
    """Refuse entries of days up to and including one from now on."""
    connection.execute(
        "INSERT INTO accounting_locks (tenant, locked_through) VALUES (%s, %s)"
        " ON CONFLICT DO NOTHING",
        (tenant, through),
    )
