"""A wallet in Postgres against coins in pots: whatever is done, both have the same, and the books.

Prices of a charge and month are never negative here; what takes off other lines is tried with the
rules alone.
"""

from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from billing.postgres_clock import set_clock
from billing.postgres_due_work import do_due_work
from billing.postgres_wallet_grants import grant, top_up, void
from billing.postgres_wallet_holds import hold, release, settle
from billing.postgres_wallet_reports import find_wallet, list_grants, reconcile
from billing.wallet_terms import (
    EventName,
    GrantTerms,
    HoldTerms,
    Settlement,
    TopUp,
    WalletError,
)
from tests.e2e.billing_databases import Connection, databases
from tests.e2e.wallet_world import FIRST, PERIODS, WalletWorld, day
from tests.embedded_stack import EmbeddedStack
from tests.model.wallet_model import Model, Pot

BELOW, TOP_UP = 15, 25
CHARGES = st.sampled_from([None, "a", "b"])
GRANTS = st.tuples(
    st.integers(10, 60), st.integers(0, 100), st.integers(0, 2), st.integers(-4, 40),
    st.none() | st.integers(1, 90), CHARGES,
)  # fmt: skip
"""Size, how much of it is paid in percent, priority, days since it began, days it lasts, scope."""

_TENANTS = count(1)


def month_days(month: int) -> tuple[float, float]:
    period = PERIODS["a", month].period
    return (period.starts_at - FIRST).days, (period.ends_at - FIRST).days


def amount(minor: int) -> Decimal:
    return Decimal(minor) / 100


@pytest.fixture(scope="module")
def connection(stack: EmbeddedStack) -> Iterator[Connection]:
    with databases(stack) as make:
        yield make("wallet_model")[1]


