"""What the demo sends: each month's reports as CloudEvents, in requests of about a thousand.

Reports leave in the order in which flights landed, so departures arrive out of order by hours.
Some requests are sent again whole, as after a timeout whose answer was lost.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from tollbook.demo.flights import MONTHS, close_at

EVENTS_PER_REQUEST = 1000
RESENT_ONE_IN = 20
RESENT_AFTER = 5
"""How many requests leave between a request and its repetition."""

_SENDS = """
CREATE TABLE sends AS
WITH every_send AS (
    SELECT id, reported_at AS sent_at, false AS copy FROM reports
    UNION ALL
    SELECT id, copied_at, true FROM reports WHERE copied_at IS NOT NULL
), fed AS (
    SELECT *, 1 + len(list_filter($closes, lambda closed: closed <= sent_at)) AS feed
    FROM every_send
), placed AS (
    SELECT *, (row_number() OVER (PARTITION BY feed ORDER BY sent_at, id, copy) - 1)
        // $per_request AS request
    FROM fed
)
SELECT *, ('0x' || substr(md5(format('timeout {} {}', feed, request)), 1, 8))::UBIGINT
    % $resent_one_in = 0 AS resent
FROM placed
"""

_BODIES = """
SELECT request, count(*)::INTEGER, any_value(resent),
    string_agg(event, chr(10) ORDER BY sent_at, id, copy)
FROM sends AS s JOIN events USING (id) WHERE feed = $feed GROUP BY request ORDER BY request
"""

# Every value is a code of letters and digits or a whole number: nothing needs escaping.
_EVENTS = """
CREATE TABLE events AS
SELECT id, concat('{"specversion":"1.0","id":"', id, '","source":"/airports/', origin,
    '","type":"flight.', if(departed, 'departed', 'cancelled'),
    '","subject":"', carrier, ':', coalesce(tailnum, 'unknown'),
    '","time":"', strftime(event_time, '%Y-%m-%dT%H:%M:%SZ'),
    '","data":{"flight":"', carrier, flight, '","origin":"', origin, '","dest":"', dest,
    '","tailnum":', coalesce('"' || tailnum || '"', 'null'),
    ',"seats":', coalesce(seats::VARCHAR, 'null,"seats_unknown":"not in the planes table"'),
    ',"miles":', distance,
    if(departed, concat(',"dep_delay":', dep_delay), ''), '}}') AS event
FROM reports
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One request's body (NDJSON), how many events it holds, and whether it is a repetition."""

    body: bytes
    events: int
    repeated: bool


def prepare_requests(tables: duckdb.DuckDBPyConnection) -> None:
    """Add the tables `events` and `sends` to those of `open_flights`.

    `sends.feed` is the month before whose close a report leaves; feed 13 follows the last close.
    """
    closes = [close_at(month).replace(tzinfo=None) for month in range(1, MONTHS + 1)]
    tables.execute(_EVENTS)
    settings = {"closes": closes, "per_request": EVENTS_PER_REQUEST, "resent_one_in": RESENT_ONE_IN}
    tables.execute(_SENDS, settings)


def requests_of(tables: duckdb.DuckDBPyConnection, feed: int) -> list[Request]:
    """Return one feed's requests in the order of sending, repetitions included."""
    rows = tables.execute(_BODIES, {"feed": feed}).fetchall()
    return list(_with_repetitions(rows))


def _with_repetitions(rows: list[tuple[int, int, bool, str]]) -> Iterator[Request]:
    waiting: list[tuple[int, Request]] = []
    for number, events, resent, body in rows:
        yield Request(body.encode(), events, repeated=False)
        if resent:
            waiting.append((number + RESENT_AFTER, Request(body.encode(), events, repeated=True)))
        while waiting and waiting[0][0] <= number:
            yield waiting.pop(0)[1]
    yield from (request for _, request in waiting)
