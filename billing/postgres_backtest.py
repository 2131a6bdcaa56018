"""Reads what was billed on some days, to be rated again; writes nothing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

from billing.backtest import Days, Past
from billing.charge import Charge
from billing.charge_period import ChargeKey
from billing.due import BilledPeriod
from billing.facts import Facts
from billing.postgres_facts import Connection, load_facts
from billing.postgres_runs import BILLED, to_billed
from billing.price_book_draft import Draft
from billing.rating import State
from billing.spending import PeriodKey
from pipelines.usage import Cut

_ON_DAYS = " AND b.starts_on >= %(start)s AND b.starts_on < %(end)s"
_STATES = """
    SELECT subscription, item, charge, starts_at, state_in FROM (
        SELECT DISTINCT ON (subscription, item, charge, starts_at) *
        FROM rating_states WHERE tenant = %(tenant)s AND cut_number <= %(cut)s
        ORDER BY subscription, item, charge, starts_at, cut_number DESC) AS latest
    WHERE state_in <> '{}'
"""
_POSITIONS = """
    SELECT subscription, item, charge, period_start, sum(amount_minor)::bigint FROM line_positions
    WHERE tenant = %s GROUP BY subscription, item, charge, period_start
"""


def load_facts_at(connection: Connection, cut: Cut) -> Facts:
    """Return the facts that a cut sees."""
    return load_facts(connection, cut.tenant, cut.facts_revision)


def load_past(connection: Connection, facts: Facts, cut: Cut, draft: Draft, days: Days) -> Past:
    """Return what was billed of some days to customers who are on the draft's book."""
    charges = [c for b in facts.price_books.values() for v in b.versions for c in v.charges]
    charges += draft.version.charges
    commits = any(charge.model == "commitment" for charge in charges)
    bound = {"tenant": cut.tenant, "cut": cut.number, "start": days[0], "end": days[1]}
    rows = connection.execute(
        f"SELECT {BILLED} WHERE b.tenant = %(tenant)s"
        f"{'' if commits else _ON_DAYS} ORDER BY b.starts_at",
        bound,
    )
    states: dict[tuple[ChargeKey, datetime], State] = {}
    if _carries(charges, facts):
        for *key, at, state in connection.execute(_STATES, bound):
            states[(key[0], key[1], key[2]), at] = state
    positions: dict[str, dict[PeriodKey, int]] = defaultdict(dict)
    if commits:
        for subscription, item, charge, at, minor in connection.execute(_POSITIONS, (cut.tenant,)):
            positions[subscription][item, charge, at] = int(minor)
    billed = _of_customers(facts, draft.price_book, days, (to_billed(row) for row in rows))
    return Past(facts, cut, days, billed, states, positions)


def _carries(charges: Iterable[Charge], facts: Facts) -> bool:
    """Return whether any period may begin with what an earlier one left."""
    return any(charge.rollover is not None for charge in charges) or any(
        discount.periods_max is not None
        for subscription in facts.subscriptions.values()
        for item in subscription.items
        for discount in item.discounts
    )


def _of_customers(
    facts: Facts, price_book: str, days: Days, periods: Iterable[BilledPeriod]
) -> Mapping[str, Mapping[ChargeKey, list[BilledPeriod]]]:
    """Return the periods, by subscription, of customers who had any on a book on some days."""
    found: dict[str, dict[ChargeKey, list[BilledPeriod]]] = defaultdict(dict)
    on_book = {
        (one.key, item.key)
        for one in facts.subscriptions.values()
        for item in one.items
        if item.price_book == price_book
    }
    customers = set()
    for period in periods:
        subscription = period.key[0]
        if subscription not in facts.subscriptions:
            continue  # begun after the cut
        found[subscription].setdefault(period.key, []).append(period)
        if period.key[:2] in on_book and days[0] <= period.starts_on < days[1]:
            customers.add(facts.subscriptions[subscription].customer)
    return {
        key: own for key, own in found.items() if facts.subscriptions[key].customer in customers
    }
