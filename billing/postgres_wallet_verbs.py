"""What is done to wallets: each verb is one transaction that locks its wallet, all or nothing.

Done again by the same key it is done once: a grant or hold of the same terms is answered as it is.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from billing.money import display
from billing.postgres_facts import Connection
from billing.postgres_ledger import post
from billing.postgres_wallet_reports import find_grant, find_hold, find_wallet
from billing.postgres_wallets import (
    Cause,
    Wallet,
    ask_for_more,
    booking_day,
    end_grants,
    lock_wallet,
    read_grants,
    read_parts,
    record,
    schedule,
)
from billing.wallet import (
    Grant,
    NotEnoughError,
    change_left,
)
from billing.wallet import (
    hold as held,
)
from billing.wallet import (
    release as released,
)
from billing.wallet import (
    settle as settled,
)
from billing.wallet import (
    void as voided,
)
from billing.wallet_entries import grant_entry
from billing.wallet_terms import GrantTerms, HoldTerms, Settlement, WalletTerms, exact_minor


class WalletError(Exception):
    """Something cannot be done to a wallet."""


@dataclass(frozen=True, slots=True)
class WalletWriter:
    """Who writes, on which connection, and what time it is for the tenant."""

    connection: Connection
    tenant: str
    actor: str
    at: datetime

    def cause(self, reason: str) -> Cause:
        """Return who does something now, and why."""
        return Cause(self.actor, self.at, reason)


def create_wallet(writer: WalletWriter, terms: WalletTerms) -> dict[str, Any]:
    """Make a wallet; the same again is the same one.

    Raises:
        LookupError: there is no such customer.
        WalletError: there is one of that key, or of that customer and currency.
    """
    connection, tenant = writer.connection, writer.tenant
    with connection.transaction():
        customer = connection.execute(
            "SELECT coalesce(content->>'legal_entity', 'main') FROM customer_versions"
            " WHERE tenant = %s AND customer = %s ORDER BY version DESC LIMIT 1",
            (tenant, terms.customer),
        ).fetchone()
        if customer is None:
            raise LookupError(f"there is no customer {terms.customer}")
        limits: tuple[int | None, int | None] = (None, None)
        if terms.top_up is not None:
            more = terms.top_up
            limits = (_minor(more.below, terms.currency), _minor(more.amount, terms.currency))
        made = connection.execute(
            "INSERT INTO wallets VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING RETURNING true",
            (tenant, terms.key, terms.customer, customer[0], terms.currency, terms.tax_at,
             *limits, writer.at, writer.actor),
        ).fetchone()  # fmt: skip
        if made is not None:
            ask_for_more(connection, lock_wallet(connection, tenant, terms.key), writer.at)
        known = find_wallet(connection, tenant, terms.key)
        wanted = (terms.customer, terms.currency, terms.tax_at, *limits)
        names = ("customer", "currency", "tax_at", "below_minor", "top_up_minor")
        if known is None or tuple(known[name] for name in names) != wanted:
            raise WalletError(
                f"there is a wallet {terms.key}, or one of customer {terms.customer} in"
                f" {terms.currency}, with other terms"
            )
        return known


def grant(writer: WalletWriter, key: str, terms: GrantTerms) -> dict[str, Any]:
    """Put credit into a wallet that somebody paid for, or that is given.

    Raises:
        LookupError: there is no such wallet, or invoice line.
        WalletError: its key or payment was used for another, or the line does not pay for it.
    """
    connection, tenant = writer.connection, writer.tenant
    with connection.transaction():
        wallet = lock_wallet(connection, tenant, key)
        granted = _minor(terms.amount, wallet.currency)
        cost = _cost(terms, wallet, granted)
        known = find_grant(connection, tenant, key, terms.key)
        if known is not None:
            _check_same(known, terms, granted, cost)
            return known
        effective_at = terms.effective_at or writer.at
        if terms.expires_at is not None and terms.expires_at <= effective_at:
            raise WalletError(f"it expires before it is in force, at {effective_at.isoformat()}")
        invoice_id, funding = _funding(connection, wallet, terms, cost)
        number = _insert_grant(writer, wallet, terms, (granted, cost), effective_at, invoice_id)
        made = Grant(number, terms.kind, granted, cost, effective_at)
        movement = change_left(made, "top_up" if terms.top_up else "grant", granted)
        cause = writer.cause(terms.reason)
        record(connection, wallet, [movement], cause)
        if cost:
            on = booking_day(connection, tenant, writer.at)
            entry = grant_entry(
                wallet=key, number=number, cost_minor=cost, funding=funding, on=on,
                whose=wallet.whose,
            )  # fmt: skip
            post(connection, tenant, [entry])
        if terms.top_up:
            _answer_top_up(connection, wallet, number)
        schedule(connection, wallet, [terms.expires_at])
        ask_for_more(connection, wallet, writer.at)
        found = find_grant(connection, tenant, key, terms.key)
        assert found is not None  # noqa: S101 - it was just written
        return found


def _cost(terms: GrantTerms, wallet: Wallet, granted_minor: int) -> int:
    if terms.kind == "promotional":
        return 0
    return granted_minor if terms.cost is None else _minor(terms.cost, wallet.currency)


def _check_same(known: dict[str, Any], terms: GrantTerms, granted: int, cost: int) -> None:
    wanted = {
        "kind": terms.kind,
        "granted_minor": granted,
        "cost_minor": cost,
        "priority": terms.priority,
        "scope": _scope_content(terms),
        "payment": terms.payment,
        "invoice": None if terms.paid_by is None else terms.paid_by.invoice,
        "line": None if terms.paid_by is None else terms.paid_by.line,
        "expires_at": None if terms.expires_at is None else terms.expires_at.isoformat(),
    }
    if terms.effective_at is not None:
        wanted["effective_at"] = terms.effective_at.isoformat()
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
    writer: WalletWriter,
    wallet: Wallet,
    terms: GrantTerms,
    worth: tuple[int, int],
    effective_at: datetime,
    invoice_id: UUID | None,
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
                "kind": terms.kind, "priority": terms.priority, "granted": worth[0],
                "cost": worth[1], "effective_at": effective_at, "expires_at": terms.expires_at,
                "scope": Jsonb(_scope_content(terms)), "payment": terms.payment,
                "invoice": invoice_id,
                "line": None if terms.paid_by is None else terms.paid_by.line,
                "at": writer.at, "actor": writer.actor, "reason": terms.reason,
            },
        ).fetchone()  # fmt: skip
    except UniqueViolation as error:
        raise WalletError(f"payment {terms.payment} has paid for another grant") from error
    assert row is not None  # noqa: S101 - RETURNING
    return int(row[0])


def _answer_top_up(connection: Connection, wallet: Wallet, number: int) -> None:
    answered = connection.execute(
        "UPDATE wallet_top_ups SET state = 'granted', grant_number = %s"
        " WHERE tenant = %s AND wallet = %s AND state = 'pending' RETURNING true",
        (number, wallet.tenant, wallet.key),
    ).fetchone()
    if answered is None:
        raise WalletError(f"wallet {wallet.key} asks for no top-up")


def hold(writer: WalletWriter, key: str, terms: HoldTerms) -> dict[str, Any]:
    """Reserve credit for a use that may come, all of it or nothing.

    Raises:
        LookupError: there is no such wallet.
        WalletError: there is less available, or another hold of that key.
    """
    connection, tenant = writer.connection, writer.tenant
    with connection.transaction():
        wallet = lock_wallet(connection, tenant, key)
        amount = _minor(terms.amount, wallet.currency)
        wanted = (amount, terms.charge, terms.product, terms.meter)
        known = find_hold(connection, tenant, key, terms.key)
        if known is not None:
            if tuple(known[n] for n in ("amount_minor", "charge", "product", "meter")) != wanted:
                raise WalletError(f"there is a hold {terms.key} for something else")
            return known
        if terms.expires_at is not None and terms.expires_at <= writer.at:
            raise WalletError(f"it expires before it is made, at {writer.at.isoformat()}")
        grants = read_grants(connection, tenant, key, "left_minor > held_minor + settled_minor")
        try:
            movements = held(list(grants.values()), amount, terms.use_at(writer.at))
        except NotEnoughError as error:
            available = display(error.available_minor, wallet.currency)
            raise WalletError(f"{available} {wallet.currency} of credit is available") from error
        connection.execute(
            "INSERT INTO wallet_holds (tenant, wallet, hold, amount_minor, charge, product, meter,"
            " held_at, expires_at, actor) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (tenant, key, terms.key, *wanted, writer.at, terms.expires_at, writer.actor),
        )
        record(connection, wallet, movements, writer.cause("held"), hold=terms.key)
        schedule(connection, wallet, [terms.expires_at])
        ask_for_more(connection, wallet, writer.at)
        return _hold_of(writer, key, terms.key)


def settle(writer: WalletWriter, key: str, name: str, settlement: Settlement) -> dict[str, Any]:
    """Say what was used of a hold, and by which events; the rest of it is free again.

    Raises:
        LookupError: there is no such wallet or hold.
        WalletError: it is not open any more, it held less, or an event was settled before.
    """
    connection, tenant = writer.connection, writer.tenant
    with connection.transaction():
        wallet = lock_wallet(connection, tenant, key)
        amount = _minor(settlement.amount, wallet.currency)
        known = _hold_of(writer, key, name)
        if known["state"] in ("settled", "invoiced") and known["settled_minor"] == amount:
            return known
        _check_open(writer, known)
        try:
            movements = settled(read_parts(connection, wallet, name), amount)
        except NotEnoughError as error:
            held_minor = display(error.available_minor, wallet.currency)
            raise WalletError(f"{held_minor} {wallet.currency} is held, no more") from error
        used_at = settlement.used_at or writer.at
        connection.execute(
            "UPDATE wallet_holds SET state = 'settled', settled_minor = %s, used_at = %s"
            " WHERE tenant = %s AND wallet = %s AND hold = %s",
            (amount, used_at, tenant, key, name),
        )
        _name_events(writer, key, name, settlement)
        record(connection, wallet, movements, writer.cause("settled"), hold=name)
        return _hold_of(writer, key, name)


def _name_events(writer: WalletWriter, key: str, name: str, settlement: Settlement) -> None:
    found = {(event.source, event.id) for event in settlement.events}
    try:
        writer.connection.execute(
            "INSERT INTO wallet_events (tenant, wallet, source, id, hold)"
            " SELECT %s, %s, e.source, e.id, %s FROM unnest(%s::text[], %s::text[]) e (source, id)",
            (writer.tenant, key, name, *map(list, zip(*sorted(found), strict=True))),
        )
    except UniqueViolation as error:
        raise WalletError("one of these events was settled before, for another hold") from error


def release(writer: WalletWriter, key: str, name: str) -> dict[str, Any]:
    """Free what a hold reserves.

    Raises:
        LookupError: there is no such wallet or hold.
        WalletError: it is settled or has expired.
    """
    connection, tenant = writer.connection, writer.tenant
    with connection.transaction():
        wallet = lock_wallet(connection, tenant, key)
        known = _hold_of(writer, key, name)
        if known["state"] == "released":
            return known
        _check_open(writer, known)
        connection.execute(
            "UPDATE wallet_holds SET state = 'released'"
            " WHERE tenant = %s AND wallet = %s AND hold = %s",
            (tenant, key, name),
        )
        movements = released(read_parts(connection, wallet, name))
        record(connection, wallet, movements, writer.cause("released"), hold=name)
        _schedule_ended(writer, wallet)
        return _hold_of(writer, key, name)


def void(writer: WalletWriter, key: str, name: str, reason: str) -> dict[str, Any]:
    """Take back what is free of a grant; what was paid for it goes back where it came from.

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


def _schedule_ended(writer: WalletWriter, wallet: Wallet) -> None:
    """Let what is free again of grants that are over expire at once."""
    where = "left_minor > held_minor + settled_minor AND expires_at IS NOT NULL"
    grants = read_grants(writer.connection, wallet.tenant, wallet.key, where)
    if any(one.is_over(writer.at) for one in grants.values()):
        schedule(writer.connection, wallet, [writer.at])


def _check_open(writer: WalletWriter, known: dict[str, Any]) -> None:
    if known["state"] != "open":
        raise WalletError(f"hold {known['key']} is {known['state']}")
    expires_at = known["expires_at"]
    if expires_at is not None and datetime.fromisoformat(expires_at) <= writer.at:
        raise WalletError(f"hold {known['key']} has expired")


def _hold_of(writer: WalletWriter, key: str, name: str) -> dict[str, Any]:
    found = find_hold(writer.connection, writer.tenant, key, name)
    if found is None:
        raise LookupError(f"wallet {key} has no hold {name}")
    return found


def _minor(amount: Any, currency: str) -> int:
    try:
        return exact_minor(amount, currency)
    except (ValueError, OverflowError) as error:
        raise WalletError(str(error)) from error
