"""What expires of wallets: holds that were not settled in time, and grants. Done again, nothing."""

from datetime import UTC, datetime

from billing.postgres_facts import Connection
from billing.postgres_wallets import (
    OF_FREE,
    Cause,
    Wallet,
    ask_for_more,
    end_grants,
    lock_wallet,
    read_grants,
    read_parts,
    record,
)
from billing.wallet import expire, release


def expire_wallet(connection: Connection, tenant: str, key: str, at: datetime) -> None:
    """Let a wallet expire what is over at an instant.

    What happened after that instant already is not preceded: it counts as expired then.
    """
    with connection.transaction():
        wallet = lock_wallet(connection, tenant, key)
        last = connection.execute(
            "SELECT at FROM wallet_movements WHERE tenant = %s AND wallet = %s"
            " ORDER BY sequence DESC LIMIT 1",
            (tenant, key),
        ).fetchone()
        cause = Cause("schedule", max(at, last[0] if last else at).astimezone(UTC), "it expired")
        _lapse_holds(connection, wallet, at, cause)
        grants = read_grants(connection, tenant, key, OF_FREE)
        movements = expire(grants.values(), at)
        end_grants(connection, wallet, movements, cause, "breakage")
        if movements:
            ask_for_more(connection, wallet, cause.at)


def _lapse_holds(connection: Connection, wallet: Wallet, at: datetime, cause: Cause) -> None:
    rows = connection.execute(
        "UPDATE wallet_holds SET state = 'expired' WHERE tenant = %s AND wallet = %s"
        " AND state = 'open' AND expires_at <= %s RETURNING hold",
        (wallet.tenant, wallet.key, at),
    ).fetchall()
    for (hold,) in sorted(rows):
        record(connection, wallet, release(read_parts(connection, wallet, hold)), cause, hold=hold)
