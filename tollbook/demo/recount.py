"""The recount: what the flights' tables say must have been measured and billed.

Plain SQL over the source tables and rating code of its own; nothing of ingest, pipelines or
billing. Months are read off the airports' wall clocks, not off the events. From the order of
sending it takes only before which close a flight was first reported, which decides what is late.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import duckdb

from tollbook.demo.flights import YEAR, ZONE, month_start, period
from tollbook.demo.rating import Charge, Version, version_on

_USES = """
CREATE VIEW uses AS
WITH first_sends AS (SELECT id, min(feed) AS feed FROM sends GROUP BY id),
left_at AS (
    SELECT *, make_timestamp(year, month, day, hour, minute, 0) + to_minutes(dep_delay) AS left_at
    FROM flights WHERE dep_time IS NOT NULL
)
SELECT f.carrier, f.origin, f.tailnum, f.distance, f.dep_delay, p.seats, s.feed,
    12 * (date_part('year', left_at) - $year) + date_part('month', left_at) AS month
FROM left_at AS f LEFT JOIN (SELECT tailnum, seats FROM planes) AS p USING (tailnum)
JOIN reports USING (carrier, flight, origin, year, month, day)
JOIN first_sends AS s USING (id)
"""

_QUANTITIES = """
SELECT carrier, month::INTEGER, coalesce(origin, ''), count(*), sum(seats)::BIGINT,
    sum(distance)::BIGINT, count(DISTINCT tailnum), max(dep_delay)
FROM uses WHERE feed <= $feed
GROUP BY GROUPING SETS ((carrier, month, origin), (carrier, month)) ORDER BY ALL
"""


class Use(NamedTuple):
    """What a quantity is of; `origin` is empty where a meter has no dimension."""

    airline: str
    month: int
    meter: str
    origin: str = ""

    def __str__(self) -> str:
        return f"{period(self.month)} {self.airline} {self.meter} {self.origin}".strip()


class LineKey(NamedTuple):
    """A line's identity: for what, for which month, and issued by which month's close."""

    airline: str
    charge: str
    origin: str
    month: int
    close: int
    kind: str

    @property
    def bill_month(self) -> int:
        """The month on whose first day its invoice is dated: fees at their start, usage after."""
        at_its_start = self.kind in ("advance", "proration_charge")
        return self.month if at_its_start else self.close + 1

    def __str__(self) -> str:
        what = f"{self.kind} of {period(self.month)}, {self.airline} {self.charge} {self.origin}"
        return f"{what.strip()}, by the close of {period(self.close)}"


@dataclass(frozen=True, slots=True)
class Bill:
    """What a line must say."""

    quantity: Decimal
    cents: int

    def __str__(self) -> str:
        return f"{self.quantity:,} for {self.cents:,} cents"


def prepare_recount(tables: duckdb.DuckDBPyConnection) -> None:
    """Add the view `uses`, one row per departed flight, to the tables of `prepare_requests`."""
    tables.execute(_USES.replace("$year", str(YEAR)))


def quantities(tables: duckdb.DuckDBPyConnection, feed: int) -> dict[Use, Decimal]:
    """Return every quantity as known after a feed, those of zero left out."""
    counted: dict[Use, Decimal] = {}
    for row in tables.execute(_QUANTITIES, {"feed": feed}).fetchall():
        airline, month, origin, departures, seats, miles, aircraft, delay = row
        if origin:
            counted[Use(airline, month, "departures", origin)] = Decimal(departures)
            continue
        counted[Use(airline, month, "seats_flown")] = Decimal(seats or 0)
        counted[Use(airline, month, "miles")] = Decimal(miles)
        counted[Use(airline, month, "aircraft")] = Decimal(aircraft)
        counted[Use(airline, month, "longest_delay")] = Decimal(delay)
    return {use: value for use, value in counted.items() if value or use.meter == "longest_delay"}


def lines(
    tables: duckdb.DuckDBPyConnection, versions: list[Version], closes: int
) -> dict[LineKey, Bill]:
    """Return every line of usage that so many monthly closes must issue, corrections included."""
    issued: dict[LineKey, Bill] = {}
    position: dict[tuple[str, str, str, int], Bill] = {}
    for close in range(1, closes + 1):
        for use, quantity in quantities(tables, close).items():
            if use.month > close:
                continue
            for charge in charges_of(versions, use):
                what = (use.airline, charge.key, use.origin, use.month)
                before = position.get(what, Bill(Decimal(0), 0))
                due = charge.cents(quantity, use.origin)
                if due != before.cents:
                    kind = "usage" if use.month == close else "correction"
                    bill = Bill(quantity - before.quantity, due - before.cents)
                    issued[LineKey(*what, close, kind)] = bill
                    position[what] = Bill(quantity, due)
    return issued


def fees(
    tables: duckdb.DuckDBPyConnection, versions: list[Version], months: int
) -> dict[LineKey, Bill]:
    """Return the fee of every airline and month: billed by the month's close, dated its start."""
    airlines = tables.execute("SELECT DISTINCT carrier FROM flights").fetchall()
    one = Decimal(1)
    return {
        LineKey(airline, charge.key, "", month, month, "advance"): Bill(one, charge.cents(one))
        for (airline,) in airlines
        for month in range(1, months + 1)
        for charge in _in_force(versions, month).charges
        if charge.meter is None
    }


def charges_of(versions: list[Version], use: Use) -> list[Charge]:
    """Return the charges that price a quantity, of the version in force in its month."""
    return [c for c in _in_force(versions, use.month).charges if c.meter == use.meter]


def from_scratch(
    tables: duckdb.DuckDBPyConnection, versions: list[Version], months: int, feed: int
) -> dict[str, int]:
    """Return each airline's usage of so many months in cents, rated once over all that is known.

    The lines and corrections that the same feeds led to must add up to this.
    """
    totals: dict[str, int] = {}
    for use, quantity in quantities(tables, feed).items():
        if use.month <= months:
            charges = charges_of(versions, use)
            cents = sum(charge.cents(quantity, use.origin) for charge in charges)
            totals[use.airline] = totals.get(use.airline, 0) + cents
    return totals


def _in_force(versions: list[Version], month: int) -> Version:
    return version_on(versions, month_start(month).astimezone(ZONE).date())
