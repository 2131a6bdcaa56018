"""docs/analysts.md tells the truth: each query runs as an analyst, and answers what it shows."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.analyst_data import TENANT, Handbook, load
from tests.analysts import Login, make_analyst
from tests.embedded_stack import EmbeddedStack

DOCUMENT = Path(__file__).parents[2] / "docs" / "analysts.md"


@dataclass(frozen=True)
class Query:
    """A query of the document, and the answer that is shown for it."""

    heading: str
    sql: str
    shown: list[str]
    """All that stands below it up to an empty line: a table, or whatever was answered instead."""

    @property
    def is_example(self) -> bool:
        """True where the answer changes from run to run."""
        return "usage_progress" in self.sql


def read_document() -> list[Query]:
    text = DOCUMENT.read_text()
    found = re.findall(
        r"^### (.*?)\n+```sql\n(.*?)```\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL
    )
    return [
        Query(heading, sql, rest.strip().split("\n\n")[0].splitlines())
        for heading, sql, rest in found
    ]


QUERIES = read_document()


@dataclass(frozen=True)
class Reading:
    login: Login
    book: Handbook

    def answer(self, query: Query) -> list[str]:
        status, body = self.login.ask(query.sql, params={"default_format": "Markdown"})
        assert status == 200, body
        return body.splitlines()

    def rows(self, heading: str) -> list[list[Any]]:
        (query,) = [each for each in QUERIES if heading in each.heading]
        params = {"default_format": "JSONCompactStringsEachRow"}
        status, body = self.login.ask(query.sql, params=params)
        assert status == 200, body
        return [json.loads(line) for line in body.splitlines()]


@pytest.fixture(scope="module")
def reading(stack: EmbeddedStack) -> Reading:
    known = stack.read()
    book = load(known)
    return Reading(make_analyst(known, TENANT, "tb_handbook_analyst"), book)


@dataclass(frozen=True)
class Request:
    """An event that counts in the end, as it was sent; no value where it has none."""

    subject: str
    time: str
    region: str
    model: str
    user: str
    tokens: Decimal | None

    @property
    def day(self) -> str:
        return self.time[:10]

    @property
    def month(self) -> int:
        return int(self.time[5:7])


@pytest.fixture(scope="module")
def truth(reading: Reading) -> list[Request]:
    return [
        Request(
            subject=event["subject"],
            time=event["time"],
            region=event["data"]["region"],
            model=event["data"]["model"],
            user=event["data"]["user"],
            tokens=None if event["data"]["tokens"] == "many" else Decimal(event["data"]["tokens"]),
        )
        for event in reading.book.counted
    ]


def by(requests: Iterable[Request], key: Callable[[Request], Any]) -> dict[Any, list[Request]]:
    found = defaultdict(list)
    for request in requests:
        found[key(request)].append(request)
    return found


def total(requests: Iterable[Request]) -> Decimal:
    return sum((request.tokens or Decimal(0) for request in requests), Decimal(0))


def june(truth: Iterable[Request]) -> list[Request]:
    return [request for request in truth if request.month == 6]


def test_the_document_has_a_dozen_queries() -> None:
    assert len(QUERIES) >= 12
    assert len(QUERIES) == DOCUMENT.read_text().count("```sql")


def test_nothing_in_the_document_is_an_error_of_the_engine() -> None:
    assert "DB::Exception" not in DOCUMENT.read_text()


@pytest.mark.parametrize("query", QUERIES, ids=[query.heading for query in QUERIES])
def test_each_query_answers_what_the_document_shows(reading: Reading, query: Query) -> None:
    answer = reading.answer(query)
    assert len(answer) > 2, "an answer without rows shows nothing"
    if query.is_example:
        assert query.shown[0] == answer[0]
    else:
        assert query.shown == answer


def test_most_used_equals_a_recount(reading: Reading, truth: list[Request]) -> None:
    usable = [request for request in june(truth) if request.tokens is not None]
    wanted = sorted(
        ((total(some), len(some), name) for name, some in by(usable, lambda r: r.subject).items()),
        reverse=True,
    )
    found = [(Decimal(used), int(events), name) for name, used, events in reading.rows("used most")]
    assert found == wanted


def test_daily_totals_equal_a_recount(reading: Reading, truth: list[Request]) -> None:
    wanted = by(truth, lambda r: r.day)
    found = {day: int(calls) for day, calls in reading.rows("per day?")}
    assert found == {f"2026-06-0{day}": len(wanted[f"2026-06-0{day}"]) for day in range(1, 6)}


def test_month_over_month_equals_a_recount(reading: Reading, truth: list[Request]) -> None:
    of = by(truth, lambda r: (r.subject, r.month))
    rows = reading.rows("month to month")
    assert {row[0] for row in rows} == {request.subject for request in truth}
    for subject, before_text, after_text, change in rows:
        before, after = total(of[subject, 5]), total(of[subject, 6])
        assert (Decimal(before_text), Decimal(after_text)) == (before, after)
        if before:
            assert abs(Decimal(change) - (after / before - 1) * 100) <= Decimal("0.051")
        else:
            assert subject == "ember"


def test_shares_equal_a_recount(reading: Reading, truth: list[Request]) -> None:
    of = by(june(truth), lambda r: (r.region, r.model))
    rows = reading.rows("split by a dimension")
    assert {(region, model): Decimal(used) for region, model, used, _ in rows} == {
        key: total(some) for key, some in of.items()
    }
    for *_, used, percent in rows:
        share = 100 * Decimal(used) / total(june(truth))
        assert abs(Decimal(percent) - share) <= Decimal("0.051")


def test_percentiles_of_days_equal_a_recount(reading: Reading, truth: list[Request]) -> None:
    usable = [request for request in june(truth) if request.tokens is not None]
    of = by(usable, lambda r: r.subject)
    rows = reading.rows("95th percentile")
    assert {row[0] for row in rows} == set(of)
    for subject, p95, most, days in rows:
        per_day = sorted(total(some) for some in by(of[subject], lambda r: r.day).values())
        assert int(days) == len(per_day)
        assert Decimal(most) == per_day[-1]
        assert Decimal(p95) == per_day[int(0.95 * len(per_day))]


def test_users_of_days_equal_a_recount(reading: Reading, truth: list[Request]) -> None:
    of = by(june(truth), lambda r: r.subject)
    for subject, users, day in reading.rows("users were there"):
        per_day = {
            day: len({request.user for request in some})
            for day, some in by(of[subject], lambda r: r.day).items()
        }
        most = max(per_day.values())
        assert (int(users), day) == (most, min(d for d in per_day if per_day[d] == most))


def test_silent_hours_equal_a_recount(reading: Reading, truth: list[Request]) -> None:
    busy = {request.time[11:13] for request in truth if request.day == "2026-06-10"}
    silent = [f"2026-06-10 {hour:02}:00:00.000" for hour in range(24) if f"{hour:02}" not in busy]
    assert [row[0] for row in reading.rows("nothing arrive")] == silent
    assert len(silent) >= 4
