from collections import Counter

import duckdb
import msgspec

from tollbook.demo.requests import EVENTS_PER_REQUEST, Request, events_up_to, requests_of


def _sent(tables: duckdb.DuckDBPyConnection) -> list[Request]:
    return [request for feed in range(1, 14) for request in requests_of(tables, feed)]


def test_every_flight_is_sent_and_one_in_a_hundred_twice(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    times = Counter(
        line[27 : line.index(b'"', 27)] for request in _sent(tables) for line in request.events
    )
    assert len(times) == 336_776
    assert set(times.values()) == {1, 2}
    assert 0.009 < sum(count == 2 for count in times.values()) / len(times) < 0.011
    assert times.total() == events_up_to(tables, 13)


def test_requests_hold_a_thousand_events_and_some_lose_their_answer(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    requests = _sent(tables)
    assert max(len(request.events) for request in requests) == EVENTS_PER_REQUEST
    assert len(requests) < 360
    assert 10 <= sum(request.loses_answer for request in requests) <= 30


def test_some_copies_share_a_request_and_some_come_in_another_month(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    shared, months_apart = tables.execute(
        """SELECT count(*) FILTER (a.feed = b.feed AND a.request = b.request),
            count(*) FILTER (b.feed > a.feed)
        FROM sends AS a JOIN sends AS b USING (id) WHERE NOT a.copy AND b.copy"""
    ).fetchone() or (0, 0)
    assert shared > 1_500
    assert months_apart > 500


def test_an_event_says_who_flew_what(tables: duckdb.DuckDBPyConnection) -> None:
    texts = [text for (text,) in tables.execute("SELECT event FROM events LIMIT 5000").fetchall()]
    events = msgspec.json.decode(f"[{','.join(texts)}]")
    departed = [e for e in events if e["type"] == "flight.departed"]
    assert {e["type"] for e in events} == {"flight.departed", "flight.cancelled"}
    assert all(
        e["subject"] == f"{e['data']['flight'][:2]}:{e['data']['tailnum']}" for e in departed
    )


def test_an_event_says_where_its_seats_are_not_known(tables: duckdb.DuckDBPyConnection) -> None:
    sql = """SELECT count(*) FILTER (event LIKE '%flight.departed%"seats":null,"seats_unknown":"%'),
        count(*) FILTER (event LIKE '%flight.departed%"seats":null%'),
        count(*) FILTER (event LIKE '%flight.cancelled","subject":"__:unknown"%') FROM events"""
    assert tables.execute(sql).fetchone() == (48_550, 48_550, 2_512)
