"""Verbs over HTTP; and a tenant's own clock, by which the same falls due, twice the same."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from psycopg.conninfo import make_conninfo

from billing.postgres_catalog import apply
from billing.postgres_clock import read_clock
from billing.postgres_subscriptions import list_history
from tests.e2e.api_world import billed_world, call, get
from tests.e2e.billing_databases import Make, databases
from tests.e2e.billing_world import EVENTS, TENANT, PostgresCutsUsage, contents
from tests.embedded_stack import EmbeddedStack
from tests.unit.billing.world import NOW, declare
from tollbook import clock_runs
from tollbook.stack_file import Stack

PATH = "/v1/subscriptions"
TERMS = {"customer": "UA", "start": "2031-01-15", "items": [{"key": "m", "price_book": "plain"}]}
PLAIN = """
price_books:
- key: plain
  versions:
  - {version: 1, currency: USD, charges: [
     {key: base, model: flat, amount: "10.00", timing: advance},
     {key: seats, model: per_seat, quantity_from: item, unit_price: "2.00", timing: advance}]}
"""

LATER = """
customers:
- {key: N, name: New, currency: USD}
- {key: T, name: Trier, currency: USD, time_zone: Asia/Tokyo}
subscriptions:
- {key: later, customer: N, start: 2013-03-10, end: 2013-09-20,
   items: [{key: m, price_book: plain}]}
- {key: trial, customer: T, start: 2013-02-05, end: 2013-03-16, trial: {days: 14, remind_days: [2]},
   items: [{key: m, price_book: plain}]}
