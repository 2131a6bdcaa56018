"""Draws from a customer's wallet in the transaction that issues documents, and nowhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from billing.charge_period import ChargeKey
from billing.document import Document, Draft
from billing.postgres_clock import read_clock
from billing.postgres_facts import Connection
from billing.postgres_wallets import (
    Cause,
    Wallet,
    ask_for_more,
    lock_wallet_of,
    read_grants,
    read_parts,
    record,
    schedule_ended,
)
from billing.rating import LineKey
from billing.settlement import Line, Position
from billing.wallet import Movement, Use, invoice
from billing.wallet_draws import Draws, UsedLine
from pipelines.usage import Cut

# A hold is on a document once one bills what it is for, through when that was used or later.
_BILLED_HOLDS = """
    SELECT hold FROM wallet_holds h WHERE tenant = %s AND wallet = %s AND state = 'settled'
    AND EXISTS (SELECT FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[])
        AS billed (charge, product, meter, ends_at)
        WHERE h.used_at < billed.ends_at AND (h.charge IS NULL OR h.charge = billed.charge)
        AND (h.product IS NULL OR h.product = billed.product)
        AND (h.meter IS NULL OR h.meter = billed.meter))
    ORDER BY hold
"""
_DRAWN = """
    SELECT l.subscription, l.item, l.charge, l.dimensions, l.piece_start, l.piece_end,
        l.period_start, m.number, -sum(m.left_minor)::bigint
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[])
        AS k (subscription, item, charge, period_start)
    JOIN invoice_lines l USING (subscription, item, charge, period_start)
    JOIN wallet_movements m ON m.invoice_id = l.invoice_id AND m.line = l.ordinal
    WHERE l.tenant = %s AND m.wallet = %s AND m.kind IN ('draw', 'restore')
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""
_BILLED = """
    SELECT coalesce(sum(CASE document_type WHEN 'invoice' THEN 1 ELSE -1 END * total_minor), 0)
    FROM invoices WHERE tenant = %s AND legal_entity = %s AND customer = %s AND currency = %s
"""


@dataclass(slots=True)
class Credit:
    """What the documents of one transaction draw from a wallet, which is locked."""

    wallet: Wallet
    at: datetime
    draws: Draws
    meters: Mapping[ChargeKey, str | None]

    def draw_for(self, document: Document) -> Sequence[Movement]:
        """Return the movements of a document that is about to be issued."""
        is_invoice = document.document_type == "invoice"
        lines = [self._used(n, line) for n, line in enumerate(document.lines, 1)]
        return self.draws.of(lines, document.total_minor if is_invoice else 0)

    def _used(self, ordinal: int, line: Line) -> UsedLine:
        """Return a line as it is used: in advance when it starts, or over its days."""
        target, key = line.target, line.target.key
        until = key.piece_end if target.kind == "usage" else None
        meter = self.meters.get((key.subscription, key.item, key.charge))
        use = Use(key.piece_start, until, key.charge, target.product, meter)
        return UsedLine(ordinal, key, line.amount_minor, use)

    def record(
        self, connection: Connection, document: Document, movements: Sequence[Movement]
    ) -> None:
        """Record the movements of a document that is issued."""
        reason = f"{document.document_type.replace('_', ' ')} {document.number}"
        cause = Cause("bill run", self.at, reason)
        record(connection, self.wallet, movements, cause, invoice=document.invoice_id)

    def close(self, connection: Connection) -> None:
        """Let what was restored to grants that are over expire again; ask for more where needed."""
        schedule_ended(connection, self.wallet, self.at)
        ask_for_more(connection, self.wallet, self.at)


def open_credit(
    connection: Connection,
    cut: Cut,
    draft: Draft,
    lines: Mapping[str, Sequence[Line]],
    positions: Mapping[LineKey, Position],
) -> Credit | None:
    """Lock the wallet that a draft's customer has in its currency, and read what it may draw."""
    customer = draft.customer
    whose = (customer.legal_entity, customer.key, customer.currency)
    wallet = lock_wallet_of(connection, cut.tenant, whose)
    if wallet is None:
        return None
    at = read_clock(connection, cut.tenant, cut.at).at
    _invoice_holds(connection, wallet, Cause("bill run", at, f"cut {cut.number}"), draft)
    draws = Draws(
        read_grants(connection, cut.tenant, wallet.key),
        _billed_minor(connection, wallet),
        {key: position.amount_minor for key, position in positions.items()},
        _drawn(
            connection, wallet, [key for own in lines.values() for key in _known(own, positions)]
        ),
    )
    meters = {
        rated.inputs.billed.charge_key: rated.inputs.billed.pieces[0].charge.meter
        for rated in (*draft.due, *draft.corrected)
    }
    return Credit(wallet, at, draws, meters)


def _invoice_holds(connection: Connection, wallet: Wallet, cause: Cause, draft: Draft) -> None:
    """Free what was settled and is on these documents: they draw for it, or it was not used."""
    periods = [
        rated.inputs.billed for rated in draft.due if rated.inputs.billed.timing != "advance"
    ]
    charges = [billed.pieces[0].charge for billed in periods]
    rows = connection.execute(
        _BILLED_HOLDS,
        (
            wallet.tenant,
            wallet.key,
            [charge.key for charge in charges],
            [charge.revenue_product for charge in charges],
            [charge.meter for charge in charges],
            [billed.period.ends_at for billed in periods],
        ),
    ).fetchall()
    for (hold,) in rows:
        connection.execute(
            "UPDATE wallet_holds SET state = 'invoiced'"
            " WHERE tenant = %s AND wallet = %s AND hold = %s",
            (wallet.tenant, wallet.key, hold),
        )
        movements = invoice(read_parts(connection, wallet, hold))
        record(connection, wallet, movements, cause, hold=hold)


def _billed_minor(connection: Connection, wallet: Wallet) -> int:
    row = connection.execute(_BILLED, (wallet.tenant, *wallet.whose)).fetchone()
    assert row is not None  # noqa: S101 - a sum
    return int(row[0])


def _known(lines: Sequence[Line], positions: Mapping[LineKey, Position]) -> set[LineKey]:
    """Return the keys of lines that were billed before."""
    return {line.target.key for line in lines} & positions.keys()


def _drawn(
    connection: Connection, wallet: Wallet, keys: Sequence[LineKey]
) -> dict[LineKey, dict[int, int]]:
    """Return what was drawn for each key by each grant."""
    found: dict[LineKey, dict[int, int]] = {}
    periods = sorted({(key.subscription, key.item, key.charge, key.period_start) for key in keys})
    if periods:
        bound = (*map(list, zip(*periods, strict=True)), wallet.tenant, wallet.key)
        for *key, number, drawn in connection.execute(_DRAWN, bound).fetchall():
            subscription, item, charge, dimensions, piece_start, piece_end, period_start = key
            values = tuple(sorted(dimensions.items()))
            own = LineKey(subscription, item, charge, values, piece_start, piece_end, period_start)
            found.setdefault(own, {})[number] = drawn
    return found
