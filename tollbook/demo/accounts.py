"""Accounts for events one by one: what was sent against what is stored, left out and rejected."""

from collections.abc import Mapping
from typing import Any

import duckdb

from tollbook.demo.compare import Check, Difference, compared
from tollbook.demo.feed import Sent

_SENT = """
SELECT id, if(departed, 'flight.departed', 'flight.cancelled') AS type,
    concat(carrier, ':', coalesce(tailnum, 'unknown')) AS subject,
    epoch_us(event_time) AS at
FROM reports WHERE id IN (SELECT id FROM sends WHERE feed <= $feed)
"""

_WITHOUT_SEATS = """
SELECT id, 'seats_flown' AS meter FROM reports
WHERE departed AND tailnum NOT IN (SELECT tailnum FROM planes)
AND id IN (SELECT id FROM sends WHERE feed <= $feed)
"""

_COPIES = "SELECT count(*) - count(DISTINCT id) FROM sends WHERE feed <= $feed"


def check_events(tables: duckdb.DuckDBPyConnection, feed: int, stored: Any) -> Check:
    """Compare stored events with the flights reported up to a feed, both ways."""
    return _same_rows(tables, "events stored", _SENT, stored, feed)


def check_rejections(tables: duckdb.DuckDBPyConnection, feed: int, rejected: Any) -> Check:
    """Compare rejected values with the flights whose seats nobody knows, both ways."""
    return _same_rows(tables, "rejected: seats not known", _WITHOUT_SEATS, rejected, feed)


def check_copies(
    tables: duckdb.DuckDBPyConnection, feed: int, sent: Sent, taken: Mapping[str, int]
) -> list[Check]:
    """Compare the copies left out with those sent, and all that was sent with its fate.

    A request whose answer was lost may have arrived or not; all of its events come again.
    """
    ((copies,),) = tables.execute(_COPIES, {"feed": feed}).fetchall()
    arrived = sum(taken.values()) - sent.acknowledged
    bounded = min(max(arrived, 0), sent.unknown)
    wanted = copies + bounded
    fates = f"{sent.acknowledged + bounded:,}"
    return [
        compared("copies left out", {"all": wanted}, {"all": taken["copies"]}, f"{wanted:,}"),
        compared("events sent = stored + left out", {"": bounded}, {"": arrived}, fates),
    ]


def _same_rows(
    tables: duckdb.DuckDBPyConnection, name: str, recounted: str, held: Any, feed: int
) -> Check:
    tables.register("held", held)
    tables.execute(f"CREATE OR REPLACE TEMP TABLE recounted AS {recounted}", {"feed": feed})
    missing = tables.execute("FROM recounted EXCEPT ALL FROM held ORDER BY ALL").fetchall()
    surplus = tables.execute("FROM held EXCEPT ALL FROM recounted ORDER BY ALL").fetchall()
    tables.unregister("held")
    ((count,),) = tables.execute("SELECT count(*) FROM recounted").fetchall()
    differences = [Difference(str(row), "is there", None) for row in missing]
    differences += [Difference(str(row), None, "is there") for row in surplus]
    return Check(name, count, f"{count:,}", tuple(differences))