"""


@pytest.fixture(scope="module")
def make(stack: EmbeddedStack) -> Iterator[Make]:
    with databases(stack) as made:
        yield made


@pytest.fixture(scope="module")
def client(stack: EmbeddedStack) -> Iterator[TestClient]:
    with billed_world(stack, "verbs") as client:
        dsn = make_conninfo(stack.read().postgres_dsn, dbname="verbs")
        with psycopg.connect(dsn, autocommit=True) as connection:
            apply(connection, TENANT, declare(PLAIN), NOW)
        yield client


def test_a_subscription_is_made_changed_canceled_and_succeeded(client: TestClient) -> None:
    terms = {"key": "V", **TERMS}
    made = call(client, "POST", PATH, terms, idempotency_key="one")
    assert (made.status_code, made.headers["etag"], made.json()["state"]) == (201, '"1"', "draft")
    assert call(client, "POST", PATH, terms, idempotency_key="one").json() == made.json()
    assert call(client, "POST", PATH, terms).json()["current_version"] == 1

    seats = {"item": "m", "charge": "seats", "quantity": "3", "at": "2031-02-10"}
    assert call(client, "POST", f"{PATH}/V/seats", seats).status_code == 428
    changed = call(client, "POST", f"{PATH}/V/seats", seats, if_match='"1"')
    assert changed.json()["items"][0]["quantities"] == {
        "seats": [{"from": "2031-02-10", "quantity": "3"}]
    }
    end = {"at": "period_end", "reason": "moves away"}
    stale = call(client, "POST", f"{PATH}/V/cancel", end, if_match='"1"')
    assert (stale.status_code, stale.json()["current_version"]) == (409, 2)
    ended = call(client, "POST", f"{PATH}/V/cancel", end, if_match='"2"').json()
    assert (ended["state"], ended["cancel_at"][:10]) == ("draft", "2031-02-01")
    undone = call(client, "POST", f"{PATH}/V/undo-cancel", {}, if_match='"3"').json()
    assert (undone["cancel_at"], undone["version"]) == (None, 4)
    gone = call(client, "POST", f"{PATH}/V/cancel", {"at": "now"}, if_match="*").json()
    assert (gone["state"], gone["cancel_at"][:10], gone["version"]) == ("draft", "2031-01-15", 5)
    history = get(client, f"{PATH}/V/history")["items"]
    assert [(one["version"], one["actor"], one["reason"]) for one in history] == [
        (1, "key tb_owner", "created"), (2, "key tb_owner", "asked for"),
        (3, "key tb_owner", "moves away"), (4, "key tb_owner", "asked for"),
        (5, "key tb_owner", "asked for"),
    ]  # fmt: skip
    follows = call(client, "POST", PATH, {**terms, "key": "V2", "predecessor": "V"})
    assert (follows.status_code, follows.json()["predecessor"]) == (201, "V")
    assert [one["key"] for one in get(client, f"{PATH}?state=draft")["items"]] == ["V", "V2"]


def test_what_cannot_be_done_is_refused_with_its_reason(client: TestClient) -> None:
    assert call(client, "POST", f"{PATH}/none/cancel", {}, if_match="*").status_code == 404
    early = call(client, "POST", f"{PATH}/S-UA/cancel", {"at": "2013-01-10"}, if_match="*")
    assert (early.status_code, "is over" in early.json()["detail"]) == (409, True)
    none = call(client, "POST", f"{PATH}/S-UA/undo-cancel", {}, if_match="*")
    assert (none.status_code, none.json()["detail"]) == (409, "no end of it is planned")
    assert call(client, "GET", f"{PATH}/S-UA", key="tb_other").status_code == 404
    assert call(client, "POST", "/v1/clock/advance", {"by": "1 day"}).status_code == 409
    late = call(client, "POST", "/v1/clock/start", {"at": "2013-01-01T00:00:00Z"})
    assert (late.status_code, get(client, "/v1/clock")["virtual"]) == (409, False)


def test_a_trial_that_needs_a_payment_method_goes_on_once_there_is_one(client: TestClient) -> None:
    needed = {"days": 14, "payment_method": "needed", "without": "canceled"}
    made = call(client, "POST", PATH, {"key": "T", **TERMS, "trial": needed}).json()
    assert made["cancel_at"][:10] == "2031-01-29"
    assert call(client, "POST", f"{PATH}/T/trial", {}, if_match="*").status_code == 422
    given = {"payment_method": "given"}
    kept = call(client, "POST", f"{PATH}/T/trial", given, if_match="*").json()
    assert (kept["cancel_at"], kept["trial"]["payment_method"]) == (None, "given")
    again = call(client, "POST", f"{PATH}/T/trial", given, if_match="*")
    assert (again.status_code, "is given" in again.json()["detail"]) == (409, True)


def _lived(make: Make, name: str, spans: list[str]) -> tuple[dict[str, list[Any]], list[Any]]:
    """Live through a year and a bit by a clock of its own; returns what was billed, and moved."""
    dsn, connection = make(name)
    started = datetime(2012, 12, 31, tzinfo=UTC)
    connection.execute("INSERT INTO tenant_clocks VALUES (%s, %s)", (TENANT, started))
    apply(connection, TENANT, declare(PLAIN, LATER), NOW)
    stack = Stack("", "", "", dsn, "", "", TENANT, "", {})
    usage = PostgresCutsUsage(connection, EVENTS, as_if=date(2014, 1, 1))
    done = [
        clock_runs.advance(
            stack, None, span, lambda _done, _total: None, lambda _: usage, closes=True
        )
        for span in spans
    ]
    assert read_clock(connection, TENANT, NOW).at.isoformat() == done[-1]["at"]
    assert sum(each["work_done"] for each in done) == 6
    # It begins on the last of December, 2012: that month is closed first, November last.
    months = connection.execute(
        "SELECT DISTINCT to_char(effective_on, 'YYYY-MM') FROM journal_entries"
        " WHERE kind = 'recognition' ORDER BY 1"
    ).fetchall()
    assert months == [(f"2013-{month:02}",) for month in range(1, 12)]
    history = [list_history(connection, TENANT, key) for key in ("later", "trial")]
    return contents(connection), history


def test_a_year_by_an_own_clock_is_the_same_in_one_step_and_in_many(make: Make) -> None:
    at_once = _lived(make, "at_once", ["1 year"])
    assert (
        _lived(make, "by_steps", ["3 days", "8 months", "36 hours", "118 days", "12 hours"])
        == at_once
    )
    billed, (history, tried) = at_once
    assert [(one["from"], one["to"], one["at"]) for one in history] == [
        (None, "draft", "2012-12-31T00:00:00+00:00"),
        ("draft", "active", "2013-03-10T00:00:00+00:00"),
        ("active", "canceled", "2013-09-20T00:00:00+00:00"),
    ]
    own = [(str(row[3]), row[4]) for row in billed["invoices"] if row[2] == "N"]
    assert own == [
        ("2013-03-10", 710), *((f"2013-0{month}-01", 1000) for month in range(4, 9)),
        ("2013-09-01", 633),
    ]  # fmt: skip
    assert [(one["to"], one["at"][:16]) for one in tried] == [
        ("draft", "2012-12-31T00:00"), ("trialing", "2013-02-04T15:00"),
        ("trialing", "2013-02-16T15:00"), ("active", "2013-02-18T15:00"),
        ("canceled", "2013-03-15T15:00"),
    ]  # fmt: skip
    own = [(str(row[3]), row[4]) for row in billed["invoices"] if row[2] == "T"]
    assert own == [("2013-02-19", 357), ("2013-03-01", 484)]
