"""What the database holds of subscriptions: declared moves alone, whole history, work done once."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, get_args

import psycopg
import pytest

from billing.lifecycle import MOVES, State
from billing.postgres_catalog import DeclarationError, apply
from billing.postgres_due_work import do_due_work
from billing.postgres_subscriptions import (
    Cause,
    MoveError,
    StaleVersionError,
    find_subscription,
    list_history,
    move,
)
from tests.e2e.billing_databases import Connection, databases
from tests.e2e.billing_world import TENANT, Doomed
from tests.embedded_stack import EmbeddedStack
from tests.unit.billing.world import declare

NOW = datetime(2013, 1, 15, tzinfo=UTC)
CAUSE = Cause("a test", "to see it")
TERMS = (
    "subscriptions:\n"
    "- {{key: {}, customer: {}, start: {}, {} items: [{{key: m, price_book: airport}}]}}"
)
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.e2e.billing_world"])


@pytest.fixture(scope="module")
def database(stack: EmbeddedStack) -> Iterator[tuple[str, Connection]]:
    with databases(stack) as make:
        yield make("subscriptions")


@pytest.fixture(scope="module")
def connection(database: tuple[str, Connection]) -> Connection:
    return database[1]


def subscribe(connection: Connection, key: str, start: str, end: str = "") -> None:
    """Declare a subscription of a customer of its own."""
    text = f"customers:\n- {{key: C-{key}, name: C, currency: USD}}\n"
    text += TERMS.format(key, f"C-{key}", start, f"end: {end}," if end else "")
    apply(connection, TENANT, declare(text), NOW)


def state_of(connection: Connection, key: str) -> tuple[str, int]:
    found = find_subscription(connection, TENANT, key)
    assert found is not None
    return found["state"], found["version"]


def test_the_database_declares_the_moves_that_the_code_does(connection: Connection) -> None:
    states = get_args(State)
    rows = connection.execute(
        "SELECT a, b FROM unnest(%s::text[]) a, unnest(%s::text[]) b"
        " WHERE subscription_may_move(a, b)",
        (list(states), list(states)),
    ).fetchall()
    assert set(rows) == {(one, other) for one in states for other in MOVES[one]}


def test_the_database_refuses_every_other_move(connection: Connection) -> None:
    subscribe(connection, "moves", "2013-01-01")
    update = (
        "UPDATE subscriptions SET state = %s, version = version + 1 WHERE subscription = 'moves'"
    )
    for before, after in product(get_args(State), repeat=2):
        with connection.transaction(force_rollback=True):
            connection.execute("ALTER TABLE subscriptions DISABLE TRIGGER USER")
            connection.execute("UPDATE subscriptions SET state = %s", (before,))
            connection.execute("ALTER TABLE subscriptions ENABLE TRIGGER USER")
            if after == before or after in MOVES[before]:
                connection.execute(update, (after,))
            else:
                with pytest.raises(psycopg.errors.RestrictViolation, match="cannot move from"):
                    connection.execute(update, (after,))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE subscriptions SET version = version + 2",
        "UPDATE subscriptions SET reason = 'no version'",
        "DELETE FROM subscriptions",
        "TRUNCATE subscriptions CASCADE",
        "UPDATE subscription_history SET reason = 'another'",
        "DELETE FROM subscription_history",
        "UPDATE outbox SET payload = '{}'",
        "DELETE FROM outbox",
        "INSERT INTO outbox VALUES ('default', 'subscription/S-UA', 9, 't', '{}', now())",
        "INSERT INTO subscriptions VALUES ('default', 'new', 'UA', 'paused', 1, 1)",
    ],
)
def test_the_database_keeps_what_was_recorded(connection: Connection, statement: str) -> None:
    with pytest.raises(psycopg.Error, match="TOLLBOOK_"):
        connection.execute(statement)


def test_apply_gives_each_subscription_its_state_history_and_event(connection: Connection) -> None:
    subscribe(connection, "now", "2013-01-15")
    subscribe(connection, "later", "2013-01-16", end="2013-02-01")
    assert state_of(connection, "now") == ("active", 1)
    assert state_of(connection, "later") == ("draft", 1)
    subscribe(connection, "later", "2013-01-17", end="2013-02-01")
    assert state_of(connection, "later") == ("draft", 2)
    history = list_history(connection, TENANT, "later")
    assert [(h["from"], h["to"], h["content"]["start"], h["actor"]) for h in history] == [
        (None, "draft", "2013-01-16", "apply"), ("draft", "draft", "2013-01-17", "apply"),
    ]  # fmt: skip
    events = connection.execute(
        "SELECT aggregate_version, event_type, payload->>'state', payload->'content'->>'start'"
        " FROM outbox WHERE aggregate = 'subscription/later' ORDER BY 1"
    ).fetchall()
    assert events == [
        (1, "subscription.created", "draft", "2013-01-16"),
        (2, "subscription.changed", "draft", "2013-01-17"),
    ]
    work = "SELECT kind, due_at FROM due_work WHERE key = 'later' ORDER BY due_at"
    assert connection.execute(work).fetchall() == [
        ("start", datetime(2013, 1, 17, tzinfo=UTC)), ("end", datetime(2013, 2, 1, tzinfo=UTC)),
    ]  # fmt: skip


def test_a_stale_writer_is_told_the_current_version(connection: Connection) -> None:
    subscribe(connection, "stale", "2013-01-01")
    move(connection, TENANT, "stale", "paused", at=NOW, cause=CAUSE, expected=1)
    with pytest.raises(StaleVersionError) as refused:
        move(connection, TENANT, "stale", "canceled", at=NOW, cause=CAUSE, expected=1)
    assert (refused.value.current, state_of(connection, "stale")) == (2, ("paused", 2))
    with pytest.raises(MoveError, match="paused: it cannot become trialing"):
        move(connection, TENANT, "stale", "trialing", at=NOW, cause=CAUSE, expected=2)


def test_what_is_canceled_is_not_revived_by_new_terms(connection: Connection) -> None:
    subscribe(connection, "gone", "2013-01-01")
    move(connection, TENANT, "gone", "canceled", at=NOW, cause=CAUSE)
    with pytest.raises(DeclarationError):
        subscribe(connection, "gone", "2013-01-02")
    assert state_of(connection, "gone") == ("canceled", 2)


def _work(dsn: str, until: datetime, kill_at: int) -> None:
    Doomed.left = kill_at
    with psycopg.connect(dsn, autocommit=True, cursor_factory=Doomed) as own:
        do_due_work(own, until, TENANT)


def test_ten_workers_some_of_them_killed_do_each_work_once_and_in_order(
    database: tuple[str, Connection],
) -> None:
    dsn, connection = database
    for number in range(12):
        subscribe(connection, f"w{number}", f"2013-02-{number + 1:02}", end="2013-03-01")
    until = datetime(2013, 3, 1, tzinfo=UTC)
    doomed = [_PROCESSES.Process(target=_work, args=(dsn, until, kill)) for kill in (5, 11)]
    for process in doomed:
        process.start()
    with ThreadPoolExecutor(10) as pool:

        def drain(_: int) -> int:
            with psycopg.connect(dsn, autocommit=True) as own:
                return do_due_work(own, until, TENANT)

        list(pool.map(drain, range(10)))
    for process in doomed:
        process.join(60)
        assert process.exitcode in (0, -9)
    do_due_work(connection, until, TENANT)
    for number in range(12):
        history = list_history(connection, TENANT, f"w{number}")
        assert [(one["from"], one["to"], one["at"][:10]) for one in history] == [
            (None, "draft", "2013-01-15"), ("draft", "active", f"2013-02-{number + 1:02}"),
            ("active", "canceled", "2013-03-01"),
        ]  # fmt: skip
    assert do_due_work(connection, until + timedelta(days=9), TENANT) == 0


def test_missed_instants_are_made_up_for_in_order_by_the_worlds_clock_alone(
    connection: Connection,
) -> None:
    connection.execute("INSERT INTO tenants (tenant, name) VALUES ('own', 'O')")
    connection.execute("INSERT INTO tenant_clocks VALUES ('own', %s)", (NOW,))
    subscribe(connection, "down", "2013-04-01", end="2013-04-03")
    done: Any = do_due_work(connection, datetime(2013, 5, 1, tzinfo=UTC))
    assert done == 2
    assert [one["at"][:10] for one in list_history(connection, TENANT, "down")] == [
        "2013-01-15", "2013-04-01", "2013-04-03",
    ]  # fmt: skip
