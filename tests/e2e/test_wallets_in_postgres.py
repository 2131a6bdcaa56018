"""Wallets in a real Postgres: a thousand at once never overspend; documents alone draw, once."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from billing.customer import Item
from billing.due import Scope
from billing.postgres_catalog import DeclarationError, apply
from billing.postgres_due_work import do_due_work
from billing.postgres_preview import preview
from billing.postgres_runs import PostgresRuns
from billing.postgres_verbs import Writer, change_item
from billing.postgres_wallet_grants import create_wallet, grant, top_up
from billing.postgres_wallet_holds import hold, release, settle
from billing.postgres_wallet_reports import (
    find_wallet,
    list_holds,
    list_movements,
    reconcile,
)
from billing.postgres_wallets import WalletWriter
from billing.run import prepare
from billing.wallet_terms import (
    EventName,
    GrantTerms,
    HoldTerms,
    Settlement,
    TopUp,
    WalletError,
    WalletTerms,
)
from tests.e2e.billing_databases import Connection, Make, databases
from tests.e2e.billing_world import EVENTS, TENANT, PostgresCutsUsage, close
from tests.e2e.wallet_world import WalletWorld, day
from tests.embedded_stack import EmbeddedStack
from tests.unit.billing.world import NOW, declare
from tollbook import clock_runs
from tollbook.stack_file import Stack

HOLDS, CONNECTIONS = 1000, 12


@pytest.fixture(scope="module")
def make(stack: EmbeddedStack) -> Iterator[Make]:
    with databases(stack) as made:
        yield made


@pytest.fixture(scope="module")
def known(make: Make) -> tuple[str, Connection]:
    return make("wallets")


def bought(key: str, amount: str, **more: object) -> GrantTerms:
    terms = {"key": key, "amount": amount, "payment": f"paid-{key}", **more}
    return GrantTerms.model_validate(terms)


def given(key: str, amount: str, **more: object) -> GrantTerms:
    return GrantTerms.model_validate({"key": key, "amount": amount, "kind": "promotional", **more})


def test_a_thousand_holds_at_once_never_overspend(known: tuple[str, Connection]) -> None:
    """Of 100.00 in five grants, holds of 0.30 to 0.70 are made and half of them ended at once."""
    dsn, connection = known
    world = WalletWorld(connection, "thousand")
    for number in range(5):
        grant(world.writer(0.5), "w", bought(f"g{number}", "20.00"))

    def work(worker: int) -> list[str]:
        outcomes = []
        with psycopg.connect(dsn, autocommit=True) as own:
            writer = WalletWriter(own, world.tenant, f"worker {worker}", day(0.5))
            for number in range(worker, HOLDS, CONNECTIONS):
                key, minor = f"h{number}", 30 + number % 41
                try:
                    hold(writer, "w", HoldTerms(key=key, amount=Decimal(minor) / 100))
                except WalletError as error:
                    outcomes.append("refused" if "available" in str(error) else str(error))
                    continue
                outcomes.append("held")
                if number % 4 == 0:
                    release(writer, "w", key)
                elif number % 4 == 1:
                    events = (EventName(source="e", id=key),)
                    used = Settlement(amount=Decimal(minor - 10) / 100, events=events)
                    settle(writer, "w", key, used)
        return outcomes

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        done = Counter(one for found in threads.map(work, range(CONNECTIONS)) for one in found)
    assert set(done) == {"held", "refused"}
    assert sum(done.values()) == HOLDS
    assert done["refused"] > HOLDS // 4
    wallet = find_wallet(connection, world.tenant, "w")
    assert wallet is not None
    holds = list_holds(connection, world.tenant, "w")
    taken = {"open": 0, "settled": 0, "released": 0}
    for one in holds:
        taken[one["state"]] += one["settled_minor"] or one["amount_minor"]
    assert len(holds) == done["held"]
    assert (wallet["held_minor"], wallet["unbilled_minor"]) == (taken["open"], taken["settled"])
    assert taken["open"] + taken["settled"] + wallet["available_minor"] == 100_00
    assert 0 <= wallet["available_minor"] < 70
    assert reconcile(connection, world.tenant)["faults"] == []


def test_the_database_refuses_what_overspends_or_rewrites(known: tuple[str, Connection]) -> None:
    connection = known[1]
    world = WalletWorld(connection, "refuses")
    grant(world.writer(0.5), "w", bought("g", "1.00"))
    hold(world.writer(0.5), "w", HoldTerms(key="h", amount=Decimal("0.60")))
    movement = (
        "INSERT INTO wallet_movements (tenant, wallet, sequence, number, kind, left_minor,"
        " at, actor, reason) VALUES ('refuses', 'w', 3, 1, 'void', {}, now(), 'x', 'x')"
    )
    for statement in (
        movement.format(-41),
        movement.format(41),
        "UPDATE wallet_grants SET left_minor = 500 WHERE tenant = 'refuses'",
        "UPDATE wallet_holds SET state = 'settled', settled_minor = 70, used_at = held_at",
        "UPDATE wallet_holds SET state = 'released' WHERE tenant = 'refuses'",
        "DELETE FROM wallet_movements WHERE tenant = 'refuses'",
        "TRUNCATE wallet_events",
    ):
        with pytest.raises(psycopg.errors.IntegrityError):
            connection.execute(statement)
    wallet = find_wallet(connection, "refuses", "w")
    assert wallet is not None
    assert (wallet["balance"], wallet["available"]) == ("1.00", "0.40")


def test_a_bill_run_draws_once_and_looking_ahead_draws_nothing(make: Make) -> None:
    connection = make("drawing")[1]
    writer = WalletWriter(connection, TENANT, "tests", day(0))
    create_wallet(writer, WalletTerms(key="ua", customer="UA", currency="USD"))
    grant(writer, "ua", given("welcome", "10.00", priority=10))
    grant(writer, "ua", bought("bought", "60.00", scope={"charges": ["dep"]}))
    usage = PostgresCutsUsage(connection, EVENTS)
    store = PostgresRuns(connection, TENANT)
    cut = usage.fix_cut(TENANT, day(32))
    drafts = prepare(store, usage, store.facts(2**62), Scope("close", date(2013, 2, 1)), cut)
    assert [draft.customer.key for draft in drafts if draft.customer.key == "UA"]
    assert [one["kind"] for one in list_movements(connection, TENANT, "ua")] == ["grant"] * 2

    close(connection, date(2013, 1, 1))
    moved = list_movements(connection, TENANT, "ua")
    close(connection, date(2013, 1, 1))
    assert list_movements(connection, TENANT, "ua") == moved
    rows = connection.execute(
        "SELECT total_minor, wallet_minor, amount_due_minor FROM invoices WHERE customer = 'UA'"
        " ORDER BY number"
    ).fetchall()
    # The fee in advance takes what is drawn first; the other pays for one charge alone.
    assert [row[1] for row in rows] == [10_00, 60_00]
    assert [total - wallet - due for total, wallet, due in rows] == [0, 0]
    drawn: Counter[str] = Counter()
    for one in moved[2:]:
        drawn[one["grant"]] -= one["left_minor"]
    assert drawn == {"welcome": 10_00, "bought": 60_00}
    assert reconcile(connection, TENANT)["faults"] == []


def test_credit_is_asked_for_once_and_granted_when_it_is_paid(
    known: tuple[str, Connection],
) -> None:
    connection = known[1]
    asks = TopUp(below=Decimal(10), amount=Decimal(25))
    world = WalletWorld(connection, "asks", asks)
    writer = world.writer(0.5)
    for _ in range(2):
        granted = top_up(writer, "w", "payment-1")
    assert (granted["key"], granted["left"]) == ("top-up-1", "25.00")
    hold(writer, "w", HoldTerms(key="h", amount=Decimal(16)))
    hold(writer, "w", HoldTerms(key="i", amount=Decimal(1)))
    told = connection.execute(
        "SELECT aggregate_version, event_type, payload->>'amount_minor' FROM outbox"
        " WHERE tenant = 'asks' AND aggregate = 'wallet/w' ORDER BY 1"
    ).fetchall()
    assert told == [(1, "wallet.top_up_asked", "2500"), (2, "wallet.top_up_asked", "2500")]
    assert world.balances() == {"cash": 25_00, "prepaid_credit": -25_00}


def test_what_expires_is_breakage_until_a_late_correction_of_its_time_draws_it(
    known: tuple[str, Connection],
) -> None:
    connection = known[1]
    world = WalletWorld(connection, "late")
    grant(world.writer(0.5), "w", bought("g", "5.00", cost="4.00", expires_at="2013-02-10"))
    world.bill({("a", 1): 1_00}, now=31.5)
    do_due_work(connection, day(45), world.tenant)
    books = world.balances()
    assert (books["breakage"], books["promotional_credit"]) == (-3_20, 20)
    assert "prepaid_credit" not in books
    [document] = world.bill({("a", 1): 3_00, ("a", 4): 9_00}, now=121.5)
    # Two more of January are paid by what was valid then; April is asked for in money.
    assert document.total_minor == 11_00
    assert world.balances()["receivable"] == 9_00
    assert world.balances()["breakage"] == -1_60
    world.bill({("a", 1): 0}, now=121.5)
    assert world.balances()["receivable"] == 9_00
    do_due_work(connection, day(121.5), world.tenant)
    assert world.balances()["breakage"] == -4_00
    assert reconcile(connection, world.tenant)["faults"] == []


def test_a_declared_wallet_asks_for_top_ups_as_its_file_says(
    known: tuple[str, Connection],
) -> None:
    connection = known[1]
    world = WalletWorld(connection, "declared")

    def applied(*wallets: str) -> list[tuple[str, str]]:
        text = "\n".join(["wallets:", *(f"- {{customer: C, currency: USD, {w}}}" for w in wallets)])
        found = apply(connection, world.tenant, declare(text), NOW)
        return [(one.key, one.outcome) for one in found]

    asks = 'key: w, top_up: {below: "5.00", amount: "10.00"}'
    assert applied("key: w") == [("w", "unchanged")]
    assert applied(asks) == [("w", "changed")]
    assert applied(asks) == [("w", "unchanged")]
    wallet = find_wallet(connection, world.tenant, "w")
    assert wallet is not None
    assert (wallet["top_up"], wallet["top_up_pending"]) == ("10.00", 1)
    for other in ("key: v", "key: w, tax_at: purchase"):
        with pytest.raises(DeclarationError):
            applied(other)
    assert find_wallet(connection, world.tenant, "v") is None
    assert find_wallet(connection, world.tenant, "w") == wallet


PLANS = """
price_books:
- {key: basic, versions: [{version: 1, currency: USD, charges: [
    {key: fee, model: flat, amount: "10.00", timing: advance}]}]}
