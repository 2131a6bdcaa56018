"""What the database itself refuses, and that a close bills once whatever happens to it."""

import multiprocessing
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.e2e.billing_world import close, close_or_die, contents, prepare
from tests.embedded_stack import EmbeddedStack

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.e2e.billing_world"])

JANUARY, FEBRUARY = date(2013, 1, 1), date(2013, 2, 1)
Connection = psycopg.Connection[Any]
Make = Callable[[str], tuple[str, Connection]]

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
    """Make databases of their own in the stack's Postgres; they are dropped afterwards."""
    made: dict[str, Connection] = {}

    def database(name: str) -> tuple[str, Connection]:
        dsn = make_conninfo(stack.read().postgres_dsn, dbname=name)
        made[name] = prepare(dsn)
        return dsn, made[name]

    yield database
    with psycopg.connect(stack.read().postgres_dsn, autocommit=True) as owner:
        for name, connection in made.items():
            connection.close()
            owner.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


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
        assert kills.count(-9) >= 10
        assert set(kills) <= {-9, 0}
        assert _Close(dsn, month).exit_code() == 0
    assert contents(connection) == _undisturbed(books)


def _undisturbed(books: Connection) -> dict[str, list[Any]]:
    """Return the undisturbed books, without the entries that tests of this module added."""
    found = contents(books)
    found["postings"] = [row for row in found["postings"] if ":" in row[0]]
    return found


class _Close:
    """A close in a process of its own."""

    def __init__(self, dsn: str, month: date, kill_at: int = 0) -> None:
        self._pipe, answer = _PROCESSES.Pipe(duplex=False)
        arguments = (dsn, month, kill_at, answer)
        self._process = _PROCESSES.Process(target=close_or_die, args=arguments)
        self._process.start()
        answer.close()

    def documents(self) -> int:
        """Return how many documents it issued."""
        assert self.exit_code() == 0
        return int(self._pipe.recv())

    def exit_code(self) -> int | None:
        """Return how it ended; below zero by a signal."""
        self._process.join(timeout=60)
        return self._process.exitcode
