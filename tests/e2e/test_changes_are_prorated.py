"""Changes of a subscription in Postgres: previewed, made, billed and earned."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest

from billing import postgres_verbs as verbs
from billing.customer import Item
from billing.postgres_catalog import apply
from billing.postgres_ledger import post_month_ends
from billing.postgres_preview import preview
from billing.postgres_subscriptions import list_history
from billing.postgres_verbs import Writer
from billing.verbs import VerbError
from tests.e2e.billing_databases import Make, databases
from tests.e2e.billing_world import TENANT, Connection, PostgresCutsUsage
from tests.embedded_stack import EmbeddedStack
from tests.unit.billing.world import NOW, declare
from tollbook import clock_runs
from tollbook.stack_file import Stack

PLANS = """
price_books:
- key: basic
  versions:
  - {version: 1, currency: USD, charges: [
     {key: fee, model: flat, amount: "9.99", timing: advance},
     {key: seats, model: per_seat, quantity_from: item, unit_price: "3.00", timing: advance}]}
- key: pro
  versions:
  - {version: 1, currency: USD, charges: [
     {key: fee, model: flat, amount: "29.99", timing: advance},
     {key: seats, model: per_seat, quantity_from: item, unit_price: "5.00", timing: advance}]}
"""
AGREED = """
customers:
- {key: P, name: Pat, currency: USD, time_zone: Asia/Tokyo}
subscriptions:
- {key: S, customer: P, start: 2013-03-10,
   items: [{key: plan, price_book: basic, quantities: {seats: "2"}}]}
