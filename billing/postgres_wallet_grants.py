"""Wallets are made, filled, topped up and voided: each verb is one transaction, all or nothing.

Done again by the same key it is done once: a wallet or grant of the same terms is answered as it
is.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from billing.money import display, to_major
from billing.period import instant
from billing.postgres_facts import Connection
from billing.postgres_ledger import post
from billing.postgres_wallet_reports import find_grant, find_wallet
from billing.postgres_wallets import (
    Wallet,
    WalletWriter,
    ask_for_more,
    booking_day,
    end_grants,
    find_customer,
    lock_wallet,
    read_grants,
    record,
    schedule,
)
from billing.wallet import Grant, MovementKind, change_left
from billing.wallet import void as voided
from billing.wallet_entries import grant_entry
from billing.wallet_terms import GrantTerms, WalletError, WalletTerms, exact_minor


def create_wallet(writer: WalletWriter, terms: WalletTerms) -> dict[str, Any]:
    """Make a wallet; the same again is the same one.

    Raises:
        LookupError: there is no such customer.
        WalletError: there is one of that key, or of that customer and currency.
    """
    connection, tenant = writer.connection, writer.tenant
    with connection.transaction():
        customer = find_customer(connection, tenant, terms.customer)
        limits = _limits(terms)
        made = connection.execute(
            "INSERT INTO wallets VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING RETURNING true",
            (tenant, terms.key, terms.customer, customer.legal_entity, terms.currency,
             terms.tax_at, *limits, writer.at, writer.actor),
        ).fetchone()  # fmt: skip
        if made is not None:
            ask_for_more(connection, lock_wallet(connection, tenant, terms.key), writer.at)
        known = find_wallet(connection, tenant, terms.key)
        wanted = (terms.customer, terms.currency, terms.tax_at, *limits)
        names = ("customer", "currency", "tax_at", "below_minor", "top_up_minor")
        if known is None:
            raise WalletError(
                f"customer {terms.customer} has another wallet in {terms.currency} already"
            )
        if tuple(known[name] for name in names) != wanted:
            raise WalletError(f"there is a wallet {terms.key} with other terms")
        return known


def _limits(terms: WalletTerms) -> tuple[int | None, int | None]:
    more = terms.top_up
    if more is None:
        return None, None
    return exact_minor(more.below, terms.currency), exact_minor(more.amount, terms.currency)


def declare_wallet(writer: WalletWriter, terms: WalletTerms) -> str:
    """Make a wallet, or let one that is there ask for top-ups as declared; returns the outcome.

    Raises:
        LookupError, WalletError: as of `create_wallet`.
    """
    connection, tenant = writer.connection, writer.tenant
    with connection.transaction():
        before = find_wallet(connection, tenant, terms.key)
        if before is None:
            create_wallet(writer, terms)
            return "created"
        wallet, limits = lock_wallet(connection, tenant, terms.key), _limits(terms)
        if limits == (wallet.below_minor, wallet.top_up_minor):
            create_wallet(writer, terms)
            return "unchanged"
        connection.execute(
            "UPDATE wallets SET below_minor = %s, top_up_minor = %s"
            " WHERE tenant = %s AND wallet = %s",
            (*limits, tenant, terms.key),
        )
        create_wallet(writer, terms)
        ask_for_more(connection, lock_wallet(connection, tenant, terms.key), writer.at)
        return "changed"


def grant(writer: WalletWriter, key: str, terms: GrantTerms) -> dict[str, Any]:
    """Put credit into a wallet that somebody paid for, or that is given.

    Raises:
        LookupError: there is no such wallet, or invoice line.
        WalletError: its key or payment was used for another, or the line does not pay for it.
    """
    with writer.connection.transaction():
        wallet = lock_wallet(writer.connection, writer.tenant, key)
        return _grant(writer, wallet, terms, "grant")


def top_up(
    writer: WalletWriter, key: str, payment: str, expires_at: datetime | date | None = None
) -> dict[str, Any]:
    """Grant the top-up that a wallet asks for, now that it is paid; the same payment again, once.

    Raises:
        LookupError: there is no such wallet.
        WalletError: it asks for none, or the payment was used for another grant.
    """
    connection, tenant = writer.connection, writer.tenant
    with connection.transaction():
        wallet = lock_wallet(connection, tenant, key)
        row = connection.execute(
            "SELECT t.number, t.amount_minor, g.key FROM wallet_top_ups t LEFT JOIN wallet_grants g"
            "   ON g.tenant = t.tenant AND g.wallet = t.wallet AND g.number = t.grant_number"
            " WHERE t.tenant = %s AND t.wallet = %s AND (t.state = 'pending' OR g.payment = %s)"
            " ORDER BY t.state = 'pending' LIMIT 1",
            (tenant, key, payment),
        ).fetchone()
        if row is None:
            raise WalletError(f"wallet {key} asks for no top-up")
        number, amount_minor, granted = row
        if granted is not None:
            known = find_grant(connection, tenant, key, granted)
            assert known is not None  # noqa: S101 - grants stay
            return known
        terms = GrantTerms(
            key=f"top-up-{number}",
            amount=to_major(amount_minor, wallet.currency),
            payment=payment,
            expires_at=expires_at,
            reason="topped up",
        )
        found = _grant(writer, wallet, terms, "top_up")
        connection.execute(
            "UPDATE wallet_top_ups SET state = 'granted', grant_number = %s"
            " WHERE tenant = %s AND wallet = %s AND number = %s",
            (found["number"], tenant, key, number),
        )
        ask_for_more(connection, wallet, writer.at)
        return found


@dataclass(frozen=True, slots=True)
class _New:
    """A grant's terms in minor units and instants."""

    granted_minor: int
    cost_minor: int
    effective_at: datetime
    expires_at: datetime | None


