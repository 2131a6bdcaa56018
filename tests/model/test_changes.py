"""Chains of changes, billed as they come, against days counted one by one."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.customer import Customer, Subscription
from billing.due import Scope
from billing.facts import Facts
from billing.price_book import PriceBook
from tests.unit.billing.fake_store import FakeStore
from tests.unit.billing.fake_usage import FakeUsage
from tests.unit.billing.world import run

FIRST = date(2013, 1, 1)
LAST = date(2013, 5, 1)
"""The last day that is billed through: May's fees in advance are billed, June's are not."""

FEES = {"a": ("9.99", "14.95"), "b": ("20.01", "7.77")}
SEAT = "3.33"


def _book(key: str) -> dict[str, Any]:
    return {
        "key": key,
        "versions": [
            {
                "version": number,
                "currency": "USD",
                # The second never takes effect by itself: an item is pinned to it.
                "effective_from": "2013-01-01" if number == 1 else "2100-01-01",
                "charges": [
                    {"key": "fee", "model": "flat", "amount": fee, "timing": "advance"},
                    {"key": "late", "model": "flat", "amount": fee},
                    {
                        "key": "seats",
                        "model": "per_seat",
                        "quantity_from": "item",
                        "unit_price": SEAT,
                        "timing": "advance",
                    },
                ],
            }
            for number, fee in enumerate(FEES[key], 1)
        ],
    }


BOOKS = Facts(
    revision=1,
    price_books={key: PriceBook.model_validate(_book(key)) for key in FEES},
    customers={"C": Customer(key="C", name="C", currency="USD")},
)


@dataclass
class Agreement:
    """What is agreed, as plain lists; and the subscription that says the same."""

    books: list[tuple[date, str]] = field(default_factory=lambda: [(FIRST, "a")])
    seats: dict[date, int] = field(default_factory=lambda: {FIRST: 2})
    pins: dict[date, int] = field(default_factory=lambda: {FIRST: 1})
    pauses: list[tuple[date, date]] = field(default_factory=list)
    end: date | None = None

    def book_on(self, day: date) -> str:
        return next(book for since, book in reversed(self.books) if since <= day)

    def is_billed(self, day: date) -> bool:
        is_paused = any(start <= day < end for start, end in self.pauses)
        return not is_paused and (self.end is None or day < self.end)

    def fee_on(self, day: date) -> int:
        number = max((since, n) for since, n in self.pins.items() if since <= day)[1]
        return int(Fraction(FEES[self.book_on(day)][number - 1]) * 100)

    def seats_on(self, day: date) -> int:
        count = max((since, n) for since, n in self.seats.items() if since <= day)[1]
        return int(Fraction(SEAT) * 100) * count

    def terms(self) -> Subscription:
        ends = [since for since, _ in self.books[1:]]
        items = []
        for number, (since, book) in enumerate(self.books):
            item: dict[str, Any] = {
                "key": f"i{number}",
                "price_book": book,
                "start": since.isoformat(),
                "version": _dated(self.pins, "version"),
                "quantities": {
                    "seats": [
                        {**each, "quantity": str(each["quantity"])}
                        for each in _dated(self.seats, "quantity")
                    ]
                },
            }
            if number < len(ends):
                item["end"] = ends[number].isoformat()
            items.append(item)
        terms: dict[str, Any] = {"key": "S", "customer": "C", "start": FIRST.isoformat()}
        if self.end is not None:
            terms["end"] = self.end.isoformat()
        terms["pauses"] = [{"from": str(a), "to": str(b)} for a, b in self.pauses]
        return Subscription.model_validate({**terms, "items": items})


def _dated(changes: dict[date, int], name: str) -> list[dict[str, Any]]:
    return [{"from": str(since), name: value} for since, value in sorted(changes.items())]


def days() -> st.SearchStrategy[date]:
    return st.dates(FIRST + timedelta(days=1), date(2013, 4, 30))


changes = st.one_of(
    st.tuples(st.just("seats"), days(), st.integers(0, 9)),
    st.tuples(st.just("pin"), days(), st.integers(1, 2)),
    st.tuples(st.just("book"), days(), st.sampled_from(sorted(FEES))),
    st.tuples(st.just("pause"), days(), st.integers(1, 40)),
    st.tuples(st.just("end"), days(), st.booleans()),
    st.tuples(st.just("bill"), days(), st.none()),
)


def _apply(agreed: Agreement, what: str, day: date, value: Any) -> None:
    if what == "seats":
        agreed.seats[day] = value
    elif what == "pin":
        agreed.pins[day] = value
    elif what == "book" and day > agreed.books[-1][0]:
        agreed.books.append((day, value))
    elif what == "pause":
        end = day + timedelta(days=value)
        if all(end <= start or until <= day for start, until in agreed.pauses):
            agreed.pauses = sorted([*agreed.pauses, (day, end)])
    elif what == "end":
        agreed.end = day if value else None


def _months() -> Iterator[tuple[date, date]]:
    start = FIRST
    while start <= LAST:
        end = (start + timedelta(days=31)).replace(day=1)
        yield start, end
        start = end


def _runs(agreed: Agreement, start: date, end: date, worth: Any) -> Iterator[tuple[int, int, int]]:
    """Yield stretches of days with one price of one book: price, first day, day after the last."""
    at = start
    while at < end:
        until = at + timedelta(days=1)
        same = (worth(at), agreed.book_on(at), agreed.is_billed(at))
        while until < end and same == (
            worth(until), agreed.book_on(until), agreed.is_billed(until)
        ):  # fmt: skip
            until += timedelta(days=1)
        if agreed.is_billed(at):
            yield worth(at), (at - start).days, (until - start).days
        at = until


def _naive(agreed: Agreement) -> dict[str, int]:
    totals = {"fee": 0, "late": 0, "seats": 0}
    for start, end in _months():
        length = (end - start).days
        for charge, worth in (
            ("fee", agreed.fee_on), ("seats", agreed.seats_on), ("late", agreed.fee_on)
        ):  # fmt: skip
            if charge == "late" and start == LAST:
                continue
            for price, first, last in _runs(agreed, start, end, worth):
                earned = [int(Fraction(price * d, length) + Fraction(1, 2)) for d in (first, last)]
                totals[charge] += earned[1] - earned[0]
    return totals


def _with(facts: Facts, agreed: Agreement) -> Facts:
    revision = facts.revision + 1
    return replace(
        facts,
        revision=revision,
        subscriptions={"S": agreed.terms()},
        agreed={"S": (revision, revision)},
    )


@settings(deadline=None, max_examples=150)
@example(
    [
        ("bill", date(2013, 4, 7), None),
        ("book", date(2013, 2, 16), "a"),
        ("bill", date(2013, 4, 7), None),
        ("pin", date(2013, 2, 17), 2),
    ]
)
@given(st.lists(changes, max_size=12))
def test_no_cent_comes_or_goes_over_any_chain_of_changes(
    chain: list[tuple[str, date, Any]],
) -> None:
    agreed, billed_until = Agreement(), FIRST
    store = FakeStore([_with(BOOKS, agreed)])
    usage = FakeUsage({}, revision=lambda: store.history[-1].revision)
    run(store, usage, Scope("bill", FIRST))
    for what, day, value in chain:
        if what == "bill":
            billed_until = max(billed_until, day)
            run(store, usage, Scope("bill", billed_until))
            continue
        _apply(agreed, what, day, value)
        store.history.append(_with(store.history[-1], agreed))
    run(store, usage, Scope("bill", LAST))
    billed = {"fee": 0, "late": 0, "seats": 0}
    for key, minor in store.billed_amounts().items():
        billed[key.charge] += minor
    assert billed == _naive(agreed)
    once = FakeStore([_with(BOOKS, agreed)])
    run(once, usage, Scope("bill", LAST))
    assert sum(once.billed_amounts().values()) == sum(billed.values())
    assert all(document.total_minor >= 0 for document in store.documents)
