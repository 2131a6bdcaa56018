"""Wires a backtest to the servers of a stack, and compares with what is measured now."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg

from ingest.event import microseconds
from pipelines.backtest import EVENTS_MAX, run_backtest
from pipelines.clickhouse_history import ClickHouseHistory
from pipelines.clickhouse_progress import ClickHouseProgress
from pipelines.fold import ActiveMeter
from pipelines.meter import MeterDefinition
from pipelines.question import UsageQuestion
from tollbook.usage_wiring import open_queries

Interval = tuple[datetime | None, datetime | None]


def backtest(
    connection: "psycopg.Connection[Any]",
    clickhouse: Any,
    tenant: str,
    definition: MeterDefinition,
    interval: Interval,
    *,
    events_max: int | None = EVENTS_MAX,
) -> dict[str, Any]:
    """Return, as JSON content, what a definition would have counted.

    Raises:
        TooMuchError: it takes more than one request may.
        TransientError: ClickHouse does not answer.
    """
    start, end = interval
    found = run_backtest(
        ClickHouseHistory(clickhouse),
        ActiveMeter(0, tenant, 0, definition),
        ClickHouseProgress(clickhouse).next_offsets(),
        (
            None if start is None else microseconds(start),
            None if end is None else microseconds(end),
        ),
        events_max,
    )
    current = _current(connection, clickhouse, tenant, definition.key, interval)
    return {
        "meter": definition.key,
        "from": None if start is None else start.isoformat().replace("+00:00", "Z"),
        "to": None if end is None else end.isoformat().replace("+00:00", "Z"),
        "slow": definition.is_slow,
        **found.to_content(current),
    }


def _current(
    connection: "psycopg.Connection[Any]",
    clickhouse: Any,
    tenant: str,
    key: str,
    interval: Interval,
) -> Mapping[str, Decimal] | None:
    """Return what the meter of that key measures now, or None where there is none."""
    question = UsageQuestion(meter=key, start=interval[0], end=interval[1], by_subject=True)
    try:
        rows = list(open_queries(connection, clickhouse).ask(tenant, question, datetime.now(UTC)))
    except LookupError:
        return None
    return {row.key.subject: row.value for row in rows}
