"""Months are closed in order and only when over, and a run that has nothing to do says why."""

from datetime import UTC, date, datetime, timedelta

import pytest

from billing.due import Scope
from billing.facts import Facts
from billing.waiting import first_unclosed, has_come, why_nothing
from tests.unit.billing.fake_store import FakeStore
from tests.unit.billing.fake_usage import FakeUsage
from tests.unit.billing.test_run import BOOK, CUSTOMERS, close
from tests.unit.billing.world import METERS, declare, facts_of, run


@pytest.fixture
def store() -> FakeStore:
    return FakeStore([facts_of(METERS, BOOK, CUSTOMERS)])


@pytest.fixture
def usage() -> FakeUsage:
    return FakeUsage({key: meter.definition for key, meter in declare(METERS).meters.items()})


def unclosed(store: FakeStore, month: date, clock: datetime | None = None) -> date | None:
    return first_unclosed(store.history[-1], store.billed(), month, clock)


def test_a_year_is_closed_in_order_and_the_next_goes_on(store: FakeStore, usage: FakeUsage) -> None:
    for month in range(1, 12):
        this = date(2013, month, 1)
        assert unclosed(store, this) is None
        assert unclosed(store, date(2014, 1, 1)) == this
        assert unclosed(store, date(2030, 1, 1)) == this
        run(store, usage, close(month))
    run(store, usage, Scope("close", date(2014, 1, 1)))
    assert unclosed(store, date(2014, 1, 1)) is None
    assert unclosed(store, date(2014, 2, 1)) == date(2014, 1, 1)


def test_what_is_due_of_a_closed_month_waits_for_the_next_close(store: FakeStore) -> None:
    facts, march = store.history[-1], date(2013, 3, 1)
    assert first_unclosed(facts, {}, march, None) == date(2013, 1, 1)
    assert first_unclosed(facts, {}, march, None, date(2013, 2, 1)) == date(2013, 2, 1)
    assert first_unclosed(facts, {}, march, None, march) is None


def test_what_was_billed_otherwise_needs_no_close(store: FakeStore, usage: FakeUsage) -> None:
    run(store, usage, Scope("bill", date(2013, 3, 1)))
    assert unclosed(store, date(2013, 3, 1)) is None


def test_what_the_clock_leaves_out_is_not_due(store: FakeStore) -> None:
    assert unclosed(store, date(2013, 2, 1), datetime(2012, 12, 1, tzinfo=UTC)) is None


def test_a_date_comes_in_each_customers_zone(store: FakeStore) -> None:
    customers = store.history[-1].customers.values()
    midnight = datetime(2013, 1, 1, 5, tzinfo=UTC)
    scope = Scope("bill", date(2013, 1, 1))
    for virtual in (False, True):
        assert has_come(customers, scope, midnight, virtual=virtual)
        before = midnight - timedelta(seconds=1)
        assert not has_come(customers, scope, before, virtual=virtual)


def test_a_date_that_has_come_for_some_is_left_to_their_clock(store: FakeStore) -> None:
    tokyo = "customers:\n- {key: JP, name: Jp, currency: USD, time_zone: Asia/Tokyo}\n"
    customers = facts_of(tokyo, before=store.history[-1]).customers.values()
    scope, at = Scope("bill", date(2013, 1, 1)), datetime(2012, 12, 31, 20, tzinfo=UTC)
    assert has_come(customers, scope, at, virtual=False)
    assert not has_come(customers, scope, at, virtual=True)


@pytest.mark.parametrize("moment", [date(9999, 12, 31), datetime(2013, 1, 1, 6, tzinfo=UTC)])
def test_a_moment_to_come_has_not_come(moment: date) -> None:
    at = datetime(2013, 1, 1, 5, tzinfo=UTC)
    assert not has_come((), Scope("bill", moment), at, virtual=False)


def test_nothing_to_do_has_a_true_reason(store: FakeStore, usage: FakeUsage) -> None:
    facts = store.history[-1]
    january = Scope("bill", date(2013, 1, 1))
    assert "no subscription is declared yet" in why_nothing(Facts(0), {}, january)
    early = Scope("bill", date(2012, 12, 1))
    assert "nothing was billed before" in why_nothing(facts, store.billed(), early)
    assert "an hour after" in why_nothing(facts, store.billed(), january)
    run(store, usage, january)
    assert "on the next invoice" in why_nothing(facts, store.billed(), january)
