"""The same promise as in memory, on the real store: invoices and corrections equal one bill."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.due import Scope
from billing.postgres_catalog import apply
from billing.postgres_ledger import post_month_ends
from billing.postgres_runs import PostgresRuns
from billing.run import Report, bill
from pipelines.usage import Cut
from tests.e2e.billing_databases import Connection, databases
from tests.embedded_stack import EmbeddedStack
from tests.model.test_corrections import (
    BOOK,
    SUBSCRIPTIONS,
    customers_yaml,
    events,
    from_scratch,
    owners,
)
from tests.unit.billing.fake_usage import Event, FakeUsage
from tests.unit.billing.world import METERS, NOW, declare

_TENANTS = count(1)


@pytest.fixture(scope="module")
def connection(stack: EmbeddedStack) -> Iterator[Connection]:
    with databases(stack) as make:
        yield make("corrections")[1]


@settings(max_examples=8, deadline=None)
@given(
    history=st.lists(st.lists(events, min_size=3, max_size=20), min_size=5, max_size=5),
    owned=st.lists(owners, min_size=5, max_size=5),
)
def test_invoices_and_corrections_equal_a_from_scratch_invoice(
    connection: Connection,
    history: list[list[Event]],
    owned: list[dict[str, tuple[str, int, str]]],
) -> None:
    tenant = f"t{next(_TENANTS)}"
    connection.execute("INSERT INTO tenants VALUES (%s, 'T', true, true)", (tenant,))
    apply(connection, tenant, declare(METERS, BOOK, customers_yaml(owned[0]), SUBSCRIPTIONS), NOW)
    meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}

    def store_cut(cut: Cut) -> None:
        connection.execute(
            "INSERT INTO cuts (tenant, number, at, facts_revision) VALUES (%s, %s, %s, %s)",
            (cut.tenant, cut.number, cut.at, cut.facts_revision),
        )

    def revision() -> int:
        row = connection.execute(
            "SELECT revision FROM fact_revisions WHERE tenant = %s", (tenant,)
        ).fetchone()
        assert row is not None
        return int(row[0])

    usage = FakeUsage(meters, on_cut=store_cut, revision=revision)
    for step, (arrived, now_owned) in enumerate(zip(history, owned, strict=True)):
        usage.add(*arrived)
        apply(connection, tenant, declare(customers_yaml(now_owned)), NOW)
        scope = Scope("close", date(2013, 2 + step, 1))
        report = Report()
        bill(PostgresRuns(connection, tenant), usage, scope, NOW, lambda _a, _b: None, report)
        post_month_ends(connection, tenant, date(2013, 1 + step, 1))
    everything = [event for arrived in history for event in arrived]
    assert _as_billed(connection, tenant) == from_scratch(everything, owned[-1])
    assert _receivable(connection, tenant) == _open(connection, tenant)


def _as_billed(connection: Connection, tenant: str) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = defaultdict(int)
    for customer, since, charge, origin, version, amount_minor in connection.execute(
        "SELECT customer, service_from, charge, coalesce(dimensions->>'origin', ''), book_version,"
        " amount_minor FROM invoice_lines JOIN invoices USING (tenant, invoice_id)"
        " WHERE tenant = %s",
        (tenant,),
    ):
        found[customer, str(since.month), charge, origin, str(version)] += amount_minor
    return {key: cents for key, cents in found.items() if cents}


def _receivable(connection: Connection, tenant: str) -> list[tuple[str, int]]:
    return connection.execute(
        "SELECT customer, sum(amount_minor)::bigint FROM postings WHERE tenant = %s"
        " AND gl_code = 'receivable' GROUP BY 1 HAVING sum(amount_minor) <> 0 ORDER BY 1",
        (tenant,),
    ).fetchall()


def _open(connection: Connection, tenant: str) -> list[tuple[str, int]]:
    return connection.execute(
        "SELECT customer, sum(amount_due_minor)::bigint FROM invoices WHERE tenant = %s"
        " AND state = 'open' GROUP BY 1 ORDER BY 1",
        (tenant,),
    ).fetchall()
