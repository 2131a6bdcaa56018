"""What the database itself refuses, and that a close bills once whatever happens to it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import psycopg
import pytest

from billing.due import Scope
from billing.period import add_months
from billing.postgres_catalog import apply
from billing.postgres_ledger import post_month_ends
from tests.e2e.billing_databases import Connection, Make, databases
from tests.e2e.billing_world import (
    EVENTS,
    TENANT,
    PostgresCutsUsage,
    close,
    close_or_die,
    contents,
)
from tests.embedded_stack import EmbeddedStack
from tests.forks import forking
from tests.unit.billing.world import NOW, declare
from tollbook.bill_runs import run_scope
from tollbook.stack_file import Stack

JANUARY, FEBRUARY = date(2013, 1, 1), date(2013, 2, 1)
ENTRY = (
    "INSERT INTO journal_entries (tenant, posting_key, kind, effective_on, description,"
    " postings_count) VALUES ('default', %s, 'accrual', %s, 'd', %s) RETURNING entry_id"
)
POSTING = (
    "INSERT INTO postings (entry_id, ordinal, tenant, postings_count, account_id, currency,"
    " amount_minor, customer, gl_code) VALUES (%s, %s, 'default', %s, %s, %s, %s, 'UA', 'x')"
)


@pytest.fixture(scope="module")
def make(stack: EmbeddedStack) -> Iterator[Make]:
    with databases(stack) as made:
        yield made


@pytest.fixture(scope="module")
def books(make: Make) -> Connection:
    """Two months, closed without a hitch."""
    _, connection = make("undisturbed")
    close(connection, JANUARY)
    close(connection, FEBRUARY)
    return connection


def post(
    books: Connection, key: str, postings: list[tuple[int, str]], *, count: int | None = None
) -> None:
    accounts = {
        currency: books.execute(
            "INSERT INTO accounts (tenant, legal_entity, currency, code, kind) VALUES ('default',"
            " 'test', %s, 'x', 'asset') ON CONFLICT (tenant, legal_entity, currency, code)"
            " DO UPDATE SET code = 'x' RETURNING account_id",
            (currency,),
        ).fetchone()
        for currency in ("USD", "EUR")
    }
    with books.transaction():
        size = len(postings) if count is None else count
        entry = books.execute(ENTRY, (key, date(2013, 5, 5), size)).fetchone()
        assert entry is not None
        for ordinal, (amount, currency) in enumerate(postings, 1):
            account = accounts[currency]
            assert account is not None
            books.execute(POSTING, (entry[0], ordinal, size, account[0], currency, amount))


@pytest.mark.parametrize(
    ("postings", "count"),
    [
        ([(5, "USD"), (-4, "USD")], 2),
        ([(5, "USD"), (-5, "EUR")], 2),
        ([(5, "USD"), (-5, "USD"), (1, "EUR"), (-2, "EUR")], 4),
        ([(5, "USD"), (-5, "USD")], 3),
        ([], 2),
    ],
)
def test_the_database_refuses_an_unbalanced_entry(
    books: Connection, postings: list[tuple[int, str]], count: int
) -> None:
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="TOLLBOOK_UNBALANCED"):
        post(books, "bad", postings, count=count)
    assert not books.execute("SELECT FROM journal_entries WHERE posting_key = 'bad'").fetchall()


def test_an_entry_cannot_grow_even_by_postings_that_balance(books: Connection) -> None:
    post(books, "good", [(5, "USD"), (-5, "USD")])
    entry = books.execute(
        "SELECT entry_id FROM journal_entries WHERE posting_key = 'good'"
    ).fetchone()
    account = books.execute("SELECT account_id FROM accounts WHERE currency = 'USD'").fetchone()
    assert entry is not None
    assert account is not None
    for ordinal, count in ((3, 2), (3, 4), (1, 2)):
        with pytest.raises(psycopg.errors.IntegrityError):
            books.execute(POSTING, (entry[0], ordinal, count, account[0], "USD", 1))


def test_a_check_made_early_does_not_let_an_entry_grow_later(books: Connection) -> None:
    def sneak() -> None:
        with books.transaction():
            post(books, "early", [(5, "USD"), (-5, "USD")])
            books.execute("SET CONSTRAINTS ALL IMMEDIATE")
            row = books.execute(
                "SELECT entry_id, account_id FROM postings"
                " WHERE entry_id = (SELECT max(entry_id) FROM journal_entries)"
            ).fetchone()
            assert row is not None
            books.execute(POSTING, (row[0], 3, 2, row[1], "USD", 7))

    with pytest.raises(psycopg.errors.CheckViolation):
        sneak()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE postings SET amount_minor = amount_minor * 2",
        "DELETE FROM postings",
        "TRUNCATE postings CASCADE",
        "UPDATE journal_entries SET effective_on = '2013-01-01'",
        "DELETE FROM journal_entries",
        "UPDATE invoice_lines SET amount_minor = 0",
        "DELETE FROM invoice_lines",
        "DELETE FROM invoices",
        "UPDATE invoices SET total_minor = total_minor + 1",
        "UPDATE invoices SET state = 'draft'",
        "UPDATE price_book_versions SET content = '{}'",
        "DELETE FROM subject_assignments",
        "UPDATE subject_assignments SET customer = 'DL'",
        "UPDATE billed_periods SET ends_on = ends_on + 1",
        "DELETE FROM meters",
        "TRUNCATE meters CASCADE",
        "TRUNCATE cuts CASCADE",
        "DELETE FROM invoice_series",
        "DELETE FROM line_positions",
        "DELETE FROM fact_revisions",
    ],
)
def test_the_database_refuses_to_change_what_was_issued(books: Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.RestrictViolation, match="TOLLBOOK_"):
        books.execute(statement.encode())


def test_the_database_refuses_two_owners_at_once(books: Connection) -> None:
    with pytest.raises(psycopg.errors.ExclusionViolation, match="assignments_never_overlap"):
        books.execute(
            "INSERT INTO subject_assignments (tenant, subject, customer, during, known_revision)"
            " VALUES ('default', 'u1', 'DL', '[2013-05-01,2013-05-02)', 9)"
        )


def test_the_database_refuses_a_line_twice_and_an_invoice_that_does_not_add_up(
    books: Connection,
) -> None:
    with pytest.raises(psycopg.errors.IntegrityError), books.transaction():
        books.execute("INSERT INTO invoice_lines SELECT * FROM invoice_lines LIMIT 1")
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="TOLLBOOK_TOTAL"):
        _copy_invoice(books, sequence="sequence + 1000", lines=1)


def _copy_invoice(books: Connection, *, sequence: str, lines: int) -> None:
    with books.transaction():
        books.execute(
            "INSERT INTO invoices (invoice_id, tenant, document_type, number, legal_entity, year,"
            " sequence, customer, currency, bill_on, issued_on, due_on, total_minor,"
            " amount_due_minor, state, run_id, cut_number, lines_count) SELECT gen_random_uuid(),"
            " tenant, document_type, number || 'x', legal_entity, year,"
            f" {sequence}, customer, currency, bill_on, issued_on, due_on, total_minor,"
            " amount_due_minor, state, run_id, cut_number, %s FROM invoices LIMIT 1".encode(),
            (lines,),
        )


def test_an_entry_is_reversed_by_its_opposite_and_only_once(books: Connection) -> None:
    accrual = books.execute(
        "SELECT reverses FROM journal_entries WHERE kind = 'reversal' LIMIT 1"
    ).fetchone()
    assert accrual is not None
    with pytest.raises(psycopg.errors.UniqueViolation):
        books.execute(
            "INSERT INTO journal_entries (tenant, posting_key, kind, effective_on, description,"
            " reverses, postings_count) VALUES ('default', 'again', 'reversal', '2013-05-01', '',"
            " %s, 2)",
            accrual,
        )


def test_nothing_is_booked_into_locked_days(make: Make) -> None:
    _, connection = make("locked")
    close(connection, JANUARY)
    connection.execute("INSERT INTO accounting_locks VALUES ('default', '2013-02-28')")
    close(connection, FEBRUARY)
    early = connection.execute(
        "SELECT posting_key FROM journal_entries WHERE effective_on BETWEEN '2013-02-02' AND"
        " '2013-02-28'"
    ).fetchall()
    assert early == []
    with pytest.raises(psycopg.errors.RestrictViolation, match="TOLLBOOK_LOCKED"):
        connection.execute(ENTRY, ("late", date(2013, 2, 28), 2))
    deferred = connection.execute(
        "SELECT sum(amount_minor) FROM postings WHERE gl_code = 'deferred_revenue'"
    ).fetchone()
    assert deferred == (0,)


def test_balances_say_what_the_documents_say(books: Connection) -> None:
    assert_balances(books)


def test_a_credit_note_goes_to_the_invoices_it_corrects(make: Make) -> None:
    _, connection = make("credits")
    close(connection, JANUARY)
    moved = (
        "customers: [{key: UA, name: United, currency: USD, time_zone: America/New_York,"
        " subjects: [{key: u1, from: 2013-02-10}]}]"
    )
    apply(connection, TENANT, declare(moved), NOW)
    close(connection, FEBRUARY)
    january = connection.execute(
        "SELECT invoice_id, total_minor, amount_due_minor, state FROM invoices"
        " WHERE customer = 'UA' AND bill_on = '2013-02-01' AND total_minor <> 250000"
    ).fetchone()
    notes = connection.execute(
        "SELECT n.number, n.total_minor, n.state, a.invoice_id, a.amount_minor FROM invoices n"
        " LEFT JOIN credit_applications a ON a.credit_note = n.invoice_id"
        " WHERE document_type = 'credit_note'"
    ).fetchall()
    assert january is not None
    billed_minor = january[1]
    assert january[2:] == (0, "paid")
    assert notes == [("MAIN-CN-2013-000001", billed_minor, "paid", january[0], billed_minor)]
    assert_balances(connection)


def assert_balances(books: Connection) -> None:
    by_account = dict(
        books.execute(
            "SELECT gl_code, sum(amount_minor) FROM postings WHERE customer IN ('UA', 'DL')"
            " AND gl_code <> 'x' GROUP BY 1"
        ).fetchall()
    )
    open_minor = books.execute("SELECT sum(amount_due_minor) FROM invoices").fetchone()
    billed = dict(
        books.execute("SELECT product, sum(amount_minor) FROM invoice_lines GROUP BY 1").fetchall()
    )
    assert open_minor == (by_account.pop("receivable"),)
    assert by_account.pop("deferred_revenue") == 0
    assert by_account.pop("unbilled_receivable") == 0
    assert by_account == {f"revenue:{product}": -amount for product, amount in billed.items()}
    positions = books.execute(
        "SELECT count(*) FROM line_positions p FULL JOIN (SELECT tenant, subscription, item,"
        " charge, dimensions, piece_start, piece_end, sum(quantity) AS q, sum(amount_minor) AS a"
        " FROM invoice_lines GROUP BY 1, 2, 3, 4, 5, 6, 7) AS l USING (tenant, subscription, item,"
        " charge, dimensions, piece_start, piece_end) WHERE (p.quantity, p.amount_minor)"
        " IS DISTINCT FROM (l.q, l.a)"
    ).fetchone()
    assert positions == (0,)


def test_a_close_run_twice_bills_once(make: Make, books: Connection) -> None:
    _, connection = make("twice")
    for month in (JANUARY, JANUARY, FEBRUARY, FEBRUARY, JANUARY):
        close(connection, month)
    assert contents(connection) == _undisturbed(books)


def test_closes_at_once_bill_once(make: Make, books: Connection) -> None:
    dsn, connection = make("at_once")
    for month in (JANUARY, FEBRUARY):
        processes = [_Close(dsn, month) for _ in range(3)]
        assert sorted(process.documents() for process in processes) == [0, 0, 4]
    assert contents(connection) == _undisturbed(books)


def test_a_close_killed_anywhere_and_run_again_bills_once(make: Make, books: Connection) -> None:
    dsn, connection = make("killed")
    for month in (JANUARY, FEBRUARY):
        kills = [_Close(dsn, month, kill_at).exit_code() for kill_at in range(4, 70, 4)]
        assert kills.count(-9) >= 10, kills
        assert set(kills) <= {-9, 0}
        assert _Close(dsn, month).exit_code() == 0
    assert contents(connection) == _undisturbed(books)


def test_a_close_whose_connections_are_cut_bills_once(
    stack: EmbeddedStack, make: Make, books: Connection
) -> None:
    dsn, connection = make("cut_off")
    here = replace(stack.read(), postgres_dsn=dsn)
    cuts_left = 3

    def cut_off(done: int, _total: int) -> None:
        nonlocal cuts_left
        if done == 1 and cuts_left:
            cuts_left -= 1
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = 'cut_off' AND pid <> pg_backend_pid()"
            )

    for month in (JANUARY, FEBRUARY):
        following = add_months(month, 1)

        def usage_of(stack: Stack, following: date = following) -> PostgresCutsUsage:
            own = psycopg.connect(stack.postgres_dsn, autocommit=True)
            return PostgresCutsUsage(own, EVENTS, as_if=following)

        run_scope(here, Scope("close", following), cut_off, usage_of)
        post_month_ends(connection, here.tenant, month)
    assert cuts_left == 0
    assert contents(connection) == _undisturbed(books)


def _undisturbed(books: Connection) -> dict[str, list[Any]]:
    """Return the undisturbed books, without the entries that tests of this module added."""
    found = contents(books)
    found["postings"] = [row for row in found["postings"] if ":" in row[0]]
    return found


class _Close:
    """A close in a process of its own."""

    def __init__(self, dsn: str, month: date, kill_at: int = 0) -> None:
        processes = forking()
        self._pipe, answer = processes.Pipe(duplex=False)
        arguments = (dsn, month, kill_at, answer)
        self._process = processes.Process(target=close_or_die, args=arguments)
        self._process.start()
        answer.close()

    def documents(self) -> int:
        """Return how many documents it issued."""
        assert self.exit_code() == 0
        return int(self._pipe.recv())

    def exit_code(self) -> int | None:
        """Return how it ended; below zero by a signal."""
        self._process.join(timeout=300)
        return self._process.exitcode
