"""How fast a month by day of one customer is answered, from 100 million rows of windows.

Asked as users ask: through the API, and by SQL from the view `usage_daily`, as owner and analyst.
Prints, asserts only that answers are right.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from tests.analysts import make_analyst
from tests.embedded_stack import EmbeddedStack
from tollbook.bench.figure import Figure, figures_table
from tollbook.bench.load import definitions
from tollbook.billing_wiring import activate_meters
from tollbook.screen import show
from tollbook.stack_file import Stack
from tollbook.usage_wiring import open_clickhouse

pytestmark = pytest.mark.timeout(1_800)

DAYS = 30
START = datetime(2026, 4, 1, tzinfo=UTC)
CUSTOMERS = 5_000
SERIES = 7
SEGMENTS = 2
"""An hour of a series is counted in so many segments of the log."""
PREFIX = "bench_query"
QUESTIONS = 200
MERGE_SECONDS_MAX = 300
P95_MS_TARGET = 50

_FILL = """
INSERT INTO usage_windows (tenant, meter, meter_version, aggregation, subject, dimensions,
    item, window_start, window_end, log, partition, segment, segment_at, version, count, sum)
SELECT %(tenant)s, %(meter)s, 1, %(aggregation)s, concat('customer-', toString(customer)),
    concat('{{"model":"m', toString(series), '","region":"eu"}}'), '', hour, hour + 3600,
    1, customer %% 4, segment, hour, segment, 3, 1000 + series
FROM (
    SELECT intDiv(number, {row}) AS customer, number %% {row} AS rest,
        intDiv(rest, {cell}) AS h, intDiv(rest, {segments}) %% {series} AS series,
        number %% {segments} + h * {segments} AS segment,
        toDateTime64(%(day)s, 3, 'UTC') + h * 3600 AS hour
    FROM numbers({row} * {customers})
)
""".format(
    row=24 * SERIES * SEGMENTS,
    cell=SERIES * SEGMENTS,
    segments=SEGMENTS,
    series=SERIES,
    customers=CUSTOMERS,
)


def fill(stack: Stack) -> int:
    """Write a month of windows, a day at a time as workers do; return how many rows there are."""
    with psycopg.connect(stack.postgres_dsn) as connection:
        made = list(definitions(f"{PREFIX}.event", PREFIX))
        for definition in made:
            connection.execute(
                "INSERT INTO meters (tenant, key, version, definition) VALUES (%s, %s, 1, %s)",
                (stack.tenant, definition["key"], json.dumps(definition)),
            )
    activate_meters(stack)
    clickhouse = open_clickhouse(stack.clickhouse_url)
    for day in range(DAYS):
        for definition in made:
            values = {
                "tenant": stack.tenant,
                "meter": definition["key"],
                "aggregation": definition["aggregation"],
                "day": f"{START + timedelta(days=day):%Y-%m-%d %H:%M:%S}",
            }
            clickhouse.command(_FILL, values)
    _wait_for_merges(clickhouse)
    return int(clickhouse.command("SELECT count() FROM usage_windows"))


def _wait_for_merges(clickhouse: Any) -> None:
    """Let the engine merge what was written: a month's rows come within minutes here."""
    until = time.monotonic() + MERGE_SECONDS_MAX
    while clickhouse.command("SELECT count() FROM system.merges") and time.monotonic() < until:
        time.sleep(1)


def test_a_month_by_day_of_one_customer(stack: EmbeddedStack) -> None:
    known = stack.read()
    show("", figures_table(measure(known, fill(known))))


def measure(stack: Stack, rows: int) -> Iterator[Figure]:
    """Yield how long one question takes, one after the other, over customers at random."""
    owner = open_clickhouse(stack.clickhouse_url)
    analyst = make_analyst(stack, stack.tenant, "tb_bench_query").connect()
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=60) as client:

        def from_api(customer: str) -> list[Decimal]:
            asked = {"from": f"{START:%Y-%m-%d}", "to": f"{START + timedelta(days=DAYS):%Y-%m-%d}"}
            answer = client.get(
                f"/v1/meters/{PREFIX}_tokens/query",
                params={**asked, "subject": customer, "window": "1d"},
            )
            return [Decimal(row["value"]) for row in answer.raise_for_status().json()["rows"]]

        def from_view(client: Any, customer: str) -> list[Decimal]:
            found = client.query(_VIEW, {"tenant": stack.tenant, "customer": customer})
            return [row[1] for row in found.result_rows]

        where = f"{rows:,} rows of windows, {QUESTIONS} customers one after another"
        for name, ask in (
            ("the API", from_api),
            ("the view usage_daily", partial(from_view, owner)),
            ("the view, as an analyst", partial(from_view, analyst)),
        ):
            before = _cpu_seconds(stack)
            taken = sorted(_timed(ask))
            spent = (_cpu_seconds(stack) - before) / QUESTIONS * 1000
            p50, p95 = taken[len(taken) // 2], taken[len(taken) * 95 // 100]
            yield Figure(f"a month by day from {name}, p50", p50, "ms", where)
            yield Figure(f"a month by day from {name}, p95", p95, "ms", where, P95_MS_TARGET)
            yield Figure(f"a month by day from {name}, CPU", spent, "ms", "API and ClickHouse")


def _cpu_seconds(stack: Stack) -> float:
    spent = [psutil.Process(stack.pids[name]).cpu_times() for name in ("api", "clickhouse")]
    return float(sum(times.user + times.system for times in spent))


_VIEW = f"""
SELECT window_start, sum(value) FROM usage_daily
WHERE tenant = %(tenant)s AND meter = '{PREFIX}_tokens' AND subject = %(customer)s
    AND window_start >= '{START:%Y-%m-%d}'
    AND window_start < '{START + timedelta(days=DAYS):%Y-%m-%d}'
GROUP BY window_start ORDER BY window_start
"""


def _timed(ask: Callable[[str], list[Decimal]]) -> Iterator[float]:
    dice = random.Random(1)
    daily = Decimal(24 * SEGMENTS * sum(1000 + series for series in range(SERIES)))
    for _ in range(QUESTIONS):
        customer = f"customer-{dice.randrange(CUSTOMERS)}"
        began = time.perf_counter()
        values = ask(customer)
        yield (time.perf_counter() - began) * 1000
        assert values == [daily] * DAYS
