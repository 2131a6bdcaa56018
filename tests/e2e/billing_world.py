"""A small world billed in a real Postgres, with usage from memory; also in processes of its own.

Such a process closes a month and, where told to, ends itself with kill -9 before its n-th
statement.
"""

import os
import signal
from datetime import UTC, date, datetime, timedelta
from multiprocessing.connection import Connection as Pipe
from typing import Any

import psycopg

from billing.due import Scope
from billing.period import add_months
from billing.postgres_catalog import apply
from billing.postgres_ledger import post_month_ends
from billing.postgres_runs import PostgresRuns
from billing.run import Report, bill
from infra.provision.migrations import read_migrations
from infra.provision.postgres_schema import create_database, migrate_postgres
from pipelines.usage import Cut
from tests.forks import assert_imported
from tests.unit.billing.fake_usage import Event, FakeUsage
from tests.unit.billing.test_run import BOOK, CUSTOMERS, flight
from tests.unit.billing.world import METERS, NOW, declare

TENANT = "default"
Connection = psycopg.Connection[Any]


class PostgresCutsUsage(FakeUsage):
    """Usage in memory whose cuts are rows in Postgres, as the real reader's are.

    A cut is of the moment it is asked for, or else of the second day of the month `as_if`.
    """

    def __init__(
        self, connection: Connection, events: list[Event], as_if: date | None = None
    ) -> None:
        meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}
        super().__init__(meters, list(events))
        self.connection = connection
        self.as_if = as_if

    def fix_cut(self, tenant: str, at: datetime) -> Cut:
        if self.as_if is not None:
            at = _the_second(self.as_if)
        with self.connection.transaction():
            row = self.connection.execute(
                "INSERT INTO cuts (tenant, number, at, facts_revision) SELECT %s,"
                " (SELECT count(*) + 1 FROM cuts), %s, revision FROM fact_revisions"
                " RETURNING number",
                (tenant, at),
            ).fetchone()
        assert row is not None
        return self.cut(tenant, row[0])

    def cut(self, tenant: str, number: int) -> Cut:
        row = self.connection.execute(
            "SELECT tenant, number, at, facts_revision FROM cuts WHERE tenant = %s AND number = %s",
            (tenant, number),
        ).fetchone()
        assert row is not None
        return Cut(*row)

    def _size(self, cut: Cut) -> int:
        return len([event for event in self.events if _arrives_at(event) < cut.at])


def _the_second(month: date) -> datetime:
    return datetime(month.year, month.month, 2, tzinfo=UTC)


def _arrives_at(event: Event) -> datetime:
    return event.time + timedelta(days=30 if event.data["tailnum"] == "LATE" else 0)


EVENTS = sorted(
    [
        flight(month, day, subject, f"N{day % 3}", ("EWR", "JFK")[day % 2])
        for month in (1, 2)
        for day in range(1, 6)
        for subject in ("u1", "u2", "dl")
    ]
    + [flight(1, 20, "u1", "LATE")],
    key=_arrives_at,
)


def prepare(dsn: str) -> Connection:
    """Make a database with a tenant on a virtual clock, and apply the world's files."""
    create_database(dsn)
    migrate_postgres(dsn, read_migrations("postgres"))
    connection = psycopg.connect(dsn, autocommit=True)
    connection.execute(
        "INSERT INTO tenants (tenant, name, virtual_clock) VALUES (%s, 'T', true)", (TENANT,)
    )
    apply(connection, TENANT, declare(METERS, BOOK, CUSTOMERS), NOW)
    return connection


def close(connection: Connection, month: date) -> Report:
    """Close a month as the command does."""
    report = Report()
    usage = PostgresCutsUsage(connection, EVENTS)
    store = PostgresRuns(connection, TENANT)
    following = add_months(month, 1)
    scope = Scope("close", following)
    bill(store, usage, scope, _the_second(following), lambda _done, _total: None, report)
    post_month_ends(connection, TENANT, month)
    return report


def contents(connection: Connection) -> dict[str, list[Any]]:
    """Return all that was billed and booked.

    Left out are the numbers of cuts: a kill right after a cut was fixed leaves one unused.
    """
    return {
        "invoices": connection.execute(
            "SELECT number, invoice_id, customer, bill_on, total_minor, amount_due_minor, state"
            " FROM invoices ORDER BY number"
        ).fetchall(),
        "lines": connection.execute(
            "SELECT invoice_id, ordinal, charge, dimensions, piece_start, kind, quantity,"
            " amount_minor, trace FROM invoice_lines ORDER BY invoice_id, ordinal"
        ).fetchall(),
        "postings": connection.execute(
            "SELECT e.posting_key, e.effective_on, p.ordinal, p.gl_code, p.amount_minor"
            " FROM postings p JOIN journal_entries e USING (entry_id) ORDER BY 1, 3"
        ).fetchall(),
        "inputs": connection.execute(
            "SELECT invoice_id, role, content_hash FROM invoice_inputs WHERE role <> 'cut'"
            " ORDER BY 1, 2"
        ).fetchall(),
        "states": connection.execute(
            "SELECT subscription, item, charge, starts_at, state_in, state_out"
            " FROM rating_states ORDER BY subscription, item, charge, starts_at, cut_number"
        ).fetchall(),
    }


class Doomed(psycopg.Cursor[Any]):
    """Counts statements, and kills the process before the n-th."""

    left = 0

    def execute(self, *arguments: Any, **options: Any) -> Any:
        self._live()
        return super().execute(*arguments, **options)

    def executemany(self, *arguments: Any, **options: Any) -> None:
        self._live()
        super().executemany(*arguments, **options)

    def _live(self) -> None:
        Doomed.left -= 1
        if Doomed.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def close_or_die(dsn: str, month: date, kill_at: int, answer: Pipe) -> None:
    """Close a month in this process and answer how many documents that gave, or die trying."""
    assert_imported()
    Doomed.left = kill_at
    with psycopg.connect(dsn, autocommit=True, cursor_factory=Doomed) as connection:
        answer.send(len(close(connection, month).documents))
