from datetime import UTC, datetime
from typing import Any

import duckdb

from tollbook.demo.flights import ZONE, close_at, month_start, open_flights, period


def one(tables: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    row = tables.execute(sql).fetchone()
    assert row is not None
    return tuple(row)


def test_there_are_336_776_flights_of_which_328_521_departed(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    sql = "SELECT count(*), count(DISTINCT id), count(*) FILTER (departed) FROM reports"
    assert one(tables, sql) == (336_776, 336_776, 328_521)


def test_sixteen_airlines_fly_4_043_aircraft_and_17_of_those_fly_for_more_than_one(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    sql = """SELECT count(DISTINCT tailnum), count(*) FILTER (airlines > 1) FROM (
        SELECT tailnum, count(DISTINCT carrier) AS airlines FROM reports
        WHERE tailnum IS NOT NULL GROUP BY tailnum)"""
    assert one(tables, sql) == (4_043, 17)
    assert one(tables, "SELECT count(DISTINCT carrier) FROM reports") == (16,)


def test_only_cancelled_flights_lack_a_tail_number(tables: duckdb.DuckDBPyConnection) -> None:
    sql = """SELECT count(*) FILTER (NOT departed), count(*) FILTER (departed) FROM reports
        WHERE tailnum IS NULL"""
    assert one(tables, sql) == (2_512, 0)


def test_scheduled_hours_are_new_yorks_clock_in_winter_and_summer(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    hours = tables.execute("SELECT DISTINCT year, month, day, hour, time_hour FROM reports")
    rows = hours.fetchall()
    assert len(rows) > 6_000
    for year, month, day, hour, scheduled in rows:
        local = datetime(year, month, day, hour, tzinfo=ZONE)
        assert local.astimezone(UTC) == scheduled.replace(tzinfo=UTC)


def test_departures_are_scheduled_times_plus_delays(tables: duckdb.DuckDBPyConnection) -> None:
    sql = """SELECT count(*) FROM reports WHERE departed
        AND (dep_time // 100 * 60 + dep_time % 100) % 1440 = (hour * 60 + minute + dep_delay) % 1440
        AND date_diff('minute', time_hour, event_time) = minute + dep_delay"""
    assert one(tables, sql) == (328_521,)


def test_a_late_report_misses_its_months_close_and_no_other_does(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    rows = tables.execute(
        """SELECT year, month, late, count(*), min(reported_at), max(reported_at),
            -- Delayed past midnight of the month's last day, a flight belongs to the next month.
            (make_date(year, month, day) + to_minutes(60 * hour + minute + dep_delay)
                >= make_date(year, month, 1) + to_months(1)) AS spilt
        FROM reports WHERE departed GROUP BY ALL"""
    ).fetchall()
    late = sum(row[3] for row in rows if row[2])
    assert 0.004 < late / 328_521 < 0.006
    for _, month, is_late, _, first, last, spilt in rows:
        closed = close_at(month + spilt).replace(tzinfo=None)
        assert first >= closed if is_late else last < closed


def test_every_run_reports_the_same_flights_at_the_same_times(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    sql = "SELECT md5(string_agg(concat_ws(' ', id, reported_at, copied_at), ',' ORDER BY id)) "
    assert one(open_flights(), sql + "FROM reports") == one(tables, sql + "FROM reports")


def test_months_are_new_yorks() -> None:
    assert month_start(1) == datetime(2013, 1, 1, 5, tzinfo=UTC)
    assert month_start(7) == datetime(2013, 7, 1, 4, tzinfo=UTC)
    assert close_at(12) == datetime(2014, 1, 2, 5, tzinfo=UTC)
    assert (period(1), period(12)) == ("2013-01", "2013-12")
