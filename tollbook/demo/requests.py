"""What the demo sends: each month's reports as CloudEvents, in requests of about a thousand.

Reports leave in the order in which flights landed, so departures arrive out of order by hours.
The answers to some requests are lost, as by a timeout, and the same request is sent again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from tollbook.demo.flights import MONTHS, close_at

EVENTS_PER_REQUEST = 1000
LOST_ONE_IN = 20
"""One request in so many is sent again whole, since its first answer is lost."""

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
    % $lost_one_in = 0 AS loses_answer
FROM placed
"""

_BODIES = """
SELECT any_value(loses_answer), string_agg(event, chr(10) ORDER BY sent_at, id, copy)
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
    """One request's events, a line of JSON each, and whether its first answer will be lost."""

    events: Sequence[bytes]
    loses_answer: bool


def prepare_requests(tables: duckdb.DuckDBPyConnection) -> None:
    """Add the tables `events` and `sends` to those of `open_flights`.

    `sends.feed` is the month before whose close a report leaves; feed 13 follows the last close.
    """
    closes = [close_at(month).replace(tzinfo=None) for month in range(1, MONTHS + 1)]
    tables.execute(_EVENTS)
    settings = {"closes": closes, "per_request": EVENTS_PER_REQUEST, "lost_one_in": LOST_ONE_IN}
    tables.execute(_SENDS, settings)


def requests_of(tables: duckdb.DuckDBPyConnection, feed: int) -> list[Request]:
    """Return one feed's requests in the order of sending."""
    rows = tables.execute(_BODIES, {"feed": feed}).fetchall()
    return [Request(body.encode().split(b"\n"), loses_answer) for loses_answer, body in rows]


def events_up_to(tables: duckdb.DuckDBPyConnection, feed: int) -> int:
    """Return how many events all feeds up to one send, copies included, resends left out."""
    ((count,),) = tables.execute("SELECT count(*) FROM sends WHERE feed <= $1", [feed]).fetchall()
    return int(count)
