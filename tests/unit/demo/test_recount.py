import csv
import io
import zipfile
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

import tollbook.demo
from tollbook.demo.flights import package_file
from tollbook.demo.rating import Version, read_versions
from tollbook.demo.recount import (
    Bill,
    LineKey,
    Use,
    fees,
    from_scratch,
    lines,
    prepare_recount,
    quantities,
)

EVERY_FEED = 13


@pytest.fixture(scope="module")
def recounted(tables: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    prepare_recount(tables)
    return tables


@pytest.fixture(scope="module")
def versions() -> list[Version]:
    return read_versions(Path(tollbook.demo.__file__).parent / "price_book.yaml")


@pytest.fixture(scope="module")
def issued(recounted: duckdb.DuckDBPyConnection, versions: list[Version]) -> dict[LineKey, Bill]:
    return lines(recounted, versions, 12)


def test_quantities_equal_a_plain_loop_over_the_lines_of_the_source_file(
    recounted: duckdb.DuckDBPyConnection,
) -> None:
    expected: Counter[Use] = Counter()
    tails: dict[Use, set[str]] = defaultdict(set)
    with zipfile.ZipFile(package_file("flights.csv.zip")) as archive:
        text = io.TextIOWrapper(archive.open("flights.csv"))
        for row in csv.DictReader(text):
            if row["dep_time"] == "NA" or row["carrier"] not in ("VX", "HA"):
                continue
            day = datetime(2013, int(row["month"]), int(row["day"]))  # noqa: DTZ001
            minutes = int(row["hour"]) * 60 + int(row["minute"]) + int(row["dep_delay"])
            left_at = day + timedelta(minutes=minutes)
            month = left_at.month if left_at.year == 2013 else 13
            expected[Use(row["carrier"], month, "departures", row["origin"])] += 1
            expected[Use(row["carrier"], month, "miles")] += int(row["distance"])
            tails[Use(row["carrier"], month, "aircraft")].add(row["tailnum"])
    expected.update({use: len(aircraft) for use, aircraft in tails.items()})
    counted = quantities(recounted, EVERY_FEED)
    meters = {"departures", "miles", "aircraft"}
    assert {
        use: value
        for use, value in counted.items()
        if use.airline in ("VX", "HA") and use.meter in meters
    } == expected


def test_all_departures_of_the_year_are_counted(recounted: duckdb.DuckDBPyConnection) -> None:
    counted = quantities(recounted, EVERY_FEED)
    assert sum(v for use, v in counted.items() if use.meter == "departures") == 328_521
    delays = {use: v for use, v in counted.items() if use.meter == "longest_delay"}
    assert max(delays.values()) == 1301
    assert delays[Use("HA", 1, "longest_delay")] == 1301


def test_a_year_has_twelve_fees_of_which_six_are_of_the_second_version(
    recounted: duckdb.DuckDBPyConnection, versions: list[Version]
) -> None:
    of_one = [
        bill.cents for key, bill in fees(recounted, versions, 12).items() if key.airline == "HA"
    ]
    assert sorted(of_one) == [2500_00] * 6 + [2750_00] * 6


def test_lines_and_corrections_add_up_to_rating_from_scratch(
    recounted: duckdb.DuckDBPyConnection, versions: list[Version], issued: dict[LineKey, Bill]
) -> None:
    totals: Counter[str] = Counter()
    for key, bill in issued.items():
        totals[key.airline] += bill.cents
    assert totals == from_scratch(recounted, versions, 12, 12)
    assert len(totals) == 16


def test_every_close_but_the_first_corrects_earlier_months(issued: dict[LineKey, Bill]) -> None:
    corrected = {key.close for key in issued if key.kind == "correction"}
    assert corrected == set(range(2, 13))
    assert all(key.month < key.close for key in issued if key.kind == "correction")
    assert all(bill.quantity >= Decimal(0) and bill.cents for bill in issued.values())
