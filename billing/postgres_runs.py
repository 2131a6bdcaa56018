"""Bill runs in Postgres: one at a time per tenant, found again after a kill."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg

from billing.document import Document, Draft
from billing.due import BilledPeriod, ChargeKey, Scope
from billing.facts import Assignment, Facts
from billing.postgres_documents import issue
from billing.postgres_facts import Connection, load_facts, load_moved
from billing.rating import State
from billing.run import Run
from billing.spending import PeriodKey
from pipelines.usage import Cut


@dataclass(slots=True)
class PostgresRuns:
    """A `RunStore`; the connection is in autocommit."""

    connection: Connection
    tenant: str

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the tenant's lock; it is given up when the connection ends, however it ends."""
        key = f"bill run of {self.tenant}"
        self.connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (key,))
        try:
            yield
        finally:
            with suppress(psycopg.Error):  # a broken connection holds no lock
                self.connection.execute(
                    "SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (key,)
                )

    def has_virtual_clock(self) -> bool:
        """Return whether the tenant's time is not the world's."""
        row = self.connection.execute(
            "SELECT virtual_clock FROM tenants WHERE tenant = %s", (self.tenant,)
        ).fetchone()
        return bool(row and row[0])

    def unfinished(self) -> Run | None:
        """Return the run that was begun and not finished."""
        row = self.connection.execute(
            "SELECT run_id, kind, through, cut_number FROM bill_runs"
            " WHERE tenant = %s AND state = 'running'",
            (self.tenant,),
        ).fetchone()
        return None if row is None else Run(row[0], Scope(row[1], _moment(row[2])), row[3])

    def begin(self, scope: Scope, cut: Cut) -> Run:
        """Store a run before it does anything."""
        row = self.connection.execute(
            "INSERT INTO bill_runs (tenant, kind, through, cut_number) VALUES (%s, %s, %s, %s)"
            " RETURNING run_id",
            (self.tenant, scope.kind, scope.through.isoformat(), cut.number),
        ).fetchone()
        assert row is not None  # noqa: S101 - RETURNING
        return Run(row[0], scope, cut.number)

    def finish(self, run: Run) -> None:
        """Store that all of a run is done."""
        self.connection.execute(
            "UPDATE bill_runs SET state = 'done', finished_at = now() WHERE run_id = %s",
            (run.run_id,),
        )

    def facts(self, revision: int) -> Facts:
        """Return the facts known at a revision."""
        return load_facts(self.connection, self.tenant, revision)

    def moved(self, after: int, until: int) -> list[Assignment]:
        """Return the assignments made known or withdrawn after one revision, until another."""
        return load_moved(self.connection, self.tenant, after, until)

    def billed(self) -> Mapping[ChargeKey, Sequence[BilledPeriod]]:
        """Return the periods that are billed, in order."""
        found: dict[ChargeKey, list[BilledPeriod]] = defaultdict(list)
        rows = self.connection.execute(
            f"SELECT {BILLED} FROM billed_periods WHERE tenant = %s ORDER BY starts_at",
            (self.tenant,),
        ).fetchall()
        for row in rows:
            period = to_billed(row)
            found[period.key].append(period)
        return found

    def settled(self) -> Mapping[str, int]:
        """Return up to which cut each subscription's billed periods have been corrected."""
        rows = self.connection.execute(
            "SELECT subscription, max(cut_number) FROM settled_cuts WHERE tenant = %s"
            " GROUP BY subscription",
            (self.tenant,),
        ).fetchall()
        return dict(rows)

    def issued(self, subscription: str) -> Mapping[PeriodKey, int]:
        """Return what all issued lines of each charge and period of a subscription add up to."""
        rows = self.connection.execute(
            "SELECT item, charge, period_start, sum(amount_minor)::bigint FROM line_positions"
            " WHERE tenant = %s AND subscription = %s GROUP BY item, charge, period_start",
            (self.tenant, subscription),
        ).fetchall()
        return {(item, charge, at): int(minor) for item, charge, at, minor in rows}

    def state_after(self, key: ChargeKey, before: datetime) -> State:
        """Return the state that the charge's last period before a moment ended with."""
        row = self.connection.execute(
            "SELECT state_out FROM rating_states WHERE tenant = %s AND subscription = %s"
            " AND item = %s AND charge = %s AND starts_at < %s"
            " ORDER BY starts_at DESC, cut_number DESC LIMIT 1",
            (self.tenant, *key, before),
        ).fetchone()
        return {} if row is None else dict(row[0])

    def issue(self, run: Run, cut: Cut, draft: Draft) -> list[Document]:
        """Issue a draft in one transaction; returns the documents."""
        with self.connection.transaction():
            return issue(self.connection, run.run_id, cut, draft)


BILLED = "subscription, item, charge, starts_at, ends_at, starts_on, ends_on, pieces"
"""The columns of a billed period."""


def to_billed(row: Sequence[Any]) -> BilledPeriod:
    """Return a billed period as its row says."""
    subscription, item, charge, starts_at, ends_at, starts_on, ends_on, pieces = row
    key = (subscription, item, charge)
    parts = tuple(_piece(piece) for piece in pieces)
    return BilledPeriod(key, starts_at, ends_at, starts_on, ends_on, parts)


def _moment(text: str) -> date | datetime:
    return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)


def _piece(row: Mapping[str, Any]) -> tuple[date, date, datetime, datetime, int]:
    return (
        date.fromisoformat(row["starts_on"]),
        date.fromisoformat(row["ends_on"]),
        datetime.fromisoformat(row["starts_at"]),
        datetime.fromisoformat(row["ends_at"]),
        int(row["version"]),
    )
