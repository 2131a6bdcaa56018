"""Wallets in Postgres: one writer at a time by a lock on the wallet, movements in order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from psycopg.types.json import Jsonb

from billing.customer import Customer
from billing.ledger import Entry, open_day
from billing.postgres_facts import Connection
from billing.postgres_ledger import locked_through, post
from billing.wallet import Grant, Movement, Part, Scope
from billing.wallet_entries import end_entry

_WALLET = "wallet, customer, legal_entity, currency, below_minor, top_up_minor FROM wallets"
_RECORD = """
    INSERT INTO wallet_movements (tenant, wallet, sequence, number, kind, left_minor, held_minor,
        settled_minor, owed_minor, line, hold, invoice_id, at, actor, reason)
    SELECT %(tenant)s, %(wallet)s, (SELECT coalesce(max(sequence), 0) FROM wallet_movements
            WHERE tenant = %(tenant)s AND wallet = %(wallet)s) + m.ordinal,
        m.number, m.kind, m.left_minor, m.held_minor, m.settled_minor, m.owed_minor, m.line,
        %(hold)s, %(invoice)s, %(at)s, %(actor)s, %(reason)s
    FROM unnest(%(numbers)s::bigint[], %(kinds)s::text[], %(left)s::bigint[], %(held)s::bigint[],
            %(settled)s::bigint[], %(owed)s::bigint[], %(lines)s::integer[])
        WITH ORDINALITY AS m
        (number, kind, left_minor, held_minor, settled_minor, owed_minor, line, ordinal)
    RETURNING sequence
"""
# Work of an instant that is waiting sees what is written by then; one that is done does not.
_SCHEDULE = """
    INSERT INTO due_work (tenant, key, due_at, ordinal, kind)
    SELECT %(tenant)s, %(key)s, %(due_at)s, coalesce(max(ordinal) + 1, 0), 'expire'
    FROM due_work WHERE tenant = %(tenant)s AND key = %(key)s AND due_at = %(due_at)s
    HAVING count(*) FILTER (WHERE state = 'waiting') = 0
"""
OF_FREE = "left_minor > held_minor + settled_minor"
"""Is true of grants of which something is free."""
WORK_PREFIX = "wallet/"
"""Begins the key of a wallet's due work; no key of a subscription has a slash."""


@dataclass(frozen=True, slots=True)
class Wallet:
    """A wallet that is locked until its transaction ends."""

    tenant: str
    key: str
    customer: str
    legal_entity: str
    currency: str
    below_minor: int | None
    top_up_minor: int | None

    @property
    def whose(self) -> tuple[str, str, str]:
        """Legal entity, customer and currency."""
        return (self.legal_entity, self.customer, self.currency)


@dataclass(frozen=True, slots=True)
class Cause:
    """Who moves something, when by the tenant's clock, and why."""

    actor: str
    at: datetime
    reason: str


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


