"""Credit is held for a use that may come, then settled or released; each in one transaction.

Available is what is left less what is held or was used and is not invoiced yet. Two writers wait
for each other at the wallet, so never is more held than that. A hold of the same key and terms is
answered as it is.
"""

from datetime import datetime
from typing import Any

from psycopg.errors import UniqueViolation

from billing.money import display
from billing.period import instant
from billing.postgres_wallet_reports import find_hold
from billing.postgres_wallets import (
    OF_FREE,
    WalletWriter,
    ask_for_more,
    find_customer,
    lock_wallet,
    read_grants,
    read_parts,
    record,
    schedule,
    schedule_ended,
)
from billing.wallet import NotEnoughError
from billing.wallet import hold as held
from billing.wallet import release as released
from billing.wallet import settle as settled
from billing.wallet_terms import (
    HoldTerms,
    NotEnoughCreditError,
    Settlement,
    WalletError,
    exact_minor,
)


def hold(writer: WalletWriter, key: str, terms: HoldTerms) -> dict[str, Any]:
    """Reserve credit for a use that may come, all of it or nothing.

    Raises:
        LookupError: there is no such wallet.
        WalletError: there is less available, or another hold of that key.
    """
    connection, tenant = writer.connection, writer.tenant
    with connection.transaction():
        wallet = lock_wallet(connection, tenant, key)
        amount = exact_minor(terms.amount, wallet.currency)
        wanted = (amount, terms.charge, terms.product, terms.meter)
        known = find_hold(connection, tenant, key, terms.key)
        if known is not None:
            if tuple(known[n] for n in ("amount_minor", "charge", "product", "meter")) != wanted:
                raise WalletError(f"there is a hold {terms.key} for something else")
            return known
        expires_at = None
        if terms.expires_at is not None:
            zone = find_customer(connection, tenant, wallet.customer).zone
            expires_at = instant(terms.expires_at, zone)
        if expires_at is not None and expires_at <= writer.at:
            raise WalletError(f"it expires before it is made, at {writer.at.isoformat()}")
        grants = read_grants(connection, tenant, key, OF_FREE)
        try:
            movements = held(list(grants.values()), amount, terms.use_at(writer.at))
        except NotEnoughError as error:
            most = error.available_minor
            text = f"{display(most, wallet.currency)} {wallet.currency} of credit is available"
            raise NotEnoughCreditError(text, most) from error
        connection.execute(
            "INSERT INTO wallet_holds (tenant, wallet, hold, amount_minor, charge, product, meter,"
            " held_at, expires_at, actor) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (tenant, key, terms.key, *wanted, writer.at, expires_at, writer.actor),
        )
        record(connection, wallet, movements, writer.cause("held"), hold=terms.key)
        schedule(connection, wallet, [expires_at])
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
        amount = exact_minor(settlement.amount, wallet.currency)
        known = _hold_of(writer, key, name)
        if known["state"] in ("settled", "invoiced") and known["settled_minor"] == amount:
            return known
        _check_open(writer, known)
        try:
            movements = settled(read_parts(connection, wallet, name), amount)
        except NotEnoughError as error:
            most = error.available_minor
            text = f"{display(most, wallet.currency)} {wallet.currency} is held, no more"
            raise NotEnoughCreditError(text, most) from error
        used_at = settlement.used_at or writer.at
        connection.execute(
            "UPDATE wallet_holds SET state = 'settled', settled_minor = %s, used_at = %s"
            " WHERE tenant = %s AND wallet = %s AND hold = %s",
            (amount, used_at, tenant, key, name),
        )
        _name_events(writer, key, name, settlement)
        record(connection, wallet, movements, writer.cause("settled"), hold=name)
        schedule_ended(connection, wallet, writer.at)
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
        schedule_ended(connection, wallet, writer.at)
        return _hold_of(writer, key, name)


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