def _grant(
    writer: WalletWriter, wallet: Wallet, terms: GrantTerms, kind: MovementKind
) -> dict[str, Any]:
    connection, tenant = writer.connection, writer.tenant
    new = _new(writer, wallet, terms)
    known = find_grant(connection, tenant, wallet.key, terms.key)
    if known is not None:
        _check_same(known, terms, new)
        return known
    if new.expires_at is not None and new.expires_at <= new.effective_at:
        raise WalletError(f"it expires before it is in force, at {new.effective_at.isoformat()}")
    invoice_id, funding = _funding(connection, wallet, terms, new.cost_minor)
    number = _insert_grant(writer, wallet, terms, new, invoice_id)
    made = Grant(number, terms.kind, new.granted_minor, new.cost_minor, new.effective_at)
    movement = change_left(made, kind, new.granted_minor)
    record(connection, wallet, [movement], writer.cause(terms.reason))
    if new.cost_minor:
        on = booking_day(connection, tenant, writer.at)
        entry = grant_entry(
            wallet=wallet.key, number=number, cost_minor=new.cost_minor, funding=funding, on=on,
            whose=wallet.whose,
        )  # fmt: skip
        post(connection, tenant, [entry])
    schedule(connection, wallet, [new.expires_at])
    found = find_grant(connection, tenant, wallet.key, terms.key)
    assert found is not None  # noqa: S101 - it was just written
    return found


def _new(writer: WalletWriter, wallet: Wallet, terms: GrantTerms) -> _New:
    zone = find_customer(writer.connection, writer.tenant, wallet.customer).zone
    granted = exact_minor(terms.amount, wallet.currency)
    cost = 0 if terms.kind == "promotional" else granted
    if terms.cost is not None:
        cost = exact_minor(terms.cost, wallet.currency)
    since = writer.at if terms.effective_at is None else instant(terms.effective_at, zone)
    until = None if terms.expires_at is None else instant(terms.expires_at, zone)
    return _New(granted, cost, since.astimezone(UTC), until and until.astimezone(UTC))


def _check_same(known: dict[str, Any], terms: GrantTerms, new: _New) -> None:
    wanted = {
        "kind": terms.kind,
        "granted_minor": new.granted_minor,
        "cost_minor": new.cost_minor,
        "priority": terms.priority,
        "scope": _scope_content(terms),
        "payment": terms.payment,
        "invoice": None if terms.paid_by is None else terms.paid_by.invoice,
        "line": None if terms.paid_by is None else terms.paid_by.line,
        "expires_at": None if new.expires_at is None else new.expires_at.isoformat(),
    }
    if terms.effective_at is not None:
        wanted["effective_at"] = new.effective_at.isoformat()
    other = sorted(name for name, value in wanted.items() if known[name] != value)
    if other:
        raise WalletError(f"there is a grant {terms.key} with another {', '.join(other)}")


def _scope_content(terms: GrantTerms) -> dict[str, list[str]]:
    named = terms.scope.model_dump(exclude_defaults=True)
    return {name: sorted(values) for name, values in named.items()}


