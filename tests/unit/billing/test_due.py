"""What falls due when, and which billed periods are looked at again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from billing.charge_period import ChargeKey
from billing.due import (
    SETTLE_DELAY,
    BilledPeriod,
    Scope,
    again,
    agreed_anew,
    changes_of,
    closable_at,
    due,
    touched,
)
from billing.facts import Assignment, Facts
from billing.period import Period
from pipelines.usage import ChangedUsage
from tests.unit.billing.world import METERS, facts_of

NEW_YORK = ZoneInfo("America/New_York")
STARTS, ENDS = (datetime(2013, month, 1, 5, tzinfo=UTC) for month in (2, 3))
FEBRUARY = Period(
    date(2013, 2, 1), date(2013, 3, 1), STARTS, ENDS, date(2013, 2, 1), date(2013, 3, 1)
)
SECOND = timedelta(seconds=1)


def test_a_month_can_be_closed_once_the_next_has_begun_everywhere_and_usage_has_settled() -> None:
    """Twelve hours behind is the last zone; an hour is waited for usage."""
    closable = datetime(2013, 3, 1, 13, tzinfo=UTC)
    assert closable_at(date(2013, 3, 1)) == closable
    assert closable == datetime(2013, 3, 1, tzinfo=ZoneInfo("Etc/GMT+12")) + SETTLE_DELAY


@pytest.mark.parametrize(
    ("kind", "through", "timing", "included"),
    [
        ("close", date(2013, 3, 1), "arrears", True),
        ("close", date(2013, 2, 28), "arrears", False),
        ("bill", date(2013, 3, 1), "arrears", True),
        ("bill", date(2013, 2, 28), "arrears", False),
        ("bill", ENDS, "arrears", True),
        ("bill", ENDS - SECOND, "arrears", False),
        # A charge in advance is of the month it starts, which a close of the one before is not.
        ("close", date(2013, 2, 1), "advance", False),
        ("close", date(2013, 2, 2), "advance", True),
        ("close", STARTS + SECOND, "advance", True),
        ("bill", date(2013, 2, 1), "advance", True),
        ("bill", date(2013, 1, 31), "advance", False),
        ("bill", STARTS - SECOND, "advance", False),
    ],
)
def test_a_scope_ends_with_a_day_of_the_customer(
    kind: str, through: date | datetime, timing: str, included: bool
) -> None:
    assert Scope(kind, through).includes(FEBRUARY, timing, NEW_YORK) is included
    late = replace(Scope(kind, through), clock=ENDS + SETTLE_DELAY)
    assert late.includes(FEBRUARY, timing, NEW_YORK) is included


@pytest.mark.parametrize(
    ("clock", "timing", "included"),
    [
        (STARTS, "advance", True),
        (STARTS - SECOND, "advance", False),
        (ENDS + SETTLE_DELAY, "arrears", True),
        (ENDS + SETTLE_DELAY - SECOND, "arrears", False),
    ],
)
def test_nothing_is_due_before_its_time_and_what_is_used_an_hour_after_it(
    clock: datetime, timing: str, included: bool
) -> None:
    for kind in ("close", "bill"):
        scope = Scope(kind, date(2013, 4, 1), clock)
        assert scope.includes(FEBRUARY, timing, NEW_YORK) is included


BOOK = """
price_books:
- key: book
  versions: [{version: 1, currency: USD, charges: [
    {key: fee, model: flat, amount: "30.00", timing: advance},
    {key: setup, model: one_time, amount: "9.00", timing: advance},
    {key: calls, model: per_unit, meter: seats, unit_price: "1"},
    {key: sum, model: formula, meters: {x: aircraft, y: delay}, formula: x + y, unit_price: "1"}]}]
