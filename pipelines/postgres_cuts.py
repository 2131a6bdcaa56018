"""Cuts, and what they are laid over: the chain in Postgres, segments, meters by their key."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.types.json import Json

from ingest.event import microseconds
from pipelines.cut import AsOf, EffectiveMeter, FixedCut, Proposal
from pipelines.fold import ActiveMeter
from pipelines.meter import MeterDefinition
from pipelines.position import Log, LogPartition
from pipelines.postgres_logs import PostgresLogs
from pipelines.postgres_replacements import PostgresReplacements
from pipelines.usage import Cut

_FOREVER_US = 1 << 62


@dataclass(slots=True)
class PostgresCuts:
    """The chain of cuts per tenant; the connection is in autocommit."""

    connection: "psycopg.Connection[Any]"

    @contextmanager
    def chain_locked(self, tenant: str) -> Iterator[None]:
        """Hold the tenant's chain: one cut is fixed at a time, whoever asks."""
        # Of the session: a proposal is committed before its cut is. It ends with the connection.
        lock = "(hashtextextended('cuts:' || %s, 0))"
        self.connection.execute(f"SELECT pg_advisory_lock{lock}", (tenant,))
        try:
            yield
        finally:
            with suppress(psycopg.OperationalError):
                self.connection.execute(f"SELECT pg_advisory_unlock{lock}", (tenant,))

    def cuts_at_asking(self, tenant: str) -> bool:
        """Tell whether the tenant is on a virtual clock; raises LookupError for no such tenant."""
        row = self.connection.execute(
            "SELECT virtual_clock FROM tenants WHERE tenant = %s", (tenant,)
        ).fetchone()
        if row is None:
            raise LookupError(f"no tenant {tenant}")
        return bool(row[0])

    def open_logs(self) -> list[Log]:
        """Return the logs that are consumed, oldest first; producers write to the last."""
        return PostgresLogs(self.connection).open_logs()

    def closed_ends(self) -> dict[LogPartition, int]:
        """Return where the partitions of closed logs end."""
        return PostgresLogs(self.connection).closed_ends()

    def latest(self, tenant: str) -> Cut | None:
        """Return the last fixed cut of a tenant."""
        return self._cut("tenant = %s ORDER BY number DESC LIMIT 1", (tenant,))

    def by_number(self, tenant: str, number: int) -> Cut | None:
        """Return a fixed cut."""
        return self._cut("tenant = %s AND number = %s", (tenant, number))

    def offsets(self, cut: Cut) -> dict[LogPartition, int]:
        """Return the next offset per partition at a cut."""
        rows = self.connection.execute(
            "SELECT log, partition, next_offset FROM cut_offsets"
            " WHERE tenant = %s AND number = %s ORDER BY log, partition",
            (cut.tenant, cut.number),
        ).fetchall()
        return {LogPartition(log, partition): offset for log, partition, offset in rows}

    def behind(self, proposal: Proposal) -> dict[LogPartition, int]:
        """Return the vector of the cut before a proposal; empty where it is the first."""
        before = self.by_number(proposal.tenant, proposal.number - 1)
        return {} if before is None else self.offsets(before)

    def listed(self, tenant: str, after: int, limit: int) -> list[FixedCut]:
        """Return cuts above a number, in order, with their vectors."""
        rows = self.connection.execute(
            "SELECT number, at, facts_revision, fixed_at, array_agg(ARRAY[log, partition,"
            " next_offset]) FROM cuts LEFT JOIN cut_offsets USING (tenant, number)"
            " WHERE tenant = %s AND number > %s GROUP BY tenant, number ORDER BY number LIMIT %s",
            (tenant, after, limit),
        ).fetchall()
        return [
            FixedCut(
                Cut(tenant, number, at.astimezone(UTC), revision),
                fixed_at.astimezone(UTC),
                {LogPartition(log, p): end for log, p, end in offsets if log is not None},
            )
            for number, at, revision, fixed_at, offsets in rows
        ]

    def proposed(self, tenant: str) -> Proposal | None:
        """Return the proposal that is not fixed yet; see `CutChain`."""
        row = self.connection.execute(
            "SELECT number, at, offsets, definitions FROM cut_proposals p WHERE tenant = %s"
            " AND NOT EXISTS"
            " (SELECT FROM cuts c WHERE c.tenant = p.tenant AND c.number = p.number)",
            (tenant,),
        ).fetchone()
        return None if row is None else proposal_of(tenant, *row)

    def propose(self, tenant: str, at: datetime, offsets: Mapping[LogPartition, int]) -> Proposal:
        """Write down the next cut; see `CutChain`."""
        previous = self.latest(tenant)
        number = previous.number + 1 if previous is not None else 1
        if previous is not None:
            behind = self.offsets(previous)
            assert all(offsets[p] >= end for p, end in behind.items())  # noqa: S101
        listed = [[at_.log, at_.partition, end] for at_, end in sorted(offsets.items())]
        with self.connection.transaction():
            # Whoever makes a meter holds this row too: whether an audit counts it is settled.
            self.connection.execute(
                "INSERT INTO fact_revisions (tenant) VALUES (%s) ON CONFLICT DO NOTHING", (tenant,)
            )
            self.connection.execute(
                "SELECT FROM fact_revisions WHERE tenant = %s FOR UPDATE", (tenant,)
            )
            row = self.connection.execute(
                "INSERT INTO cut_proposals (tenant, number, at, offsets, definitions)"
                " SELECT %s, %s, %s, %s, coalesce(array_agg(definition_id ORDER BY definition_id)"
                "   FILTER (WHERE NOT archived), '{}') FROM meters WHERE tenant = %s"
                " RETURNING number, at, offsets, definitions",
                (tenant, number, at, Json(listed), tenant),
            ).fetchone()
        assert row is not None  # noqa: S101 - it was inserted
        return proposal_of(tenant, *row)

    def fix(self, proposal: Proposal) -> Cut:
        """Append a proposed cut to the chain; see `CutChain`."""
        tenant, number, at = proposal.tenant, proposal.number, proposal.at
        with self.connection.transaction(), self.connection.cursor() as cursor:
            revision = cursor.execute(
                "SELECT revision FROM fact_revisions WHERE tenant = %s FOR UPDATE", (tenant,)
            ).fetchone()
            revised = revision[0] if revision else 0
            cursor.execute(
                "INSERT INTO cuts (tenant, number, at, facts_revision) VALUES (%s, %s, %s, %s)",
                (tenant, number, at, revised),
            )
            cursor.executemany(
                "INSERT INTO cut_offsets VALUES (%s, %s, %s, %s, %s)",
                [(tenant, number, p.log, p.partition, e) for p, e in proposal.offsets.items()],
            )
        return Cut(tenant, number, at, revised)

    def replacements_under_way(self, tenant: str) -> list[str]:
        """Return the replacements that are being closed or reverted; see `CutChain`."""
        return PostgresReplacements(self.connection).under_way(tenant)

    def raised(self, tenant: str, offsets: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
        """Return offsets that have all records of a replacement or none; see `CutChain`."""
        return PostgresReplacements(self.connection).raised(tenant, offsets)

    def as_of(self, cut: Cut) -> AsOf:
        """Lay a cut over the segments; see `AsOf`."""
        offsets = self.offsets(cut)
        whole_below = {}
        for at, end in offsets.items():
            row = self.connection.execute(
                "SELECT s.start_offset, coalesce((SELECT min(n.start_offset) FROM segments n"
                "   WHERE n.log = s.log AND n.partition = s.partition"
                "   AND n.start_offset > s.start_offset), (SELECT e.next_offset FROM log_ends e"
                "   WHERE e.log = s.log AND e.partition = s.partition))"
                " FROM segments s WHERE s.log = %s AND s.partition = %s AND s.start_offset < %s"
                " ORDER BY s.start_offset DESC LIMIT 1",
                (at.log, at.partition, end),
            ).fetchone()
            start, stop = row or (0, end)
            whole_below[at] = end if stop is not None and stop <= end else start
        return AsOf(offsets, whole_below, cut.number)

    def meter_versions(self, tenant: str, key: str, cut: Cut | None = None) -> list[EffectiveMeter]:
        """Return the versions of a meter, as known at a cut, and when they are in force.

        Raises:
            LookupError: the tenant has no such meter, or had none then.
        """
        revision = None if cut is None else cut.facts_revision
        found = self._versions("key = %s", (tenant, revision, revision, key))
        if found:
            return found
        if cut is not None and self._versions("key = %s", (tenant, None, None, key)):
            raise LookupError(f"meter {key} was not known when cut {cut.number} was fixed")
        raise LookupError(f"no meter {key}; `tollbook apply` creates meters from YAML")

    def known_versions(self, cut: Cut) -> list[EffectiveMeter]:
        """Return the versions of all meters of a tenant as known at a cut; see `CutChain`."""
        return self._versions("true", (cut.tenant, cut.facts_revision, cut.facts_revision))

    def _versions(self, condition: str, values: tuple[Any, ...]) -> list[EffectiveMeter]:
        """Return versions with their intervals; a later one takes over from where it begins."""
        rows = self.connection.execute(
            "SELECT key, definition_id, version, definition, archived, CASE WHEN"
            " isfinite(effective_at) THEN effective_at END, EXISTS (SELECT FROM seedings s"
            "   WHERE s.definition_id = m.definition_id AND s.live_at IS NOT NULL),"
            " (SELECT array_agg(ARRAY[log, partition, start_offset]) FROM counted_from a"
            "   WHERE a.definition_id = m.definition_id) FROM meters m WHERE tenant = %s"
            f" AND (%s::bigint IS NULL OR known_revision <= %s) AND {condition}"
            " ORDER BY key, version DESC",
            values,
        ).fetchall()
        found: list[EffectiveMeter] = []
        until: dict[str, int] = {}
        for key, number, version, definition, archived, at, is_live, activated in rows:
            start_us = -_FOREVER_US if at is None else microseconds(at)
            end_us = until.get(key, _FOREVER_US)
            until[key] = min(start_us, end_us)
            if archived or start_us >= end_us:
                continue
            meter = ActiveMeter(
                number, values[0], version, MeterDefinition.model_validate(definition)
            )
            places = {LogPartition(log, p): offset for log, p, offset in activated or ()}
            found.append(EffectiveMeter(meter, start_us, end_us, places, is_live))
        return found[::-1]

    def lacking_activation(self, tenant: str) -> list[LogPartition]:
        """Return the partitions whose last segment does not yet count every meter of a tenant."""
        rows = self.connection.execute(
            "SELECT l.log, p.partition FROM logs l,"
            " LATERAL generate_series(0, l.partitions - 1) AS p(partition)"
            " WHERE l.closed_at IS NULL AND NOT coalesce((SELECT s.definitions @> (SELECT coalesce("
            "     array_agg(definition_id), '{}') FROM meters WHERE tenant = %s AND NOT archived)"
            "   FROM segments s WHERE s.log = l.log AND s.partition = p.partition"
            "   ORDER BY sequence DESC LIMIT 1), false) ORDER BY 1, 2",
            (tenant,),
        ).fetchall()
        return [LogPartition(log, partition) for log, partition in rows]

    def _cut(self, condition: str, values: tuple[Any, ...]) -> Cut | None:
        row = self.connection.execute(
            f"SELECT tenant, number, at, facts_revision FROM cuts WHERE {condition}", values
        ).fetchone()
        return Cut(row[0], row[1], row[2].astimezone(UTC), row[3]) if row else None


def proposal_of(
    tenant: str,
    number: int,
    at: datetime,
    offsets: Sequence[tuple[int, int, int]],
    definitions: Sequence[int],
) -> Proposal:
    """Return a proposal from its row."""
    places = {LogPartition(log, partition): end for log, partition, end in offsets}
    return Proposal(tenant, number, at.astimezone(UTC), places, tuple(definitions))