- {key: pro, versions: [{version: 1, currency: USD, charges: [
    {key: fee, model: flat, amount: "30.00", timing: advance}]}]}
customers:
- {key: P, name: Pat, currency: USD}
subscriptions:
- {key: S, customer: P, start: 2013-03-01, items: [{key: plan, price_book: basic}]}
"""


def test_an_upgrade_puts_back_what_is_not_used_and_its_preview_draws_nothing(make: Make) -> None:
    dsn, connection = make("upgrade")
    march = datetime(2013, 3, 1, tzinfo=UTC)
    connection.execute("INSERT INTO tenant_clocks VALUES (%s, %s)", (TENANT, march))
    apply(connection, TENANT, declare(PLANS), NOW)
    wallet = WalletWriter(connection, TENANT, "tests", march)
    create_wallet(wallet, WalletTerms(key="p", customer="P", currency="USD"))
    grant(wallet, "p", given("gift", "12.00"))
    usage = PostgresCutsUsage(connection, [], as_if=date(2014, 1, 1))
    stack = Stack("", "", "", dsn, "", "", TENANT, "", {})

    def advance(day_of_march: int) -> None:
        to = march.replace(day=day_of_march)
        clock_runs.advance(stack, to, None, lambda _done, _total: None, lambda _: usage)

    def upgrade(writer: Writer) -> dict[str, Any]:
        to = Item(key="pro", price_book="pro")
        return change_item(writer, "S", "plan", to, date(2013, 3, 16), "more")

    advance(2)
    writer = Writer(connection, TENANT, "Kim", NOW)
    before = list_movements(connection, TENANT, "p")
    preview(writer, usage, "S", upgrade, march.replace(day=17))
    assert list_movements(connection, TENANT, "p") == before
    upgrade(writer)
    advance(17)
    moved = list_movements(connection, TENANT, "p")[len(before) :]
    # 15 of 31 days of 10.00 are 4.84, so 5.16 come back; with the 2.00 that were left they are
    # drawn for the 15.48 of the other plan, and 8.32 are asked for.
    assert [(one["kind"], one["left"]) for one in moved] == [("restore", "5.16"), ("draw", "-7.16")]
    rows = connection.execute(
        "SELECT total_minor, wallet_minor, amount_due_minor FROM invoices WHERE customer = 'P'"
        " ORDER BY number"
    ).fetchall()
    assert rows == [(10_00, 10_00, 0), (10_32, 2_00, 8_32)]
    assert reconcile(connection, TENANT)["faults"] == []