customers:
- {key: C, name: C, currency: USD, time_zone: America/New_York, subjects: [s, t]}
- {key: D, name: D, currency: USD, subjects: [u]}
"""
TERMS = """
subscriptions:
- {key: S, customer: C, start: 2013-01-01, items: [{key: i, price_book: book%s}]}
- {key: R, customer: D, start: 2013-01-01, items: [{key: i, price_book: book}]}
"""
FACTS = facts_of(METERS, BOOK, TERMS % "")
Billed = Mapping[ChargeKey, Sequence[BilledPeriod]]


def billed_of(facts: Facts) -> dict[ChargeKey, list[BilledPeriod]]:
    """Return all that is due until April as billed."""
    found: dict[ChargeKey, list[BilledPeriod]] = {}
    for one in due(facts, {}, Scope("bill", date(2013, 4, 1))):
        own = one.period
        found.setdefault(one.charge_key, []).append(
            BilledPeriod(one.charge_key, own.starts_at, own.ends_at, own.starts_on, facts.revision)
        )
    return found


BILLED = billed_of(FACTS)


def test_what_is_billed_is_not_due_and_what_is_due_once_is_due_once() -> None:
    assert due(FACTS, BILLED, Scope("bill", date(2013, 4, 1))) == []
    later = due(FACTS, BILLED, Scope("bill", date(2013, 5, 1)))
    [fee, other] = (one for one in later if one.timing == "advance")
    assert {fee.charge_key, other.charge_key} == {("S", "i", "fee"), ("R", "i", "fee")}
    assert fee.period.starts_on == other.period.starts_on == date(2013, 5, 1)
    assert [len(BILLED["S", "i", key]) for key in ("setup", "fee", "calls")] == [1, 4, 3]


def test_lines_lie_in_order_of_day_customer_subscription_and_place_in_the_book() -> None:
    found = due(FACTS, {}, Scope("bill", date(2013, 2, 1)))
    assert [(str(one.bill_on), one.subscription, one.charge) for one in found] == [
        ("2013-01-01", "S", "fee"),
        ("2013-01-01", "S", "setup"),
        ("2013-01-01", "R", "fee"),
        ("2013-01-01", "R", "setup"),
        ("2013-02-01", "S", "fee"),
        ("2013-02-01", "S", "calls"),
        ("2013-02-01", "S", "sum"),
        ("2013-02-01", "R", "fee"),
        ("2013-02-01", "R", "calls"),
        ("2013-02-01", "R", "sum"),
    ]


def test_what_an_end_that_was_put_off_leaves_between_billed_periods_is_due() -> None:
    first, second, third, _ = BILLED["S", "i", "fee"]
    tenth = first.starts_at + timedelta(days=10)
    cut = {("S", "i", "fee"): [replace(first, ends_at=tenth), third]}
    found = [
        (f"{one.period.starts_on:%m-%d}", f"{one.period.ends_on:%m-%d}")
        for one in due(FACTS, cut, Scope("bill", date(2013, 3, 31)))
        if one.charge_key == ("S", "i", "fee")
    ]
    assert found == [("01-11", "02-01"), ("02-01", "03-01")]
    middle = {("S", "i", "fee"): [replace(first, starts_at=tenth), second, third]}
    [left] = (
        one
        for one in due(FACTS, middle, Scope("bill", date(2013, 3, 31)))
        if one.charge_key == ("S", "i", "fee")
    )
    assert (left.period.starts_at, left.period.ends_at) == (first.starts_at, tenth)


def changed(meter: str, subject: str, start: datetime, end: datetime) -> ChangedUsage:
    return ChangedUsage(meter, subject, start, end)


def charges(usage: list[ChangedUsage], moved: list[Assignment], *of: str) -> list[str]:
    """Return the charges and months of S that are looked at again."""
    found = touched(FACTS, BILLED, of or ("S",), changes_of(usage, moved))
    assert all(one.subscription == "S" for one in found if not of)
    return [f"{one.charge} {one.period.starts_on:%m}" for one in found]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (STARTS, ENDS, ["calls 02"]),
        (STARTS - SECOND, STARTS, ["calls 01"]),
        (ENDS - SECOND, ENDS, ["calls 02"]),
        (ENDS, ENDS + SECOND, ["calls 03"]),
        (STARTS - SECOND, ENDS + SECOND, ["calls 01", "calls 02", "calls 03"]),
        (STARTS - timedelta(days=99), STARTS - timedelta(days=98), []),
    ],
)
def test_usage_touches_the_periods_that_its_windows_lie_in(
    since: datetime, until: datetime, expected: list[str]
) -> None:
    for subject in ("s", "t"):
        assert charges([changed("seats", subject, since, until)], []) == expected


def test_usage_touches_charges_of_its_meter_and_subjects_of_the_customer() -> None:
    assert charges([changed("seats", "u", STARTS, ENDS)], []) == []
    assert charges([changed("departures", "s", STARTS, ENDS)], []) == []
    for meter in ("aircraft", "delay"):
        assert charges([changed(meter, "s", STARTS, ENDS)], []) == ["sum 02"]
    both = [changed("seats", name, STARTS, ENDS) for name in ("s", "u")]
    # March of R, whose days are those of UTC, has begun by then.
    assert charges(both, [], "R", "S") == ["calls 02", "calls 03", "calls 02"]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (STARTS, ENDS, ["02"]),
        (None, STARTS, ["01"]),
        (ENDS, None, ["03"]),
        (None, None, ["01", "02", "03"]),
    ],
)
def test_a_subject_that_comes_or_goes_touches_all_that_is_metered_of_its_customer(
    start: datetime | None, end: datetime | None, expected: list[str]
) -> None:
    moved = [Assignment("x", "C", start=start, end=end)]
    assert charges([], moved) == [
        f"{key} {month}" for key in ("calls", "sum") for month in expected
    ]
    assert charges([], [Assignment("x", "D", start=start, end=end)]) == []


def test_what_terms_cut_or_discount_otherwise_is_looked_at_again_and_nothing_else() -> None:
    paused = facts_of(
        TERMS.replace("start: 2013-01-01, items", "start: 2013-01-01,"
                      " pauses: [{from: 2013-02-11, to: 2013-02-21}], items", 1) % "",
        before=FACTS,
    )  # fmt: skip
    found = agreed_anew(paused, FACTS, BILLED, ["S", "R"])
    assert [(one.subscription, one.charge, one.bill_on.month) for one in found] == [
        ("S", "calls", 3),
        ("S", "fee", 2),
        ("S", "sum", 3),
    ]
    assert agreed_anew(paused, FACTS, BILLED, ["R"]) == []
    half = ", discounts: [{key: d, percent: '50', charges: [fee]}]"
    cheaper = facts_of(TERMS % half, before=FACTS)
    assert {one.charge for one in agreed_anew(cheaper, FACTS, BILLED, ["S"])} == {
        "calls", "fee", "setup", "sum",
    }  # fmt: skip
    assert agreed_anew(FACTS, FACTS, BILLED, ["S", "R"]) == []


def test_a_customer_without_subjects_is_touched_by_nobodys_usage() -> None:
    none = replace(FACTS, assignments={})
    changes = changes_of([changed("seats", "s", STARTS, ENDS)], [])
    assert touched(none, BILLED, ["S", "R"], changes) == []


TRIAL = "trial: {days: 14, allowance: {calls: '3'}}, items: [{key: i, price_book: book%s}]"


def trying(item: str = "", *, allowance: bool = True) -> Facts:
    """Return the facts where S begins with a trial that ends with 14 January."""
    text = TRIAL if allowance else TRIAL.replace(", allowance: {calls: '3'}", "")
    terms = f"subscriptions: [{{key: S, customer: C, start: 2013-01-01, {text % item}}}]"
    return facts_of(METERS, BOOK, terms)


def calls(facts: Facts, billed: Billed, through: date) -> list[tuple[date, date]]:
    """Return from when to when calls of S are due."""
    return [
        (one.period.starts_on, one.period.ends_on)
        for one in due(facts, billed, Scope("bill", through))
        if one.charge == "calls"
    ]


def test_a_trial_is_due_at_its_end_by_the_customers_calendar_and_once() -> None:
    facts = trying()
    tried, rest = (date(2013, 1, 1), date(2013, 1, 15)), (date(2013, 1, 15), date(2013, 2, 1))
    assert calls(facts, {}, date(2013, 1, 14)) == []
    assert calls(facts, {}, date(2013, 1, 15)) == [tried]
    assert calls(facts, {}, date(2013, 2, 1)) == [tried, rest]
    assert calls(facts, billed_of(facts), date(2013, 4, 1)) == []
    late = trying(", start: 2013-01-15")
    assert calls(late, {}, date(2013, 2, 1)) == [rest]
    without = trying(allowance=False)
    assert calls(without, {}, date(2013, 2, 1)) == [rest]
    # An allowance that is given later is billed beside what follows the trial.
    assert calls(facts, billed_of(without), date(2013, 2, 1)) == [tried]


def test_a_trial_that_was_billed_is_looked_at_as_the_period_it_was() -> None:
    facts = trying()
    for period in due(facts, {}, Scope("bill", date(2013, 3, 1))):
        own = period.period
        stored = BilledPeriod(period.charge_key, own.starts_at, own.ends_at, own.starts_on, 1)
        assert again(facts, stored) == period


def test_a_version_that_became_known_after_a_period_was_billed_does_not_price_it() -> None:
    dearer = (
        "{version: 2, effective_from: 2013-01-11, currency: USD, charges: ["
        '{key: fee, model: flat, amount: "60.00", timing: advance}]}]'
    )
    both = facts_of(
        METERS, BOOK.replace("}]}]\ncustomers", f"}}]}}, {dearer}\ncustomers"), before=FACTS
    )
    [first, *_] = BILLED["S", "i", "fee"]
    versions = [
        [piece.version for piece in again(both, replace(first, revision=revision)).pieces]
        for revision in (1, 2)
    ]
    assert versions == [[1], [1, 2]]