class Life(RuleBasedStateMachine):
    connection: Connection

    @initialize(first=st.lists(GRANTS, min_size=2, max_size=4))
    def begin(self, first: list[tuple[Any, ...]]) -> None:
        self.now, self.names = 0.5, count(1)
        asks = TopUp(below=amount(BELOW), amount=amount(TOP_UP))
        self.world = WalletWorld(self.connection, f"wallet-{next(_TENANTS)}", asks)
        self.model = Model(month_days, BELOW)
        self.settle_time()
        for terms in first:
            self._put_in(*terms)

    def settle_time(self) -> None:
        """Let both do what is due by now."""
        do_due_work(self.connection, day(self.now), self.world.tenant)
        self.model.pass_time(self.now)

    @rule(terms=GRANTS)
    def put_in(self, terms: tuple[Any, ...]) -> None:
        self._put_in(*terms)

    def _put_in(
        self, size: int, percent: int, priority: int, ago: int, length: int | None,
        charge: str | None,
    ) -> None:  # fmt: skip
        since = int(self.now) - ago
        cost = size * percent // 100
        number = len(self.model.pots) + 1
        terms: dict[str, Any] = {
            "key": f"g{number}", "amount": amount(size), "priority": priority,
            "effective_at": day(since), "kind": "prepaid" if cost else "promotional",
            "expires_at": None if length is None else day(since + length),
            "scope": {"charges": [charge] if charge else []},
        }  # fmt: skip
        if cost:
            terms |= {"cost": amount(cost), "payment": f"p{next(self.names)}"}
        for _ in range(2):  # the same again is the same grant
            grant(self.world.writer(self.now), "w", GrantTerms.model_validate(terms))
        until = float("inf") if length is None else since + length
        rank = (priority, until, cost > 0, since, number)
        self.model.grant(Pot(number, size, cost, rank, since, until, charge))
        self.settle_time()

    @rule()
    def pay_for_more(self) -> None:
        writer, payment = self.world.writer(self.now), f"p{next(self.names)}"
        if not self.model.tops_up:
            with pytest.raises(WalletError, match="asks for no top-up"):
                top_up(writer, "w", payment)
            return
        assert top_up(writer, "w", payment) == top_up(writer, "w", payment)
        number = len(self.model.pots) + 1
        rank = (50, float("inf"), True, self.now, number)
        self.model.grant(Pot(number, TOP_UP, TOP_UP, rank, self.now, float("inf"), None))
        self.model.tops_up = False
        self.settle_time()

    @rule(size=st.integers(1, 30), charge=CHARGES, length=st.none() | st.integers(1, 30))
    def hold(self, size: int, charge: str | None, length: int | None) -> None:
        key, until = f"h{next(self.names)}", float("inf") if length is None else self.now + length
        terms = HoldTerms(
            key=key, amount=amount(size), charge=charge,
            expires_at=None if length is None else day(until),
        )  # fmt: skip
        if self.model.hold(key, size, charge, self.now, until):
            hold(self.world.writer(self.now), "w", terms)
        else:
            with pytest.raises(WalletError, match="is available"):
                hold(self.world.writer(self.now), "w", terms)
        self.settle_time()

    @precondition(lambda self: self.model.holds)
    @rule(pick=st.integers(0, 9), size=st.integers(0, 20), settles=st.booleans())
    def end_hold(self, pick: int, size: int, settles: bool) -> None:
        key = sorted(self.model.holds)[pick % len(self.model.holds)]
        writer = self.world.writer(self.now)
        held = len(self.model.holds[key][2])
        used = Settlement(amount=amount(size), events=(EventName(source="s", id=key),))
        if settles and size > held:
            with pytest.raises(WalletError, match="is held"):
                settle(writer, "w", key, used)
        elif settles:
            settle(writer, "w", key, used)
            self.model.settle(key, size, self.now)
        else:
            release(writer, "w", key)
            self.model.release(key)
        self.settle_time()

    @rule(pick=st.integers(0, 9))
    def void(self, pick: int) -> None:
        if self.model.pots:
            pot = self.model.pots[pick % len(self.model.pots)]
            [key] = [one["key"] for one in self.grants() if one["number"] == pot.number]
            if pot.held or pot.aside:
                with pytest.raises(WalletError, match="held or settled"):
                    void(self.world.writer(self.now), "w", key, "model")
            else:
                void(self.world.writer(self.now), "w", key, "model")
                self.model.void(pot)
            self.settle_time()

    @rule(amounts=st.dictionaries(
        st.sampled_from([*"ab"]).flatmap(lambda c: st.tuples(st.just(c), st.integers(1, 2))),
        st.integers(0, 60), min_size=2,
    ))  # fmt: skip
    def bill(self, amounts: dict[tuple[str, int], int]) -> None:
        # Lines come in the order of a draft: what is due first, then what is corrected.
        firsts = {key for key in amounts if key not in self.world.billed}
        ordered = sorted(amounts, key=lambda key: (key not in firsts, key))
        deltas = [(key, amounts[key] - self.model.cost[key]) for key in ordered]
        self.world.bill(amounts, self.now)
        self.model.bill(deltas, firsts)
        self.settle_time()

    @rule(days=st.integers(1, 40))
    def wait(self, days: int) -> None:
        for _ in range(2 * days):
            self.now += 0.5
            self.model.pass_time(self.now)
        set_clock(self.connection, self.world.tenant, day(self.now))
        self.settle_time()

    def grants(self) -> list[dict[str, Any]]:
        return list_grants(self.connection, self.world.tenant, "w")

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "world"):
            return
        names = ("left", "held", "settled", "drawn", "expired", "voided", "owed")
        assert [tuple(one[f"{name}_minor"] for name in names) for one in self.grants()] == [
            (p.free + p.held + p.aside, p.held, p.aside, p.drawn, p.expired, p.voided, p.owed)
            for p in self.model.pots
        ]
        found = find_wallet(self.connection, self.world.tenant, "w")
        assert found is not None
        assert found["available_minor"] == sum(pot.free for pot in self.model.pots)
        assert (found["top_up_pending"] is not None) == self.model.tops_up

    @invariant()
    def is_in_the_books(self) -> None:
        if not hasattr(self, "world"):
            return
        assert reconcile(self.connection, self.world.tenant)["faults"] == []
        books = self.world.balances()
        assert sum(books.values()) == 0
        money = books.get("receivable", 0) + books.get("customer_credit", 0)
        assert money == self.model.asked
        assert books.get("receivable", 0) == self.world.one(
            "SELECT coalesce(sum(amount_due_minor), 0) FROM invoices WHERE tenant = %s"
        )
        assert -books.get("revenue:flights", 0) == sum(self.model.cost.values())


def test_a_wallet_has_the_coins_that_the_model_has(connection: Connection) -> None:
    machine = type("Life", (Life,), {"connection": connection})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30, stateful_step_count=20, deadline=None,
            phases=[Phase.reuse, Phase.generate],  # shrinking would take minutes
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
