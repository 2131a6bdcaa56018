"""The clocks of tenants in Postgres."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import psycopg

from billing.clock import Clock
from billing.postgres_facts import Connection


class ClockError(Exception):
    """A clock cannot be set so."""


def read_clock(connection: Connection, tenant: str, world: datetime) -> Clock:
    """Return a tenant's time, given the world's."""
    row = connection.execute("SELECT at FROM tenant_clocks WHERE tenant = %s", (tenant,)).fetchone()
    return Clock(world) if row is None else Clock(row[0].astimezone(UTC), is_virtual=True)


def start_clock(connection: Connection, tenant: str, at: datetime) -> None:
    """Give a tenant its own clock, before it has any subscription.

    Raises:
        ClockError: it has one, or subscriptions that lived by the world's.
    """
    with connection.transaction():
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM subscriptions WHERE tenant = %s),"
            " EXISTS (SELECT FROM tenant_clocks WHERE tenant = %s)"
            " FROM tenants WHERE tenant = %s FOR UPDATE",
            (tenant, tenant, tenant),
        ).fetchone()
        has_subscriptions, has_clock = row or (False, False)
        if has_clock:
            raise ClockError("it has a clock of its own already: advance it")
        if has_subscriptions:
            raise ClockError("it has subscriptions, which began by the world's clock")
        connection.execute("UPDATE tenants SET virtual_clock = true WHERE tenant = %s", (tenant,))
        connection.execute("INSERT INTO tenant_clocks (tenant, at) VALUES (%s, %s)", (tenant, at))


def set_clock(connection: Connection, tenant: str, at: datetime) -> None:
    """Move a tenant's clock on; one that is there already stays."""
    connection.execute(
        "UPDATE tenant_clocks SET at = %s WHERE tenant = %s AND at < %s", (at, tenant, at)
    )


@contextmanager
def hold_clock(connection: Connection, tenant: str) -> Iterator[None]:
    """Keep others from moving a tenant's clock; given up when the connection ends, however."""
    key = f"clock of {tenant}"
    connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (key,))
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # a broken connection holds no lock
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (key,))
