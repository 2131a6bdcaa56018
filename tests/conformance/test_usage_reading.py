"""Random questions over random histories answer what a naive recount does, to the last decimal."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from infra.provision.migrations import read_migrations
from pipelines.clickhouse_query import ClickHouseQuery
from pipelines.query import UsageQueries
from pipelines.question import Page, UsageQuestion, UsageRow
from pipelines.usage import Cut, Span
from tests.conformance.gateway_process import GatewayProcess
from tests.usage_history import (
    EPOCH,
    History,
    Use,
    groups,
    history,
    lasting,
    local_bounds,
    local_start,
    owners,
)

START = datetime(2026, 10, 24, 9, 7, tzinfo=UTC)
DAYS = 3
"""Over the 25 hours of 25 October 2026 in Paris."""
ZONES = ["UTC", "Europe/Paris", "Asia/Kathmandu", "Australia/Lord_Howe"]

DEFINITIONS: list[dict[str, Any]] = [
    {"key": "calls", "aggregation": "count", "window": "1m"},
    {"key": "units", "aggregation": "sum", "value": "$.units", "window": "15m"},
    {"key": "mean", "aggregation": "avg", "value": "$.units", "window": "1h"},
    {"key": "least", "aggregation": "min", "value": "$.units", "window": "1h"},
    {"key": "top", "aggregation": "max", "value": "$.units", "window": "15m"},
    {"key": "who", "aggregation": "unique_count", "value": "$.units", "window": "1h"},
    {"key": "p62", "aggregation": "percentile", "value": "$.units", "percentile": "62.5"},
    {"key": "last", "aggregation": "latest", "value": "$.units", "window": "1h"},
    {"key": "seconds", "aggregation": "weighted_sum", "value": "$.units", "per": "second"},
    {"key": "hours", "aggregation": "weighted_sum", "value": "$.units", "per": "hour",
     "window": "1h"},
]  # fmt: skip
MICROSECOND = timedelta(microseconds=1)
NOW = START + timedelta(days=2, hours=3, microseconds=77)


def rounded(value: Fraction) -> Decimal:
    units = abs(value) * 10**12 + Fraction(1, 2)
    return Decimal(math.floor(units) * (1 if value >= 0 else -1)).scaleb(-12)


RECOUNTS: dict[str, Callable[[list[Use]], Decimal]] = {
    "calls": lambda uses: Decimal(len(uses)),
    "units": lambda uses: sum((use.value for use in uses), Decimal(0)),
    "mean": lambda uses: rounded(
        sum((Fraction(use.value) for use in uses), Fraction(0)) / len(uses)
    ),
    "least": lambda uses: min(use.value for use in uses),
    "top": lambda uses: max(use.value for use in uses),
    "who": lambda uses: Decimal(len({use.value for use in uses})),
    "p62": lambda uses: sorted(use.value for use in uses)[
        math.ceil(Fraction(625 * len(uses), 1000)) - 1
    ],
    "last": lambda uses: max(uses, key=lambda use: (use.time_us, use.identity)).value,
}


@pytest.fixture(scope="module")
def usage(gateway: GatewayProcess) -> Iterator[Any]:
    gateway.connect().command("CREATE DATABASE tollbook")
    client = gateway.connect(database="tollbook", autogenerate_session_id=False)
    for migration in read_migrations("clickhouse"):
        for statement in migration.statements():
            client.command(statement)
    yield client
    client.close()


def engine(client: Any, made: History) -> UsageQueries:
    return UsageQueries(made, ClickHouseQuery(client), made.progress)  # type: ignore[arg-type]


def moment(rnd: random.Random) -> datetime:
    """Return an instant in or around the history, often on the boundary of windows."""
    at = START + timedelta(seconds=rnd.randrange(-3600, (DAYS * 24 + 1) * 3600))
    size = rnd.choice((1, 60, 900, 3600))
    at = datetime.fromtimestamp(int(at.timestamp()) // size * size, UTC)
    return at + timedelta(microseconds=rnd.choice((0, 0, rnd.randrange(1_000_000))))


def random_spans(rnd: random.Random) -> tuple[Span, ...]:
    """Return spans that may touch, overlap, divide windows, or lie in one."""
    spans = []
    for _ in range(rnd.randrange(1, 8)):
        bounds = sorted((moment(rnd), moment(rnd)))
        if rnd.random() < 0.3:
            bounds[1] = bounds[0] + timedelta(seconds=rnd.randrange(1, 900))
        start, end = (at if rnd.random() < 0.8 else None for at in bounds)
        spans.append(Span(rnd.choice("xyz"), f"s{rnd.randrange(5)}", start, end))
    return tuple(spans)


def question_of(rnd: random.Random, meter: str) -> UsageQuestion:
    start, end = sorted((moment(rnd), moment(rnd)))
    spans = random_spans(rnd) if rnd.random() < 0.5 else None
    if rnd.random() < 0.2:
        end = start + timedelta(seconds=rnd.randrange(1, 300))
    return UsageQuestion(
        meter=meter,
        start=start,
        end=end + timedelta(microseconds=1),
        window=rnd.choice((None, "minute", "hour", "day", "month")),
        zone=ZoneInfo(rnd.choice(ZONES)),
        subjects=tuple(rnd.sample(["s0", "s1", "s2", "s9"], 2)) if rnd.random() < 0.3 else (),
        spans=spans,
        by_owner=spans is not None and rnd.random() < 0.7,
        by_subject=rnd.random() < 0.4,
        group_by=("region",) if rnd.random() < 0.4 else (),
        where=(("region", ("a",)),) if rnd.random() < 0.2 else (),
        cut=rnd.choice((None, None, 1, 2, 3)),
    )


def recount(made: History, asked: UsageQuestion) -> dict[tuple[str, ...], Decimal]:
    found = groups()
    assert asked.start is not None
    assert asked.end is not None
    for use in made.live(asked.cut):
        if not asked.start <= use.time < asked.end:
            continue
        if asked.subjects and use.subject not in asked.subjects:
            continue
        if any(use.region not in allowed for _, allowed in asked.where):
            continue
        for owner in owners(asked.spans, use.subject, use.time):
            key: tuple[str, ...] = (
                local_start(use.time, asked.window, asked.zone),
                owner if asked.by_owner else "",
                use.subject if asked.by_subject else "",
                use.region if asked.group_by else "",
            )
            found[key].append(use)
    return {key: RECOUNTS[asked.meter](uses) for key, uses in found.items()}


def integrated(made: History, asked: UsageQuestion) -> dict[tuple[str, ...], Decimal]:
    """Add up each value times how long it lasts, cut at every bound there is."""
    assert asked.start is not None
    assert asked.end is not None
    until = NOW if asked.cut is None else made.cuts[asked.cut][0]
    bounds = {asked.start, asked.end}
    bounds.update(local_bounds(asked.start, asked.end, asked.window, asked.zone))
    bounds.update(at for span in asked.spans or () for at in (span.start, span.end) if at)
    ordered = sorted(at for at in bounds if asked.start <= at <= asked.end)
    found: dict[tuple[str, ...], Fraction] = {}
    for use, begins, ends in lasting(made.live(asked.cut), until):
        if asked.subjects and use.subject not in asked.subjects:
            continue
        if any(use.region not in allowed for _, allowed in asked.where):
            continue
        for start, end in pairwise(ordered):
            duration = min(end, ends) - max(start, begins)
            if duration <= timedelta():
                continue
            for owner in owners(asked.spans, use.subject, start):
                key: tuple[str, ...] = (
                    local_start(start, asked.window, asked.zone),
                    owner if asked.by_owner else "",
                    use.subject if asked.by_subject else "",
                    use.region if asked.group_by else "",
                )
                amount = Fraction(use.value) * (duration // timedelta(microseconds=1))
                found[key] = found.get(key, Fraction(0)) + amount
    scale = 10**6 if asked.meter == "seconds" else 3600 * 10**6
    return {key: rounded(amount / scale) for key, amount in found.items()}


def keyed(asked: UsageQuestion, rows: list[UsageRow]) -> dict[tuple[str, ...], Decimal]:
    found: dict[tuple[str, ...], Decimal] = {}
    for row in rows:
        start = row.window[0].isoformat() if asked.window else ""
        key = (start, row.key.owner, row.key.subject, "".join(row.key.dimensions))
        found[key] = row.value
    assert len(found) == len(rows)
    assert [row.key for row in rows] == sorted(row.key for row in rows)
    return found


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: str(d["key"]))
def test_random_questions_are_answered_as_a_recount_does(
    usage: Any, definition: dict[str, Any]
) -> None:
    seed = 100 + DEFINITIONS.index(definition)
    made = history(seed, definition, START, days=DAYS, count=400)
    made.write(usage)
    rnd, seen = random.Random(seed), 0
    for number in range(20):
        asked = question_of(rnd, definition["key"])
        rows = list(engine(usage, made).ask(made.tenant, asked, NOW))
        oracle = integrated if definition["aggregation"] == "weighted_sum" else recount
        assert keyed(asked, rows) == oracle(made, asked), (number, asked)
        seen += len(rows)
        if len(rows) > 1:
            at = rnd.randrange(len(rows) - 1)
            page = Page(rows[at].key, 5)
            assert (
                list(engine(usage, made).ask(made.tenant, asked, NOW, page))
                == rows[at + 1 : at + 6]
            )


def test_an_interval_without_bounds_is_that_of_the_usage_as_of_the_cut(usage: Any) -> None:
    made = history(90, DEFINITIONS[1], START, days=DAYS, count=200)
    made.write(usage)
    for cut in (None, 1, 2, 3):
        live = made.live(cut)
        [row] = engine(usage, made).ask(made.tenant, UsageQuestion("units", cut=cut), NOW)
        assert row.value == sum(use.value for use in live)
        assert row.window[0] <= min(use.time for use in live) < row.window[0] + timedelta(hours=1)
        assert row.window[1] > max(use.time for use in live) >= row.window[1] - timedelta(hours=1)


def test_a_hundred_thousand_spans_are_one_question(usage: Any) -> None:
    """Each with bounds of its own; a few of them have usage."""
    made = history(91, DEFINITIONS[1], START, days=DAYS, count=300)
    made.write(usage)
    rnd = random.Random(7)
    spans = []
    for number in range(100_000):
        at = START + timedelta(microseconds=rnd.randrange(DAYS * 86_400_000_000))
        subject = f"s{number % 4}" if number % 1000 == 0 else f"other-{number}"
        spans.append(Span(f"owner-{number}", subject, at, at + timedelta(hours=5)))
    end = START + timedelta(days=DAYS)
    asked = UsageQuestion("units", START, end, spans=tuple(spans), by_owner=True, cut=2)
    rows = list(engine(usage, made).ask(made.tenant, asked, NOW))
    few = [span for span in spans if span.subject.startswith("s")]
    expected = recount(
        made, UsageQuestion("units", START, end, spans=tuple(few), by_owner=True, cut=2)
    )
    assert keyed(asked, rows) == expected
    assert len(rows) > 50


@pytest.mark.parametrize("number", [1, 8])
def test_what_differs_between_two_cuts_is_named_and_not_everything_is(
    usage: Any, number: int
) -> None:
    """Quarter hours of a sum and of a gauge, which lasts into windows that nothing touched."""
    definition = DEFINITIONS[number]
    made = history(200 + number, definition, START, days=DAYS, count=60)
    made.write(usage)
    first, last = (made.as_of(Cut(made.tenant, cut, made.cuts[cut][0], 0)) for cut in (1, 2))
    ranges = {at: (first.whole_below[at], end) for at, end in last.next_offset.items()}
    at_us = [(made.cuts[cut][0] - EPOCH) // timedelta(microseconds=1) for cut in (1, 2)]
    found = ClickHouseQuery(usage).changed(made.tenant, ranges, last, (1, 2), (at_us[0], at_us[1]))
    named = [
        (subject, EPOCH + timedelta(microseconds=start), EPOCH + timedelta(microseconds=end))
        for meter, subject, start, end in found
        if meter == definition["key"]
    ]
    oracle = integrated if number == 8 else recount
    start, differing, silent = START, 0, 0
    while start < START + timedelta(days=DAYS):
        end = start + timedelta(minutes=15)
        asked = UsageQuestion(definition["key"], start, end, by_subject=True)
        before, after = (oracle(made, replace(asked, cut=cut)) for cut in (1, 2))
        for subject in ("s0", "s1", "s2", "s3"):
            key = ("", "", subject, "")
            is_named = any(s == subject and a < end and start < b for s, a, b in named)
            silent += not is_named
            if before.get(key) != after.get(key):
                differing += 1
                assert is_named, (subject, start)
        start = end
    assert differing > 20
    assert silent > 20


def test_the_view_of_samples_tells_how_long_each_value_held(usage: Any) -> None:
    made = history(203, DEFINITIONS[9], START, days=DAYS, count=300)
    made.write(usage)
    rows = usage.query(
        "SELECT subject, dimensions['region'], time, until, value, seconds FROM usage_samples"
        f" WHERE tenant = '{made.tenant}'"
    ).result_rows
    found = {(subject, region, time): rest for subject, region, time, *rest in rows}
    far = datetime(2100, 1, 1, tzinfo=UTC)
    expected = list(lasting(made.live(None), far))
    assert len(expected) > 100
    for use, start, end in expected:
        until, value, seconds = found[use.subject, use.region, start]
        assert (until or far, value) == (end, use.value)
        assert seconds == (None if end == far else Decimal((end - start) // MICROSECOND) / 10**6)