def lock_wallet(connection: Connection, tenant: str, key: str) -> Wallet:
    """Lock a wallet; raises LookupError where there is none of that key."""
    row = connection.execute(
        f"SELECT {_WALLET} WHERE tenant = %s AND wallet = %s FOR NO KEY UPDATE", (tenant, key)
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no wallet {key}")
    return Wallet(tenant, *row)


def lock_wallet_of(
    connection: Connection, tenant: str, whose: tuple[str, str, str]
) -> Wallet | None:
    """Lock the wallet of a legal entity's customer in a currency, where there is one."""
    row = connection.execute(
        f"SELECT {_WALLET} WHERE tenant = %s AND legal_entity = %s AND customer = %s"
        " AND currency = %s FOR NO KEY UPDATE",
        (tenant, *whose),
    ).fetchone()
    return None if row is None else Wallet(tenant, *row)


def find_customer(connection: Connection, tenant: str, key: str) -> Customer:
    """Return a customer as it is now; raises LookupError where there is none of that key."""
    row = connection.execute(
        "SELECT content FROM customer_versions WHERE tenant = %s AND customer = %s"
        " ORDER BY version DESC LIMIT 1",
        (tenant, key),
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no customer {key}")
    return Customer.model_validate(row[0])


def read_grants(
    connection: Connection, tenant: str, wallet: str, where: str = "true"
) -> dict[int, Grant]:
    """Return a wallet's grants by number, of which `where` is true."""
    rows = connection.execute(
        "SELECT number, kind, granted_minor, cost_minor, effective_at, expires_at, priority, scope,"
        " left_minor, held_minor, settled_minor, drawn_minor, expired_minor, voided_minor,"
        f" owed_minor FROM wallet_grants WHERE tenant = %s AND wallet = %s AND {where}"
        " ORDER BY number",
        (tenant, wallet),
    ).fetchall()
    return {
        number: Grant(
            number, kind, granted, cost, effective_at.astimezone(UTC), _utc(expires_at), priority,
            Scope(**scope), *sums,
        )
        for number, kind, granted, cost, effective_at, expires_at, priority, scope, *sums in rows
    }  # fmt: skip


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)


def read_parts(connection: Connection, wallet: Wallet, hold: str) -> list[Part]:
    """Return how much of a hold lies on each grant: held, or settled."""
    rows = connection.execute(
        "SELECT number, sum(held_minor + settled_minor)::bigint FROM wallet_movements"
        " WHERE tenant = %s AND wallet = %s AND hold = %s GROUP BY number"
        " HAVING sum(held_minor + settled_minor) > 0 ORDER BY min(sequence)",
        (wallet.tenant, wallet.key, hold),
    ).fetchall()
    return [Part(*row) for row in rows]


def record(
    connection: Connection,
    wallet: Wallet,
    movements: Sequence[Movement],
    cause: Cause,
    *,
    hold: str | None = None,
    invoice: object = None,
) -> list[int]:
    """Record movements of a locked wallet, in order; returns their numbers in its history."""
    if not movements:
        return []
    rows = connection.execute(
        _RECORD,
        {
            "tenant": wallet.tenant, "wallet": wallet.key, "hold": hold, "invoice": invoice,
            "at": cause.at, "actor": cause.actor, "reason": cause.reason,
            "numbers": [one.number for one in movements],
            "kinds": [one.kind for one in movements],
            "left": [one.left_minor for one in movements],
            "held": [one.held_minor for one in movements],
            "settled": [one.settled_minor for one in movements],
            "owed": [one.owed_minor for one in movements],
            "lines": [one.line for one in movements],
        },
    ).fetchall()  # fmt: skip
    return sorted(sequence for (sequence,) in rows)


def end_grants(
    connection: Connection,
    wallet: Wallet,
    movements: Sequence[Movement],
    cause: Cause,
    account: str,
) -> None:
    """Record what expires or is voided, and book where what was owed for it goes."""
    on = booking_day(connection, wallet.tenant, cause.at)
    sequences = record(connection, wallet, movements, cause)
    entries: list[Entry] = []
    for sequence, one in zip(sequences, movements, strict=True):
        entry = end_entry(
            one, wallet=wallet.key, sequence=sequence, account=account, on=on, whose=wallet.whose
        )
        entries += [] if entry is None else [entry]
    post(connection, wallet.tenant, entries)


def booking_day(connection: Connection, tenant: str, at: datetime) -> date:
    """Return the day on which something of an instant is booked: the first that is not locked."""
    return open_day(at.astimezone(UTC).date(), locked_through(connection, tenant))


def schedule(connection: Connection, wallet: Wallet, instants: Iterable[datetime | None]) -> None:
    """Let what expires at instants be looked for then."""
    for due_at in sorted({at for at in instants if at is not None}):
        connection.execute(
            _SCHEDULE,
            {"tenant": wallet.tenant, "key": WORK_PREFIX + wallet.key, "due_at": due_at},
        )


def schedule_ended(connection: Connection, wallet: Wallet, at: datetime) -> None:
    """Let what is free again of grants that are over expire at once."""
    row = connection.execute(
        f"SELECT EXISTS (SELECT FROM wallet_grants WHERE {OF_FREE} AND tenant = %s AND wallet = %s"
        " AND expires_at <= %s)",
        (wallet.tenant, wallet.key, at),
    ).fetchone()
    schedule(connection, wallet, [at] if row and row[0] else [])


def ask_for_more(connection: Connection, wallet: Wallet, at: datetime) -> None:
    """Ask for a top-up where available credit is below the wallet's threshold, once at a time."""
    if wallet.below_minor is None:
        return
    row = connection.execute(
        "INSERT INTO wallet_top_ups (tenant, wallet, number, amount_minor, asked_at)"
        " SELECT %(tenant)s, %(wallet)s, (SELECT count(*) + 1 FROM wallet_top_ups"
        "   WHERE tenant = %(tenant)s AND wallet = %(wallet)s), %(amount)s, %(at)s"
        " WHERE (SELECT coalesce(sum(left_minor - held_minor - settled_minor), 0)"
        "   FROM wallet_grants WHERE tenant = %(tenant)s AND wallet = %(wallet)s"
        "   AND effective_at <= %(at)s AND (expires_at IS NULL OR expires_at > %(at)s)) < %(below)s"
        " AND NOT EXISTS (SELECT FROM wallet_top_ups WHERE tenant = %(tenant)s"
        "   AND wallet = %(wallet)s AND state = 'pending') RETURNING number",
        {
            "tenant": wallet.tenant, "wallet": wallet.key, "at": at,
            "amount": wallet.top_up_minor, "below": wallet.below_minor,
        },
    ).fetchone()  # fmt: skip
    if row is not None:
        connection.execute(
            "INSERT INTO outbox (tenant, aggregate, aggregate_version, event_type, payload,"
            " occurred_at) VALUES (%s, %s, %s, 'wallet.top_up_asked', %s, %s)",
            (
                wallet.tenant,
                WORK_PREFIX + wallet.key,
                row[0],
                Jsonb({"wallet": wallet.key, "customer": wallet.customer,
                       "currency": wallet.currency, "amount_minor": wallet.top_up_minor,
                       "number": row[0]}),
                at,
            ),
        )  # fmt: skip
