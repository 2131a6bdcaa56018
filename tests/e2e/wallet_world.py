"""A customer with a wallet, and documents of any amounts, issued as a bill run issues them."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from billing.charge_period import ChargePeriod
from billing.document import Document, Draft, Rated
from billing.due import Scope, due
from billing.money import text_of, to_major
from billing.postgres_catalog import apply
from billing.postgres_clock import set_clock
from billing.postgres_runs import PostgresRuns
from billing.postgres_wallet_grants import create_wallet
from billing.postgres_wallets import WalletWriter
from billing.rating import LineKey, PeriodInputs, Target
from billing.wallet_terms import TopUp, WalletTerms
from pipelines.usage import Cut
from tests.e2e.billing_databases import Connection
from tests.unit.billing.world import METERS, NOW, declare, facts_of

BOOK = """
price_books:
- {key: two, versions: [{version: 1, currency: USD, charges: [
    {key: a, model: per_unit, meter: seats, unit_price: "0.01"},
    {key: b, model: per_unit, meter: seats, unit_price: "0.01"}]}]}
customers:
- {key: C, name: C, currency: USD}
subscriptions:
- {key: S, customer: C, start: 2013-01-01, items: [{key: m, price_book: two}]}
"""
FACTS = facts_of(METERS, BOOK)
FIRST = datetime(2013, 1, 1, tzinfo=UTC)
Month = tuple[str, int]
"""A charge, and the number of a month of 2013."""

PERIODS: Mapping[Month, ChargePeriod] = {
    (one.charge, one.period.starts_on.month): one
    for one in due(FACTS, {}, Scope("bill", date(2013, 5, 1)))
}


def day(number: float) -> datetime:
    """Return an instant by days since the first."""
    return FIRST + timedelta(days=number)


class WalletWorld:
    """A tenant of its own, with a clock of its own that stands at noon of the first day."""

    def __init__(self, connection: Connection, tenant: str, top_up: TopUp | None = None) -> None:
        self.connection = connection
        self.tenant = tenant
        connection.execute("INSERT INTO tenants VALUES (%s, 'W', true, true)", (tenant,))
        connection.execute("INSERT INTO tenant_clocks VALUES (%s, %s)", (tenant, day(0.5)))
        apply(connection, tenant, declare(METERS, BOOK), NOW)
        create_wallet(
            self.writer(0.5), WalletTerms(key="w", customer="C", currency="USD", top_up=top_up)
        )
        self.billed: set[Month] = set()

    def writer(self, now: float) -> WalletWriter:
        """Return a writer at a day."""
        return WalletWriter(self.connection, self.tenant, "tests", day(now))

    def bill(self, amounts: Mapping[Month, int], now: float = 0.5) -> list[Document]:
        """Bring what is billed to these amounts: for the first time, or as corrections."""
        set_clock(self.connection, self.tenant, day(now))
        cut = self._cut(now)
        rated = {key: _rated(PERIODS[key], amount) for key, amount in sorted(amounts.items())}
        draft = Draft(
            FACTS.customers["C"],
            day(now).date(),
            tuple(one for key, one in rated.items() if key not in self.billed),
            tuple(one for key, one in rated.items() if key in self.billed),
            (),
            {},
        )
        self.billed |= rated.keys()
        runs = PostgresRuns(self.connection, self.tenant)
        run = runs.begin(Scope("bill", day(now)), cut)
        issued = runs.issue(run, cut, draft)
        runs.finish(run)
        return issued

    def _cut(self, now: float) -> Cut:
        row = self.connection.execute(
            "INSERT INTO cuts (tenant, number, at, facts_revision) SELECT %s,"
            " (SELECT count(*) + 1 FROM cuts WHERE tenant = %s), %s, 1 RETURNING number",
            (self.tenant, self.tenant, day(now)),
        ).fetchone()
        assert row is not None
        return Cut(self.tenant, row[0], day(now), 1)

    def balances(self) -> dict[str, int]:
        """Return what stands on each account of the books; debits are positive."""
        rows = self.connection.execute(
            "SELECT gl_code, sum(amount_minor)::bigint FROM postings WHERE tenant = %s GROUP BY 1",
            (self.tenant,),
        ).fetchall()
        return {code: minor for code, minor in rows if minor}

    def one(self, query: str) -> Any:
        """Return what a query of the tenant answers in its first column."""
        row = self.connection.execute(query, (self.tenant,)).fetchone()
        assert row is not None
        return row[0]


def _rated(period: ChargePeriod, amount_minor: int) -> Rated:
    within = period.period
    amount = to_major(amount_minor, "USD")
    key = LineKey("S", "m", period.charge, (), within.starts_at, within.ends_at, within.starts_at)
    target = Target(
        key=key,
        kind="usage",
        quantity=Decimal(amount_minor),
        unit="seat",
        amount_minor=amount_minor,
        currency="USD",
        service_from=within.starts_on,
        service_until=within.ends_on,
        product="flights",
        description=period.charge,
        price_book="two",
        book_version=1,
        trace=({"step": "as told", "amount": text_of(amount)},),
    )
    return Rated(PeriodInputs(period, "seat", ({},)), (target,), {}, {})
