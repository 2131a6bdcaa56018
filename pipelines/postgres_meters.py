"""Meters as they are shown: every version with what it counts so far; and seedings of history."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import psycopg

from ingest.event import microseconds
from pipelines.cut import Proposal
from pipelines.fold import ActiveMeter
from pipelines.meter import MeterDefinition
from pipelines.position import LogPartition
from pipelines.postgres_cuts import proposal_of
from pipelines.progress import instant_text
from pipelines.seeding import Seeding

State = Literal["activating", "seeding", "live", "archived"]

_VERSIONS = (
    "SELECT m.key, m.version, m.definition, m.archived, m.known_at,"
    " CASE WHEN isfinite(m.effective_at) THEN m.effective_at END,"
    " s.events_done, s.events_total, s.live_at IS NOT NULL,"
    " (SELECT count(*) FROM counted_from c WHERE c.definition_id = m.definition_id)"
    "   >= (SELECT sum(partitions) FROM logs)"
    " FROM meters m LEFT JOIN seedings s USING (definition_id)"
)


@dataclass(frozen=True, slots=True)
class MeterVersion:
    """One version of a meter, and whether it counts all that it should."""

    definition: MeterDefinition
    version: int
    effective_at: datetime | None
    created_at: datetime
    state: State
    progress: tuple[int, int] | None = None
    """Events of its history that are counted, of how many."""

    def to_content(self) -> dict[str, Any]:
        """Return it as JSON content; what was not given is left out."""
        fields = self.definition.model_dump(mode="json", exclude_none=True)
        content = {name: value for name, value in fields.items() if value not in ("", [], {})}
        content |= {
            "version": self.version,
            "effective_at": None if self.effective_at is None else instant_text(self.effective_at),
            "created_at": instant_text(self.created_at),
            "slow": self.definition.is_slow,
            "state": self.state,
        }
        if self.progress is not None:
            done, total = self.progress
            content["progress"] = {"events_done": done, "events_total": total}
        return content


@dataclass(slots=True)
class PostgresMeters:
    """Reads the tables meters, activations and seedings; the connection is in autocommit."""

    connection: "psycopg.Connection[Any]"

    def listed(self, tenant: str, after: str = "", limit: int = 1000) -> list[MeterVersion]:
        """Return meters after a key, each in its latest version."""
        return self._read(
            f"SELECT DISTINCT ON (key) * FROM ({_VERSIONS} WHERE m.tenant = %s AND m.key > %s) v"
            " ORDER BY key, version DESC LIMIT %s",
            (tenant, after, limit),
        )

    def versions(self, tenant: str, key: str) -> list[MeterVersion]:
        """Return all versions of a meter, the first first."""
        where = " WHERE m.tenant = %s AND m.key = %s ORDER BY m.version"
        return self._read(_VERSIONS + where, (tenant, key))

    def seedings(self) -> list[Seeding]:
        """Return the versions of all tenants that wait for nothing but to be seeded.

        Every partition has activated them, and the cuts whose audits do not count them are fixed;
        no audit proposed since can miss them: see `PostgresCuts.propose`.
        """
        rows = self.connection.execute(
            "SELECT m.definition_id, m.tenant, m.version, m.definition,"
            " CASE WHEN isfinite(m.effective_at) THEN m.effective_at END, s.seeded_us,"
            " coalesce(s.events_done, 0) FROM meters m LEFT JOIN seedings s USING (definition_id)"
            " WHERE NOT m.archived AND s.live_at IS NULL ORDER BY m.definition_id"
        ).fetchall()
        found = []
        for number, tenant, version, definition, effective_at, seeded_us, done in rows:
            activated = self._activated(number)
            if activated is not None:
                parsed = MeterDefinition.model_validate(definition)
                meter = ActiveMeter(number, tenant, version, parsed)
                start_us = None if effective_at is None else microseconds(effective_at)
                audits = self._audits_without(tenant, number)
                if audits is None:
                    continue
                found.append(Seeding(meter, start_us, activated, audits, seeded_us, done))
        return found

    def begin(self, seeding: Seeding, first_us: int, events_total: int) -> None:
        """Write down that a version's history is being counted."""
        self.connection.execute(
            "INSERT INTO seedings (definition_id, seeded_us, events_done, events_total)"
            " VALUES (%s, %s, 0, %s) ON CONFLICT DO NOTHING",
            (seeding.meter.definition_id, first_us, events_total),
        )

    def advance(self, seeding: Seeding, seeded_us: int, events_done: int) -> None:
        """Write down that all windows before an instant are written; never goes back."""
        self.connection.execute(
            "UPDATE seedings SET seeded_us = %s, events_done = %s"
            " WHERE definition_id = %s AND seeded_us < %s",
            (seeded_us, events_done, seeding.meter.definition_id, seeded_us),
        )

    def finish(self, seeding: Seeding) -> None:
        """Let readers use the history of a version."""
        self.connection.execute(
            "UPDATE seedings SET live_at = now() WHERE definition_id = %s AND live_at IS NULL",
            (seeding.meter.definition_id,),
        )

    def waiting_tenants(self) -> list[str]:
        """Return the tenants with versions that some partition has not activated."""
        rows = self.connection.execute(
            "SELECT DISTINCT m.tenant FROM meters m LEFT JOIN seedings s USING (definition_id)"
            " WHERE NOT m.archived AND s.live_at IS NULL"
        ).fetchall()
        return [tenant for (tenant,) in rows]

    def _activated(self, definition_id: int) -> dict[LogPartition, int] | None:
        """Return from where each partition counts a definition; None where one does not yet."""
        rows = self.connection.execute(
            "SELECT l.log, p.partition, c.start_offset FROM logs l"
            " CROSS JOIN LATERAL generate_series(0, l.partitions - 1) AS p(partition)"
            " LEFT JOIN counted_from c ON c.definition_id = %s AND c.log = l.log"
            " AND c.partition = p.partition",
            (definition_id,),
        ).fetchall()
        if any(offset is None for *_, offset in rows):
            return None
        return {LogPartition(log, partition): offset for log, partition, offset in rows}

    def _audits_without(self, tenant: str, definition_id: int) -> list[Proposal] | None:
        """Return the audits that did not count a definition; None where one is not done."""
        rows = self.connection.execute(
            "SELECT number, p.at, offsets, definitions, c.number IS NOT NULL FROM cut_proposals p"
            " LEFT JOIN cuts c USING (tenant, number)"
            " WHERE tenant = %s AND NOT definitions @> ARRAY[%s::bigint] ORDER BY number",
            (tenant, definition_id),
        ).fetchall()
        if not all(is_fixed for *_, is_fixed in rows):
            return None
        return [proposal_of(tenant, *row) for *row, _ in rows]

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[MeterVersion]:
        return [_version(*row) for row in self.connection.execute(sql, values).fetchall()]


def _version(
    _: str,
    version: int,
    definition: Mapping[str, Any],
    archived: bool,
    known_at: datetime,
    effective_at: datetime | None,
    *seeding: Any,
) -> MeterVersion:
    done, total, is_live, is_activated = seeding
    state: State = "live" if is_live else "seeding" if is_activated else "activating"
    return MeterVersion(
        MeterDefinition.model_validate(definition),
        version,
        None if effective_at is None else effective_at.astimezone(UTC),
        known_at.astimezone(UTC),
        "archived" if archived else state,
        None if archived or is_live or done is None else (done, total),
    )