"""


@pytest.fixture(scope="module")
def make(stack: EmbeddedStack) -> Iterator[Make]:
    with databases(stack) as made:
        yield made


class World:
    """A tenant that lives by its own clock, from the first of March."""

    def __init__(self, make: Make) -> None:
        dsn, self.connection = make("changes")
        started = datetime(2013, 3, 1, tzinfo=UTC)
        self.connection.execute("INSERT INTO tenant_clocks VALUES (%s, %s)", (TENANT, started))
        apply(self.connection, TENANT, declare(PLANS, AGREED), NOW)
        self.stack = Stack("", "", "", dsn, "", "", TENANT, "", {})
        self.usage = PostgresCutsUsage(self.connection, [], as_if=date(2014, 1, 1))
        self.writer = Writer(self.connection, TENANT, "Kim", NOW)

    def advance(self, to: datetime) -> list[Any]:
        """Return the documents that are issued to the customer on the way."""
        done = clock_runs.advance(
            self.stack, to, None, lambda _done, _total: None, lambda _: self.usage
        )
        return [document for document in done["documents"] if document["customer"] == "P"]

    def change(self, verb: Callable[[Writer], dict[str, Any]], to: datetime) -> list[Any]:
        """Preview a change through an instant, make it and advance; both must bill the same."""
        before = contents(self.connection)
        shown = preview(self.writer, self.usage, "S", verb, to)
        assert contents(self.connection) == before
        after = verb(self.writer)
        documents = self.advance(to)
        for one in (shown["subscription"], after):
            del one["changed_at"]
        assert shown["subscription"] == after
        told = [line for document in shown["documents"] for line in document["lines"]]
        billed = lines_of(self.connection, [document["number"] for document in documents])
        names = ("item", "charge", "kind", "description", "service_from", "amount_minor")
        assert [tuple(str(line[name]) for name in names) for line in told] == billed
        return billed


def contents(connection: Connection) -> list[Any]:
    tables = ("subscriptions", "subscription_history", "outbox", "invoices", "bill_runs",
              "line_positions", "billed_periods", "journal_entries")  # fmt: skip
    return [
        connection.execute(f"SELECT count(*), max(t::text) FROM {table} t").fetchone()
        for table in tables
    ]


def lines_of(connection: Connection, numbers: list[str]) -> list[Any]:
    rows = connection.execute(
        "SELECT item, charge, kind, description, service_from::text, amount_minor::text"
        " FROM invoice_lines JOIN invoices USING (invoice_id) WHERE number = ANY(%s)"
        " ORDER BY bill_on, document_type DESC, ordinal",
        (numbers,),
    ).fetchall()
    return [tuple(row) for row in rows]


def utc(month: int, day: int, hour: int = 15) -> datetime:
    """Return an instant; midnight in Tokyo is 15:00 of the day before."""
    return datetime(2013, month, day, hour, tzinfo=UTC)


def test_a_preview_is_what_the_change_then_bills_and_the_books_earn_what_was_billed(
    make: Make,
) -> None:
    world = World(make)
    assert [one["total"] for one in world.advance(utc(3, 20))] == ["11.35"]
    pro = Item(key="pro", price_book="pro")
    upgraded = world.change(
        lambda w: verbs.change_item(w, "S", "plan", pro, date(2013, 3, 21), "more room"),
        utc(3, 21),
    )
    # 9.99 over 31 days from the 10th is 7.09; 11 of its days are used, 3.55, and 3.54 credited.
    assert sorted(line[1:3] + line[5:] for line in upgraded) == [
        ("fee", "proration_charge", "1064"), ("fee", "proration_credit", "-354"),
        ("seats", "proration_charge", "355"), ("seats", "proration_credit", "-213"),
    ]  # fmt: skip
    seats = ("pro", "seats", "4")
    assert world.change(
        lambda w: verbs.set_seats(w, "S", seats, date(2013, 3, 28), "two more"), utc(4, 1)
    )[-2:] == [
        ("pro", "seats", "proration_credit", "seats, not used from 2013-03-28: 4 seats",
         "2013-03-28", "-129"),
        ("pro", "seats", "proration_charge", "seats, from 2013-03-28: 4 seats",
         "2013-03-28", "258"),
    ]  # fmt: skip
    world.change(lambda w: verbs.pause(w, "S", date(2013, 4, 11), None, "away"), utc(4, 12))
    world.change(lambda w: verbs.resume(w, "S", date(2013, 4, 21), "back"), utc(5, 2))
    gone = world.change(lambda w: verbs.cancel(w, "S", date(2013, 5, 5), "moves away"), utc(5, 5))
    assert {line[2] for line in gone} == {"proration_credit"}
    with pytest.raises(VerbError, match="it is canceled"):
        preview(world.writer, world.usage, "S", lambda w: verbs.resume(w, "S", "now", "x"))
    _check_books(world.connection)
    _check_history(list_history(world.connection, TENANT, "S"))


def _check_history(told: list[dict[str, Any]]) -> None:
    moves = [(one["to"], one["reason"]) for one in told if one["actor"] == "Kim"]
    # Its first invoice is due on 19 April and not paid: it is overdue when it comes back.
    assert moves == [
        ("active", "more room"), ("active", "two more"), ("active", "away"), ("paused", "back"),
        ("past_due", "moves away"),
    ]  # fmt: skip
    assert [one["to"] for one in told if one["actor"] == "schedule"] == [
        "active", "active", "active", "paused", "past_due", "canceled",
    ]  # fmt: skip
    [upgrade] = [one for one in told if one["reason"] == "more room"]
    assert (upgrade["credited"], upgrade["charged"]) == ({"USD": "-5.67"}, {"USD": "14.19"})


def _check_books(connection: psycopg.Connection[Any]) -> None:
    """See that each day agreed is earned, by months, and nothing stays deferred."""
    post_month_ends(connection, TENANT, date(2013, 5, 1))
    deferred, earned = [
        connection.execute(
            "SELECT -coalesce(sum(amount_minor), 0) FROM postings WHERE gl_code LIKE %s", (code,)
        ).fetchone()
        for code in ("deferred_revenue%", "revenue:%")
    ]
    billed = connection.execute("SELECT sum(amount_minor) FROM invoice_lines").fetchone()
    assert deferred == (0,)
    assert earned == billed
