"""Issues a draft in Postgres: lines, number, credit drawn, positions, states, entry, or nothing.

Differences are taken from positions that are locked here, so whatever ran before is accounted for.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from billing.charge_period import Piece
from billing.document import Document, Draft, Rated, lines_of, number_document
from billing.evidence import positions_content
from billing.ledger import apply_credit, document_entry, open_day
from billing.postgres_facts import Connection
from billing.postgres_ledger import locked_through, post
from billing.postgres_wallet_draws import open_credit
from billing.price_book import content_hash
from billing.rating import LineKey
from billing.settlement import Line, Position
from billing.wallet import Movement
from billing.wallet_draws import drawn_minor, split_owed
from pipelines.usage import Cut


def issue(connection: Connection, run_id: int, cut: Cut, draft: Draft) -> list[Document]:
    """Issue a draft; called in a transaction, which holds all of it together."""
    positions = _lock_positions(connection, cut.tenant, [*draft.due, *draft.corrected])
    documents = []
    found = lines_of(draft, positions, cut)
    credit = open_credit(connection, cut, draft, found, positions)
    for document_type, lines in found.items():
        last = _last_of_series(connection, cut.tenant, draft, document_type)
        document = number_document(draft, document_type, lines, last, cut.tenant)
        movements = credit.draw_for(document) if credit else ()
        _insert_document(connection, run_id, cut, document, drawn_minor(movements))
        _insert_inputs(connection, cut.tenant, document, draft, positions)
        _move_positions(connection, cut.tenant, document.lines)
        if credit:
            credit.record(connection, document, movements)
        _book(connection, cut.tenant, document, movements)
        documents.append(document)
    if credit:
        credit.close(connection)
    _mark_billed(connection, run_id, cut, draft)
    return documents


def _lock_positions(
    connection: Connection, tenant: str, periods: Sequence[Rated]
) -> dict[LineKey, Position]:
    keys = [(*rated.inputs.billed.charge_key, rated.inputs.billed.period.starts_at)
            for rated in periods]  # fmt: skip
    rows = connection.execute(
        "SELECT subscription, item, charge, dimensions, piece_start, piece_end, period_start,"
        " quantity, amount_minor FROM line_positions WHERE tenant = %s"
        " AND (subscription, item, charge, period_start) IN ("
        "   SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[]))"
        " ORDER BY subscription, item, charge, period_start, piece_start, dimensions FOR UPDATE",
        (tenant, *([key[n] for key in keys] for n in range(4))),
    ).fetchall()
    return {
        LineKey(
            subscription, item, charge, tuple(sorted(values.items())), piece_start, piece_end, start
        ): Position(quantity, amount_minor)
        for (
            subscription,
            item,
            charge,
            values,
            piece_start,
            piece_end,
            start,
            quantity,
            amount_minor,
        ) in rows
    }


def _last_of_series(
    connection: Connection, tenant: str, draft: Draft, document_type: str
) -> tuple[int, date] | None:
    return connection.execute(
        "SELECT last_sequence, last_issued_on FROM invoice_series WHERE tenant = %s"
        " AND legal_entity = %s AND document_type = %s AND year = %s FOR UPDATE",
        (tenant, draft.customer.legal_entity, document_type, draft.bill_on.year),
    ).fetchone()


def _insert_document(
    connection: Connection, run_id: int, cut: Cut, document: Document, wallet_minor: int
) -> None:
    series = (cut.tenant, document.legal_entity, document.document_type, document.bill_on.year)
    connection.execute(
        "INSERT INTO invoice_series VALUES (%s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (tenant, legal_entity, document_type, year) DO UPDATE SET"
        " last_sequence = excluded.last_sequence, last_issued_on = excluded.last_issued_on",
        (*series, document.sequence, document.issued_on),
    )
    is_invoice = document.document_type == "invoice"
    due_minor = document.total_minor - wallet_minor if is_invoice else 0
    connection.execute(
        "INSERT INTO invoices (tenant, legal_entity, document_type, year, sequence, invoice_id,"
        " number, customer, currency, bill_on, issued_on, due_on, total_minor, wallet_minor,"
        " amount_due_minor, state, run_id, cut_number, lines_count)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            *series,
            document.sequence,
            document.invoice_id,
            document.number,
            document.customer,
            document.currency,
            document.bill_on,
            document.issued_on,
            document.due_on,
            document.total_minor,
            wallet_minor,
            due_minor,
            "open" if due_minor else "paid",
            run_id,
            cut.number,
            len(document.lines),
        ),
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO invoice_lines VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
            " %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (document.invoice_id, ordinal, cut.tenant, len(document.lines), *_line_row(line))
                for ordinal, line in enumerate(document.lines, 1)
            ],
        )


def _line_row(line: Line) -> tuple[Any, ...]:
    target, key = line.target, line.target.key
    return (
        key.subscription,
        key.item,
        key.charge,
        Jsonb(dict(key.dimensions)),
        key.piece_start,
        key.piece_end,
        line.kind,
        line.cause,
        key.period_start,
        target.service_from,
        target.service_until,
        target.product,
        target.description,
        line.quantity,
        target.unit,
        line.amount_minor,
        target.price_book,
        target.book_version,
        Jsonb(list(line.trace)),
    )


def _insert_inputs(
    connection: Connection,
    tenant: str,
    document: Document,
    draft: Draft,
    positions: dict[LineKey, Position],
) -> None:
    inputs = {**draft.evidence, "positions": positions_content(positions)}
    hashed = {role: (content_hash(content), content) for role, content in inputs.items()}
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO rating_inputs VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [(tenant, digest, Jsonb(content)) for digest, content in sorted(
                hashed.values(), key=lambda pair: pair[0])],
        )  # fmt: skip
        cursor.executemany(
            "INSERT INTO invoice_inputs VALUES (%s, %s, %s, %s)",
            [(tenant, document.invoice_id, role, digest) for role, (digest, _) in hashed.items()],
        )


def _move_positions(connection: Connection, tenant: str, lines: Iterable[Line]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO line_positions AS p VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (tenant, subscription, item, charge, period_start, piece_start,"
            " piece_end, dimensions) DO UPDATE SET quantity = p.quantity + excluded.quantity,"
            " amount_minor = p.amount_minor + excluded.amount_minor",
            [
                (
                    tenant,
                    *_line_row(line)[:6],
                    line.target.key.period_start,
                    line.quantity,
                    line.amount_minor,
                )
                for line in lines
            ],
        )


def _book(
    connection: Connection, tenant: str, document: Document, movements: Sequence[Movement]
) -> None:
    applied: list[tuple[UUID, int]] = []
    if document.document_type == "credit_note":
        rest_minor = document.total_minor + drawn_minor(movements)
        applied = apply_credit(rest_minor, _open_invoices(connection, tenant, document))
    for invoice_id, part_minor in applied:
        connection.execute(
            "INSERT INTO credit_applications VALUES (%s, %s, %s, %s)",
            (tenant, document.invoice_id, invoice_id, part_minor),
        )
        connection.execute(
            "UPDATE invoices SET amount_due_minor = amount_due_minor - %(part)s, state = CASE"
            " WHEN amount_due_minor = %(part)s THEN 'paid' ELSE state END"
            " WHERE tenant = %(tenant)s AND invoice_id = %(invoice)s",
            {"part": part_minor, "tenant": tenant, "invoice": invoice_id},
        )
    day = open_day(document.bill_on, locked_through(connection, tenant))
    applied_minor = sum(part for _, part in applied)
    entry = document_entry(document, applied_minor, day, split_owed(movements))
    if entry is not None:
        post(connection, tenant, [entry])


def _open_invoices(
    connection: Connection, tenant: str, document: Document
) -> list[tuple[UUID, int]]:
    """Return the customer's open invoices, first those that billed what the note corrects."""
    keys = [line.target.key for line in document.lines]
    return connection.execute(
        "SELECT i.invoice_id, i.amount_due_minor FROM invoices i WHERE i.tenant = %s"
        " AND i.customer = %s AND i.currency = %s AND i.legal_entity = %s AND i.state = 'open'"
        " ORDER BY NOT EXISTS (SELECT FROM invoice_lines l JOIN unnest(%s::text[], %s::text[],"
        "   %s::text[], %s::timestamptz[]) AS k (subscription, item, charge, period_start)"
        "   USING (subscription, item, charge, period_start) WHERE l.invoice_id = i.invoice_id),"
        " i.issued_on, i.number FOR UPDATE OF i",
        (
            tenant,
            document.customer,
            document.currency,
            document.legal_entity,
            [key.subscription for key in keys],
            [key.item for key in keys],
            [key.charge for key in keys],
            [key.period_start for key in keys],
        ),
    ).fetchall()