def _funding(
    connection: Connection, wallet: Wallet, terms: GrantTerms, cost_minor: int
) -> tuple[UUID | None, str]:
    """Return the invoice that sold the credit, if one did, and the account of what was paid.

    A line that sold credit has made its price revenue, and the customer owe it. The grant turns the
    revenue into what is owed to the customer. What was paid with credit, or paid for other credit,
    pays for none.
    """
    if terms.paid_by is None:
        return None, "cash"
    line = connection.execute(
        "SELECT i.invoice_id, l.product, l.kind, l.amount_minor"
        "   + coalesce((SELECT sum(m.left_minor) FROM wallet_movements m WHERE"
        "       m.invoice_id = i.invoice_id AND m.line = l.ordinal AND m.kind = 'draw'), 0)"
        "   - coalesce((SELECT sum(g.cost_minor) FROM wallet_grants g"
        "       WHERE g.invoice_id = i.invoice_id AND g.line = l.ordinal), 0)"
        " FROM invoices i JOIN invoice_lines l USING (tenant, invoice_id)"
        " WHERE i.tenant = %s AND i.number = %s AND i.document_type = 'invoice'"
        " AND i.legal_entity = %s AND i.customer = %s AND i.currency = %s AND l.ordinal = %s",
        (wallet.tenant, terms.paid_by.invoice, *wallet.whose, terms.paid_by.line),
    ).fetchone()
    if line is None:
        raise LookupError(
            f"there is no line {terms.paid_by.line} of an invoice {terms.paid_by.invoice} of"
            f" customer {wallet.customer} in {wallet.currency}"
        )
    invoice_id, product, kind, open_minor = line
    if kind == "advance":
        raise WalletError("that line sells time in advance, which is earned day by day, not credit")
    if open_minor < cost_minor:
        raise WalletError(
            f"of that line {display(int(open_minor), wallet.currency)} can pay for credit"
        )
    return invoice_id, f"revenue:{product}"


def _insert_grant(
    writer: WalletWriter, wallet: Wallet, terms: GrantTerms, new: _New, invoice_id: UUID | None
) -> int:
    try:
        row = writer.connection.execute(
            "INSERT INTO wallet_grants (tenant, wallet, number, key, kind, priority, granted_minor,"
            " cost_minor, effective_at, expires_at, scope, payment, invoice_id, line, granted_at,"
            " actor, reason) SELECT %(tenant)s, %(wallet)s, coalesce(max(number), 0) + 1, %(key)s,"
            " %(kind)s, %(priority)s, %(granted)s, %(cost)s, %(effective_at)s, %(expires_at)s,"
            " %(scope)s, %(payment)s, %(invoice)s, %(line)s, %(at)s, %(actor)s, %(reason)s"
            " FROM wallet_grants WHERE tenant = %(tenant)s AND wallet = %(wallet)s"
            " RETURNING number",
            {
                "tenant": wallet.tenant, "wallet": wallet.key, "key": terms.key,
                "kind": terms.kind, "priority": terms.priority, "granted": new.granted_minor,
                "cost": new.cost_minor, "effective_at": new.effective_at,
                "expires_at": new.expires_at, "scope": Jsonb(_scope_content(terms)),
                "payment": terms.payment, "invoice": invoice_id,
                "line": None if terms.paid_by is None else terms.paid_by.line,
                "at": writer.at, "actor": writer.actor, "reason": terms.reason,
            },
        ).fetchone()  # fmt: skip
    except UniqueViolation as error:
        raise WalletError(f"payment {terms.payment} has paid for another grant") from error
    assert row is not None  # noqa: S101 - RETURNING
    return int(row[0])


def void(writer: WalletWriter, key: str, name: str, reason: str) -> dict[str, Any]:
    """Take back what is left of a grant; what was paid for it goes back where it came from.

    Raises:
        LookupError: there is no such wallet or grant.
        WalletError: some of it is held or settled.
    """
    connection, tenant = writer.connection, writer.tenant
    with connection.transaction():
        wallet = lock_wallet(connection, tenant, key)
        known = find_grant(connection, tenant, key, name)
        if known is None:
            raise LookupError(f"wallet {key} has no grant {name}")
        own = read_grants(connection, tenant, key)[known["number"]]
        if own.free_minor < own.left_minor:
            busy = display(own.left_minor - own.free_minor, wallet.currency)
            raise WalletError(
                f"{busy} {wallet.currency} of it is held or settled: wait, or release"
            )
        account = "cash" if known["product"] is None else f"revenue:{known['product']}"
        end_grants(connection, wallet, voided(own), writer.cause(reason), account)
        ask_for_more(connection, wallet, writer.at)
        found = find_grant(connection, tenant, key, name)
        assert found is not None  # noqa: S101 - grants stay
        return found
