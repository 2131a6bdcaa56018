"""What Tollbook holds, read from its own tables: quantities, events, lines and invoices."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import clickhouse_connect
import psycopg

from tollbook.demo.flights import YEAR
from tollbook.demo.recount import LineKey, Use
from tollbook.stack_file import Stack

_LEDGER = """
SELECT code, customer, sum(amount_minor)::bigint
FROM postings JOIN accounts USING (tenant, account_id) WHERE tenant = %(tenant)s
GROUP BY code, customer
"""

# Months are numbered from January 2013; a close's `through` is the first day after its month.
_MONTH = "(12 * (extract(year FROM {0}) - %(year)s) + extract(month FROM {0}))::int"

_LINES = f"""
SELECT i.number, i.customer, l.charge, coalesce(l.dimensions->>'origin', ''),
    {_MONTH.format("l.service_from")}, {_MONTH.format("r.through::date")} - 1,
    l.kind, l.quantity, l.amount_minor
FROM invoice_lines AS l JOIN invoices AS i USING (tenant, invoice_id) JOIN bill_runs AS r
    USING (tenant, run_id)
WHERE tenant = %(tenant)s ORDER BY i.bill_on, i.customer, i.number, l.ordinal
"""

_INVOICES = f"""
SELECT i.number, i.customer, {_MONTH.format("r.through::date")} - 1,
    {_MONTH.format("i.bill_on")}, i.document_type, i.total_minor
FROM invoices AS i JOIN bill_runs AS r USING (tenant, run_id)
WHERE tenant = %(tenant)s ORDER BY i.bill_on, i.customer, i.number
"""

_QUANTITIES = """
SELECT airline, month, meter, origin, sum(uses), sum(total),
    max(toDecimal128OrZero(item, 12)), uniqExact(item)
FROM (
    WITH toTimeZone(window_start, 'America/New_York') AS local
    SELECT substring(subject, 1, 2) AS airline,
        (12 * (toYear(local) - {year:Int32}) + toMonth(local))::Int32 AS month,
        meter, JSONExtractString(dimensions, 'origin') AS origin, item,
        sum(count) AS uses, sum(sum) AS total
    FROM usage_windows FINAL WHERE tenant = {tenant:String}
    GROUP BY airline, month, meter, origin, item HAVING uses > 0
)
GROUP BY airline, month, meter, origin
"""

_EVENTS = """
SELECT id, toString(type) AS type, subject, toUnixTimestamp64Micro(time) AS at
FROM usage_events FINAL WHERE tenant = {tenant:String}
"""

_REJECTED = """
SELECT e.id AS id, toString(r.meter) AS meter
FROM (SELECT * FROM usage_rejections FINAL WHERE tenant = {tenant:String}) AS r
JOIN (SELECT * FROM usage_events FINAL WHERE tenant = {tenant:String}) AS e
    USING (log, partition, offset, index)
"""

_TABLES = {
    "stored": "usage_events",
    "copies": "usage_duplicates",
    "dead letters": "usage_dead_letters",
}

_VALUE_BY_METER = {"departures": 4, "seats_flown": 5, "miles": 5, "longest_delay": 6, "aircraft": 7}
"""Which column of `_QUANTITIES` answers a meter."""


@dataclass(frozen=True, slots=True)
class HeldLine:
    """An invoice line, and the month whose close issued it."""

    number: str
    airline: str
    charge: str
    origin: str
    month: int
    close: int
    kind: str
    quantity: Decimal
    cents: int

    @property
    def identity(self) -> LineKey:
        """The line under the name that the recount gives it."""
        return LineKey(self.airline, self.charge, self.origin, self.month, self.close, self.kind)


@dataclass(frozen=True, slots=True)
class HeldInvoice:
    """An invoice's head: the month whose close issued it, and the month it is dated in."""

    number: str
    airline: str
    close: int
    bill_month: int
    document_type: str
    cents: int


class Books:
    """Reads one tenant's tables; close it after use."""

    def __init__(self, stack: Stack) -> None:
        self.tenant = stack.tenant
        self._postgres = psycopg.connect(stack.postgres_dsn, autocommit=True)
        self._clickhouse = clickhouse_connect.get_client(dsn=stack.clickhouse_url)

    def close(self) -> None:
        """Close both connections."""
        self._postgres.close()
        self._clickhouse.close()

    def lines(self) -> list[HeldLine]:
        """Return every invoice line, by bill date and airline."""
        rows = self._rows(_LINES)
        return [HeldLine(*row) for row in rows]

    def invoices(self) -> list[HeldInvoice]:
        """Return every invoice and credit note, by bill date and airline."""
        return [HeldInvoice(*row) for row in self._rows(_INVOICES)]

    def ledger(self) -> dict[tuple[str, str], int]:
        """Return the balance in cents by account and airline; debits are positive."""
        return {(account, airline): cents for account, airline, cents in self._rows(_LEDGER)}

    def quantities(self) -> dict[Use, Decimal]:
        """Return every quantity per airline and New York's month, those of zero left out."""
        held: dict[Use, Decimal] = {}
        for row in self._query(_QUANTITIES).result_rows:
            airline, month, meter, origin = row[:4]
            held[Use(airline, month, meter, origin)] = Decimal(row[_VALUE_BY_METER[meter]])
        return {use: value for use, value in held.items() if value or use.meter == "longest_delay"}

    def events(self) -> Any:
        """Return every stored event's identity, type, subject and time as an Arrow table."""
        return self._clickhouse.query_arrow(_EVENTS, parameters={"tenant": self.tenant})

    def rejected(self) -> Any:
        """Return the id and meter of every event that a meter could not use, as Arrow."""
        return self._clickhouse.query_arrow(_REJECTED, parameters={"tenant": self.tenant})

    def events_taken(self) -> dict[str, int]:
        """Return how many events are stored, how many copies left out, how many refused."""
        return {
            name: self._query(
                f"SELECT count() FROM {table} FINAL WHERE tenant = {{tenant:String}}"
            ).result_rows[0][0]
            for name, table in _TABLES.items()
        }

    def issued_by(self, close: int) -> int:
        """Return how many documents a month's close has issued so far."""
        return sum(invoice.close == close for invoice in self.invoices())

    def ask(self, sql: str) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return the column names and rows that ClickHouse answers."""
        answer = self._clickhouse.query(sql)
        return answer.column_names, answer.result_rows

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        values = {"tenant": self.tenant, "year": YEAR}
        return self._postgres.execute(sql.encode(), values).fetchall()

    def _query(self, sql: str) -> Any:
        return self._clickhouse.query(sql, parameters={"tenant": self.tenant, "year": YEAR})
