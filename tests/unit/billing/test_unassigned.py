"""Usage that nobody pays for is found, and told what it lacks."""

from datetime import UTC, datetime

from billing.unassigned import Interval, gaps, unassigned
from tests.unit.billing.fake_usage import FakeUsage
from tests.unit.billing.test_run import BOOK, flight
from tests.unit.billing.world import METERS, NOW, declare, facts_of

YEAR = (datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC))
OWNERS = """
customers:
- {key: A, name: A, currency: USD, subjects: [a]}
- {key: B, name: B, currency: USD, subjects: [{key: b, from: 2013-02-01, to: 2013-05-01}]}
- {key: C, name: C, currency: USD, subjects: [c]}
subscriptions:
- {key: S-B, customer: B, start: 2013-03-01, end: 2013-04-01,
   items: [{key: main, price_book: airport}]}
- {key: S-C, customer: C, start: 2013-01-01, items: [{key: main, price_book: airport}]}
"""


def lacking(interval: Interval = YEAR) -> list[tuple[str, str, str]]:
    meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}
    usage = FakeUsage(meters)
    for month in range(1, 7):
        for subject in ("a", "b", "c", "nobody"):
            usage.add(flight(month, 10, subject))
    cut = usage.fix_cut("default", NOW)
    facts = facts_of(METERS, BOOK, OWNERS)
    found = unassigned(usage, facts, cut, ["departures"], interval)
    return [(row.lacks, row.subject, str(row.quantity)) for row in found]


def test_usage_lacks_a_customer_or_a_subscription() -> None:
    assert lacking() == [
        ("no customer", "b", "3"),
        ("no customer", "nobody", "6"),
        ("no subscription", "a", "6"),
        ("no subscription", "b", "2"),
    ]


def test_an_interval_limits_both_kinds() -> None:
    may = (datetime(2013, 4, 1, tzinfo=UTC), datetime(2013, 6, 1, tzinfo=UTC))
    assert lacking(may) == [
        ("no customer", "b", "1"),
        ("no customer", "nobody", "2"),
        ("no subscription", "a", "2"),
        ("no subscription", "b", "1"),
    ]


def test_gaps_are_what_no_interval_covers() -> None:
    one, two, three = (datetime(2013, month, 1, tzinfo=UTC) for month in (2, 3, 4))
    start, end = YEAR
    assert gaps([], start, end) == [YEAR]
    assert gaps([(two, three), (one, two), (one, three)], start, end) == [
        (start, one),
        (three, end),
    ]
    assert gaps([(start, end)], start, end) == []
    assert gaps([(three, end)], one, two) == [(one, two)]
    assert gaps([], two, one) == []
