"""Views answer with what counts in the end, and read only what their conditions name."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from infra.embedded.gateway.analyst import FILTER_FIRST
from infra.provision.clickhouse_schema import migrate_clickhouse
from infra.provision.migrations import read_migrations
from tests.conformance.gateway_process import PASSWORD, GatewayProcess

DAY = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HISTORY, AUDIT = 1 << 62, (1 << 63) + 1

AS_ANALYST = FILTER_FIRST | {
    "additional_table_filters": "{'tollbook.usage_windows': 'tenant = \\'t1\\'',"
    " 'tollbook.usage_events': 'tenant = \\'t1\\''}"
}


@pytest.fixture(scope="module")
def database(gateway: GatewayProcess) -> Iterator[Any]:
    address = f"http://owner:{quote(PASSWORD, safe='')}@127.0.0.1:{gateway.port}/tollbook"
    migrate_clickhouse(address, read_migrations("clickhouse"))
    client = gateway.connect(database="tollbook")
    yield client
    client.close()


def insert(client: Any, table: str, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    client.insert(table, [[row[name] for name in names] for row in rows], column_names=names)


def window(aggregation: str, minute: int, item: str, count: int, total: str, **at: int) -> Any:
    start = DAY + minute * MINUTE
    place = {"log": 0, "partition": 0, "segment": 0, "version": 1} | at
    return {
        "tenant": "w",
        "meter": aggregation,
        "meter_version": 1,
        "aggregation": aggregation,
        "subject": "s",
        "dimensions": '{"r":"eu"}',
        "item": item,
        "window_start": start,
        "window_end": start + MINUTE,
        "segment_at": start,
        "count": count,
        "sum": Decimal(total),
        **place,
    }


def values(client: Any, view: str, meter: str) -> list[tuple[int, Decimal, int]]:
    """Return (minute, value, events) of a meter's windows."""
    rows = client.query(
        f"SELECT window_start, value, events FROM {view} WHERE tenant = 'w' AND meter = '{meter}'"
        " ORDER BY window_start"
    ).result_rows
    return [((start - DAY) // MINUTE, value, events) for start, value, events in rows]


def test_values_are_of_what_still_counts_over_all_segments(database: Any) -> None:
    rows = [
        # Counted twice by two workers, taken back by half in a later segment, added to by history.
        window("sum", 0, "", 3, "9.5"), window("sum", 0, "", 3, "9.5", version=2),
        window("sum", 0, "", -1, "-2.5", segment=70), window("sum", 0, "", 1, "1", log=1),
        window("sum", 61, "", 2, "4", segment=HISTORY),
        # Wholly taken back: no row.
        window("count", 5, "", 2, "0"), window("count", 5, "", -2, "0", segment=AUDIT),
        window("count", 7, "", 1, "0", partition=3),
        # The least value was taken back, and one that another segment still holds.
        window("min", 0, "-7", 1, "0"), window("min", 0, "-7", -1, "0", segment=9),
        window("min", 0, "2.5", 1, "0"), window("min", 1, "4", 2, "0"),
        window("min", 1, "4", -1, "0", segment=9), window("max", 1, "4", 1, "0"),
        window("max", 1, "11", 1, "0", partition=1),
        window("avg", 0, "", 3, "2"), window("avg", 1, "", 3, "-2"),
        window("unique_count", 0, "a", 5, "0"), window("unique_count", 0, "b", 1, "0"),
        window("unique_count", 0, "b", -1, "0", segment=4), window("unique_count", 2, "c", 1, "0"),
        *(window("percentile(90)", 0, str(each), 1, "0") for each in range(1, 11)),
        window("latest", 0, f"{1:016}:{'a' * 32}", 1, "5"),
        window("latest", 0, f"{2:016}:{'0' * 32}", 1, "6"),
        window("latest", 0, f"{2:016}:{'1' * 32}", 1, "8"),
        window("latest", 0, f"{3:016}:{'1' * 32}", 1, "9"),
        window("latest", 0, f"{3:016}:{'1' * 32}", -1, "-9", segment=4),
        window("weighted_sum(hour)", 0, f"{2:016}:{'1' * 32}", 1, "8"),
    ]  # fmt: skip
    for row in rows:
        insert(database, "usage_windows", [row])
    third = Decimal("0.666666666667")
    assert values(database, "usage_minutely", "sum") == [(0, Decimal(8), 3), (61, Decimal(4), 2)]
    assert values(database, "usage_hourly", "sum") == [(0, Decimal(8), 3), (60, Decimal(4), 2)]
    assert values(database, "usage_daily", "sum") == [(0, Decimal(12), 5)]
    assert values(database, "usage_minutely", "count") == [(7, Decimal(1), 1)]
    assert values(database, "usage_minutely", "min") == [
        (0, Decimal("2.5"), 1), (1, Decimal(4), 1),
    ]  # fmt: skip
    assert values(database, "usage_daily", "min") == [(0, Decimal("2.5"), 2)]
    assert values(database, "usage_hourly", "max") == [(0, Decimal(11), 2)]
    assert values(database, "usage_minutely", "avg") == [(0, third, 3), (1, -third, 3)]
    assert values(database, "usage_daily", "unique_count") == [(0, Decimal(2), 6)]
    assert values(database, "usage_hourly", "percentile(90)") == [(0, Decimal(9), 10)]
    assert values(database, "usage_hourly", "latest") == [(0, Decimal(8), 3)]
    assert values(database, "usage_hourly", "weighted_sum(hour)") == []


def test_a_window_longer_than_asked_for_says_where_it_ends(database: Any) -> None:
    long = window("sum", 0, "", 1, "24") | {"tenant": "long", "window_end": DAY + 1440 * MINUTE}
    insert(database, "usage_windows", [long])
    for view in ("usage_minutely", "usage_hourly", "usage_daily"):
        rows = database.query(f"SELECT window_start, window_end FROM {view} WHERE tenant = 'long'")
        assert rows.result_rows == [(DAY, DAY + 1440 * MINUTE)]


def event(number: int, **fields: Any) -> dict[str, Any]:
    data = json.dumps({"units": number})
    return {
        "tenant": "w",
        "type": "t",
        "subject": "s",
        "time": DAY,
        "source": "x",
        "id": f"e{number}",
        "data": data,
        "extensions": "",
        "time_stamped": False,
        "ingested_at": DAY,
        "identity": f"{number:016}".encode(),
        "log": 0,
        "partition": 1,
        "offset": number,
        "index": 0,
        **fields,
    }


def correction(number: int, revision: int, sign: int, kind: str, **fields: Any) -> dict[str, Any]:
    told = {"sign": sign, "revision": revision, "kind": kind, "author": "a", "reason": "r"}
    place = {"at_log": 0, "at_partition": 1, "at_offset": 100 + revision, "at_index": number}
    return event(number) | told | place | {"request": "q", "corrected_at": DAY} | fields


def test_events_are_as_corrections_left_them(database: Any) -> None:
    insert(database, "usage_events", [event(number) for number in range(5)])
    insert(database, "usage_events", [event(1)])
    amended = [{"data": '{"units":10}'}, {"data": '{"units":20}', "subject": "other"}]
    rows = [
        correction(0, 1, -1, "void"),
        correction(1, 1, -1, "amend"), correction(1, 1, 1, "amend", **amended[0]),
        correction(1, 2, -1, "amend", **amended[0]), correction(1, 2, 1, "amend", **amended[1]),
        correction(2, 1, -1, "void"), correction(2, 2, 1, "restore"),
        correction(3, 1, -1, "amend"), correction(3, 1, 1, "amend", **amended[0]),
        correction(3, 2, -1, "void", **amended[0]),
    ]  # fmt: skip
    insert(database, "usage_corrections", rows)
    insert(database, "usage_corrections", rows[:3])
    found = database.query(
        "SELECT id, subject, JSONExtractInt(data, 'units'), revision FROM events"
        " WHERE tenant = 'w' ORDER BY id"
    ).result_rows
    assert found == [("e1", "other", 20, 2), ("e2", "s", 2, 2), ("e4", "s", 4, 0)]


@pytest.fixture(scope="module")
def much(database: Any) -> Any:
    """Three months of two tenants, each month a part of its own."""
    for month in (1, 2, 3):
        database.command(
            "INSERT INTO usage_windows SELECT tenant, meter, 1, 'sum', subject, '{}', '',"
            f" toDateTime64('2026-0{month}-01 00:00:00', 3, 'UTC') + number * 900 AS start,"
            " start + 900, 0, 0, number, start, number, 1, 2 FROM numbers(2000) AS n"
            " CROSS JOIN (SELECT arrayJoin(['t1', 't2']) AS tenant) AS t"
            " CROSS JOIN (SELECT arrayJoin(['m1', 'm2']) AS meter) AS m"
            " CROSS JOIN (SELECT concat('s', toString(arrayJoin(range(30)))) AS subject) AS s"
        )
        database.command(
            "INSERT INTO usage_events (* EXCEPT (replacement)) SELECT tenant, type, subject,"
            f" toDateTime64('2026-0{month}-01 00:00:00', 6, 'UTC') + number * 900, 'x',"
            " toString(number), '{}', '', false, now64(3), toFixedString('', 16), 0, 0,"
            f" {month} * 1000000 + number, 0 FROM numbers(2000) AS n"
            " CROSS JOIN (SELECT arrayJoin(['t1', 't2']) AS tenant) AS t"
            " CROSS JOIN (SELECT arrayJoin(['k1', 'k2']) AS type) AS m"
            " CROSS JOIN (SELECT concat('s', toString(arrayJoin(range(30)))) AS subject) AS s"
        )
    return database


MARCH = "window_start >= '2026-03-01 00:00:00' AND window_start < '2026-03-02 00:00:00'"


@pytest.mark.parametrize("settings", [{}, AS_ANALYST], ids=["owner", "analyst"])
@pytest.mark.parametrize("view", ["usage_minutely", "usage_hourly", "usage_daily"])
@pytest.mark.parametrize(
    ("condition", "most"),
    [
        ("tenant = 't1'", 0.55),
        ("tenant = 't1' AND meter = 'm1'", 0.3),
        ("tenant = 't1' AND meter = 'm1' AND subject = 's7'", 0.1),
        (f"tenant = 't1' AND {MARCH}", 0.2),
        (f"tenant = 't1' AND meter = 'm2' AND subject = 's7' AND {MARCH}", 0.04),
        (f"tenant = 't1' AND subject IN ('s7', 's8') AND meter = 'm1' AND {MARCH}", 0.06),
    ],
)
def test_conditions_on_a_view_reach_the_keys_below(
    much: Any, view: str, condition: str, most: float, settings: dict[str, Any]
) -> None:
    read, of = granules(much, f"SELECT sum(value) FROM {view} WHERE {condition}", settings)
    assert 0 < read <= most * of, f"{read} of {of}"


@pytest.mark.parametrize("settings", [{}, AS_ANALYST], ids=["owner", "analyst"])
@pytest.mark.parametrize(
    ("condition", "most"),
    [
        ("tenant = 't1' AND type = 'k1'", 0.3),
        ("tenant = 't1' AND time >= '2026-03-01 00:00:00'", 0.2),
        ("tenant = 't1' AND type = 'k1' AND subject = 's7' AND time > '2026-03-20 00:00:00'", 0.04),
    ],
)
def test_conditions_on_events_reach_the_keys_below(
    much: Any, condition: str, most: float, settings: dict[str, Any]
) -> None:
    read, of = granules(much, f"SELECT count() FROM events WHERE {condition}", settings)
    assert 0 < read <= most * of, f"{read} of {of}"


def granules(client: Any, query: str, settings: dict[str, Any]) -> tuple[int, int]:
    """Return how many granules of its largest table a query reads, and how many that has."""
    explained = client.query(f"EXPLAIN indexes = 1 {query}", settings=settings).result_rows
    tables: list[list[tuple[int, int]]] = []
    for (line,) in explained:
        if "ReadFromMergeTree" in line:
            tables.append([])
        if found := re.search(r"Granules: (\d+)/(\d+)", line):
            tables[-1].append((int(found[1]), int(found[2])))
    # Each index leaves a part of what the one before it left.
    steps = max((steps for steps in tables if steps), key=lambda steps: steps[0][1])
    return steps[-1][0], steps[0][1]
