"""Bill runs in Postgres: one at a time per tenant, found again after a kill."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg

from billing.charge_period import ChargeKey
from billing.document import Document, Draft
from billing.due import BilledPeriod, Scope
from billing.facts import Assignment, Facts
from billing.postgres_documents import issue
from billing.postgres_facts import Connection, load_facts, load_moved
from billing.rating import State
from billing.run import Run
from billing.spending import PeriodKey
from pipelines.usage import Cut

_OF_CUSTOMER = (
    "(%(customer)s::text IS NULL OR {}.subscription IN (SELECT subscription"
    " FROM subscription_versions WHERE tenant = %(tenant)s AND customer = %(customer)s))"
)


@dataclass(slots=True)
class PostgresRuns:
    """A `RunStore`; the connection is in autocommit."""

    connection: Connection
    tenant: str
    customer: str | None = None
    """Whom alone it looks at; None is all customers."""

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

    def closed(self) -> date | None:
        """Return the first day after the months that were closed."""
        row = self.connection.execute(
            "SELECT max(through::date) FROM bill_runs"
            " WHERE tenant = %s AND kind = 'close' AND state = 'done'",
            (self.tenant,),
        ).fetchone()
        return row[0] if row else None

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
        return load_facts(self.connection, self.tenant, revision, self.customer)

    def moved(self, after: int, until: int) -> list[Assignment]:
        """Return the assignments made known or withdrawn after one revision, until another."""
        return load_moved(self.connection, self.tenant, after, until)

    def billed(self) -> Mapping[ChargeKey, Sequence[BilledPeriod]]:
        """Return the periods that are billed, in order."""
        found: dict[ChargeKey, list[BilledPeriod]] = defaultdict(list)
        rows = self.connection.execute(
            f"SELECT {BILLED} WHERE b.tenant = %(tenant)s AND {_OF_CUSTOMER.format('b')}"
            " ORDER BY b.starts_at",
            self._bound(),
        )
        for row in rows:
            period = to_billed(row)
            found[period.key].append(period)
        return found

    def settled(self) -> Mapping[str, int]:
        """Return up to which cut each subscription's billed periods have been corrected."""
        rows = self.connection.execute(
            "SELECT subscription, max(cut_number) FROM settled_cuts s"
            f" WHERE tenant = %(tenant)s AND {_OF_CUSTOMER.format('s')} GROUP BY subscription",
            self._bound(),
        ).fetchall()
        return dict(rows)

    def _bound(self) -> dict[str, str | None]:
        return {"tenant": self.tenant, "customer": self.customer}

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


BILLED = (
    "b.subscription, b.item, b.charge, b.starts_at, b.ends_at, b.starts_on, c.facts_revision"
    " FROM billed_periods b JOIN bill_runs r USING (run_id)"
    " JOIN cuts c ON c.tenant = b.tenant AND c.number = r.cut_number"
)
"""What is read of billed periods, and where from."""


def to_billed(row: Sequence[Any]) -> BilledPeriod:
    """Return a billed period as its row says."""
    subscription, item, charge, *rest = row
    return BilledPeriod((subscription, item, charge), *rest)


def _moment(text: str) -> date | datetime:
    return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