def _mark_billed(connection: Connection, run_id: int, cut: Cut, draft: Draft) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO billed_periods VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [(cut.tenant, *_period_row(rated), run_id) for rated in draft.due],
        )
        cursor.executemany(
            "INSERT INTO rating_states VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    cut.tenant,
                    *rated.inputs.billed.charge_key,
                    rated.inputs.billed.period.starts_at,
                    cut.number,
                    Jsonb(dict(rated.state_in)),
                    Jsonb(dict(rated.state_out)),
                )
                for rated in (*draft.due, *draft.corrected)
            ],
        )
        cursor.executemany(
            "INSERT INTO settled_cuts VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [(cut.tenant, subscription, cut.number) for subscription in draft.settles],
        )


def _period_row(rated: Rated) -> tuple[Any, ...]:
    billed = rated.inputs.billed
    period = billed.period
    return (
        *billed.charge_key,
        period.starts_at,
        period.ends_at,
        period.starts_on,
        period.ends_on,
        billed.price_book,
        Jsonb([_piece_row(piece) for piece in billed.pieces]),
    )


def _piece_row(piece: Piece) -> dict[str, Any]:
    return {
        "starts_on": piece.starts_on.isoformat(),
        "ends_on": piece.ends_on.isoformat(),
        "starts_at": piece.starts_at.isoformat(),
        "ends_at": piece.ends_at.isoformat(),
        "version": piece.version,
    }
