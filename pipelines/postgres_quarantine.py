"""Which streams are quarantined where, and what was released; the connection is in autocommit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from pipelines.position import LogPartition
from pipelines.releaser import Release, Vector


@dataclass(slots=True)
class PostgresQuarantine:
    """A `ReleaseStore` over the table quarantine_releases; what is in force, from segments."""

    connection: "psycopg.Connection[Any]"

    def in_force(self, tenant: str) -> dict[str, list[LogPartition]]:
        """Return the quarantined sources of a tenant, each with its partitions of open logs."""
        rows = self.connection.execute(
            "SELECT stream ->> 1, l.log, p.partition FROM logs l,"
            " LATERAL generate_series(0, l.partitions - 1) AS p(partition),"
            " LATERAL (SELECT streams FROM segments s WHERE s.log = l.log"
            "   AND s.partition = p.partition ORDER BY sequence DESC LIMIT 1) AS last,"
            " LATERAL jsonb_array_elements(last.streams -> 'quarantined') AS stream"
            " WHERE l.closed_at IS NULL AND stream ->> 0 = %s ORDER BY 1, 2, 3",
            (tenant,),
        ).fetchall()
        found: dict[str, list[LogPartition]] = {}
        for source, log, partition in rows:
            found.setdefault(source, []).append(LogPartition(log, partition))
        return found

    def under_way(self, tenant: str) -> set[str]:
        """Return the sources whose release was begun and not finished."""
        rows = self.connection.execute(
            "SELECT source FROM quarantine_releases WHERE tenant = %s AND sent IS NULL", (tenant,)
        ).fetchall()
        return {row[0] for row in rows}

    def begin(self, tenant: str, source: str, author: str) -> Release:
        """Return the release that is under way, or a new one; see `ReleaseStore`."""
        self.connection.execute(
            "INSERT INTO quarantine_releases (tenant, source, number, author)"
            " SELECT %(tenant)s, %(source)s, coalesce(max(number), 0) + 1, %(author)s"
            " FROM quarantine_releases WHERE tenant = %(tenant)s AND source = %(source)s"
            " HAVING count(*) FILTER (WHERE sent IS NULL) = 0 ON CONFLICT DO NOTHING",
            {"tenant": tenant, "source": source, "author": author},
        )
        row = self.connection.execute(
            "SELECT number, author, places FROM quarantine_releases"
            " WHERE tenant = %s AND source = %s ORDER BY number DESC LIMIT 1",
            (tenant, source),
        ).fetchone()
        assert row is not None  # noqa: S101 - one is under way now
        number, by, places = row
        return Release(tenant, source, number, by, None if places is None else _vector(places))

    def place(self, release: Release, places: Vector) -> None:
        """Note where the records stand that end the quarantine; see `ReleaseStore`."""
        vector = [[at.log, at.partition, offset] for at, offset in sorted(places.items())]
        self.connection.execute(
            "UPDATE quarantine_releases SET places = %s"
            " WHERE tenant = %s AND source = %s AND number = %s AND sent IS NULL",
            (Jsonb(vector), release.tenant, release.source, release.number),
        )

    def finish(self, release: Release, sent: int) -> None:
        """Note that all was sent again; see `ReleaseStore`."""
        self.connection.execute(
            "UPDATE quarantine_releases SET sent = %s, sent_at = now()"
            " WHERE tenant = %s AND source = %s AND number = %s AND sent IS NULL",
            (sent, release.tenant, release.source, release.number),
        )

    def released(self, tenant: str, source: str) -> Vector:
        """Return below which offsets all was sent again; see `ReleaseStore`."""
        return self.all_released(tenant).get(source, {})

    def all_released(self, tenant: str) -> Mapping[str, Vector]:
        """Return, per source, below which offsets all was sent again."""
        rows = self.connection.execute(
            "SELECT source, places FROM quarantine_releases"
            " WHERE tenant = %s AND sent IS NOT NULL ORDER BY number",
            (tenant,),
        ).fetchall()
        found: dict[str, dict[LogPartition, int]] = {}
        for source, places in rows:
            found.setdefault(source, {}).update(_vector(places))
        return found


def _vector(places: list[list[int]]) -> dict[LogPartition, int]:
    return {LogPartition(log, partition): offset for log, partition, offset in places}
