"""Subscriptions in Postgres against a model of days: whatever is done, states agree."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from billing.customer import Subscription
from billing.postgres_catalog import apply
from billing.postgres_clock import set_clock
from billing.postgres_due_work import do_due_work
from billing.postgres_subscriptions import StaleVersionError, find_subscription, list_history
from billing.postgres_verbs import Writer, cancel, create, set_trial_end, undo_cancel
from billing.verbs import VerbError
from tests.e2e.billing_databases import Connection, databases
from tests.embedded_stack import EmbeddedStack
from tests.unit.billing.world import NOW, declare

BOOK = """
price_books:
- {key: plain, versions: [{version: 1, currency: USD, charges: [
    {key: base, model: flat, amount: "10.00", timing: advance}]}]}
customers:
- {key: C, name: C, currency: USD}
"""
FIRST = date(2013, 1, 1)
DAYS = st.integers(0, 12)
_TENANTS = count(1)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


@pytest.fixture(scope="module")
def connection(stack: EmbeddedStack) -> Iterator[Connection]:
    with databases(stack) as make:
        yield make("subscription_model")[1]


class Life(RuleBasedStateMachine):
    """One subscription; it is always noon in the model, and days begin one by one."""

    connection: Connection

    @initialize(start=DAYS, trial=st.none() | st.integers(1, 6), then=st.sampled_from(
        ["active", "past_due", "canceled"]))  # fmt: skip
    def begin(self, start: int, trial: int | None, then: str) -> None:
        self.today, self.start, self.then = 3, start, then
        self.end: int | None = None
        self.trial = None if trial is None else start + trial
        self.state, self.version = "draft", 1
        self.tenant = f"model-{next(_TENANTS)}"
        self.connection.execute("INSERT INTO tenants VALUES (%s, 'M')", (self.tenant,))
        self.connection.execute("INSERT INTO tenant_clocks VALUES (%s, %s)", self._clock())
        apply(self.connection, self.tenant, declare(BOOK), NOW)
        terms: dict[str, Any] = {"key": "S", "customer": "C", "start": day(start).isoformat(),
                 "items": [{"key": "m", "price_book": "plain"}]}  # fmt: skip
        if self.trial is not None:
            terms["trial"] = {"ends": day(self.trial).isoformat(), "then": then}
        create(self._writer(), Subscription.model_validate(terms), "model")
        # What became known after it began is in its state at once.
        if start <= self.today:
            self.state = "trialing" if self.trial and self.trial > self.today else "active"
            over = self.trial is not None and self.trial <= self.today and then == "canceled"
            if over:
                self._move("canceled")

    @rule(days=st.integers(1, 5))
    def pass_days(self, days: int) -> None:
        for _ in range(days):
            self.today += 1
            self._morning()
        set_clock(self.connection, self.tenant, self._clock()[1])
        do_due_work(self.connection, self._clock()[1], self.tenant)

    @rule(on=DAYS, stale=st.booleans())
    def cancel(self, on: int, stale: bool) -> None:
        allowed = self.state != "canceled" and self.end is None and on >= self.today
        self._try(lambda at: cancel(self._writer(), "S", day(on), "model", at), allowed, stale)
        if allowed and not stale:
            self.end = max(on, self.start)
            self.version += 1
            self._morning()

    @rule(stale=st.booleans())
    def undo(self, stale: bool) -> None:
        allowed = self.state != "canceled" and self.end is not None
        self._try(lambda at: undo_cancel(self._writer(), "S", "model", at), allowed, stale)
        if allowed and not stale:
            self.end = None
            self.version += 1

    @rule(on=DAYS, stale=st.booleans())
    def end_trial(self, on: int, stale: bool) -> None:
        goes_on = self.trial is not None and self.trial > self.today
        allowed = self.state != "canceled" and goes_on and on >= self.today
        self._try(
            lambda at: set_trial_end(self._writer(), "S", day(on), "model", at), allowed, stale
        )
        if allowed and not stale:
            before = (self.trial, self.then)
            self.trial = on if on > self.start else None
            self.then = "active" if on == self.today else self.then
            self.version += before != (self.trial, self.then)
            if self.trial is None and self.state == "trialing":
                self._move("active")
            self._morning()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "tenant"):
            return
        found = find_subscription(self.connection, self.tenant, "S")
        assert found is not None
        assert (found["state"], found["version"]) == (self.state, self.version)
        history = list_history(self.connection, self.tenant, "S")
        assert [one["version"] for one in history] == list(range(1, self.version + 1))
        assert [one["from"] for one in history[1:]] == [one["to"] for one in history[:-1]]
        told = self.connection.execute(
            "SELECT count(*), max(aggregate_version) FROM outbox WHERE tenant = %s", (self.tenant,)
        ).fetchone()
        assert told == (self.version, self.version)

    def _morning(self) -> None:
        if self.state == "draft" and self.today >= self.start:
            self._move("active" if self.trial is None else "trialing")
        if self.state == "trialing" and self.trial is not None and self.today >= self.trial:
            self._move(self.then)
        if self.state != "canceled" and self.end is not None and self.today >= self.end:
            self._move("canceled")

    def _move(self, state: str) -> None:
        self.state = state
        self.version += 1

    def _try(self, verb: Callable[[int | None], object], allowed: bool, stale: bool) -> None:
        if stale:
            with pytest.raises(StaleVersionError) as refused:
                verb(self.version + 1)
            assert refused.value.current == self.version
        elif allowed:
            verb(self.version)
        else:
            with pytest.raises(VerbError):
                verb(None)

    def _clock(self) -> tuple[str, datetime]:
        return self.tenant, datetime(2013, 1, 1, 12, tzinfo=UTC) + timedelta(days=self.today)

    def _writer(self) -> Writer:
        return Writer(self.connection, self.tenant, "model", NOW)


def test_subscriptions_live_as_the_model_says(connection: Connection) -> None:
    machine = type("Life", (Life,), {"connection": connection})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=10, deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
