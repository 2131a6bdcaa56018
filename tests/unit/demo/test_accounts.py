import duckdb
import pyarrow as pa

from tollbook.demo.accounts import check_copies, check_events, check_rejections
from tollbook.demo.feed import Sent

FEED = 1
STORED = """SELECT id, if(departed, 'flight.departed', 'flight.cancelled') AS type,
    carrier || ':' || coalesce(tailnum, 'unknown') AS subject, epoch_us(event_time) AS at
    FROM reports WHERE id IN (SELECT id FROM sends WHERE feed = 1) ORDER BY id"""
REJECTED = """SELECT id, 'seats_flown' AS meter FROM reports WHERE departed AND seats IS NULL
    AND id IN (SELECT id FROM sends WHERE feed = 1) ORDER BY id"""


def arrow(tables: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    return tables.sql(sql).to_arrow_table()


def test_events_are_compared_one_by_one(tables: duckdb.DuckDBPyConnection) -> None:
    stored = arrow(tables, STORED)
    assert stored.num_rows > 27_000
    assert not check_events(tables, FEED, stored).differences
    (lost,) = check_events(tables, FEED, stored.slice(1)).differences
    assert (lost.recounted, lost.held) == ("is there", None)
    (twice,) = check_events(
        tables, FEED, pa.concat_tables([stored, stored.slice(0, 1)])
    ).differences
    assert (twice.recounted, twice.held) == (None, "is there")


def test_rejections_are_the_flights_without_known_seats_one_for_one(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    rejected = arrow(tables, REJECTED)
    assert rejected.num_rows > 3_000
    assert not check_rejections(tables, FEED, rejected).differences
    assert len(check_rejections(tables, FEED, rejected.slice(3)).differences) == 3


def test_all_that_was_sent_must_have_a_fate(tables: duckdb.DuckDBPyConnection) -> None:
    ((sends, copies),) = tables.execute(
        "SELECT count(*), count(*) - count(DISTINCT id) FROM sends WHERE feed = 1"
    ).fetchall()
    stored = {"stored": sends - copies, "copies": copies, "dead letters": 0}
    answered = Sent(requests=30, acknowledged=sends)
    unanswered = Sent(requests=31, acknowledged=sends, unknown=1000)

    def differences(sent: Sent, taken: dict[str, int]) -> int:
        return sum(len(check.differences) for check in check_copies(tables, 1, sent, taken))

    assert differences(answered, stored) == 0
    assert differences(unanswered, stored) == 0
    assert differences(unanswered, stored | {"copies": copies + 1000}) == 0
    assert differences(answered, stored | {"copies": copies + 1}) > 0
    assert differences(unanswered, stored | {"copies": copies + 1001}) > 0
    assert differences(answered, stored | {"stored": sends - copies - 1}) > 0
