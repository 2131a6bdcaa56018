"""Which incarnations of the usage topic there are: the tables logs and log_ends.

Producers write to the newest open log; the older ones are consumed until they are closed. Of a
closed log only its ends are left, and every later cut holds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from pipelines.position import Log, LogPartition

_COLUMNS = "log, topic, topic_id, partitions"


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log with the time it was opened, and closed if it was."""

    log: Log
    opened_at: datetime
    closed_at: datetime | None


@dataclass(slots=True)
class PostgresLogs:
    """The logs of a deployment; the connection is in autocommit."""

    connection: "psycopg.Connection[Any]"

    def all_logs(self) -> list[LogRecord]:
        """Return every log, oldest first."""
        rows = self.connection.execute(
            f"SELECT {_COLUMNS}, opened_at, closed_at FROM logs ORDER BY log"
        ).fetchall()
        return [
            LogRecord(
                Log(*columns),
                opened_at.astimezone(UTC),
                None if closed_at is None else closed_at.astimezone(UTC),
            )
            for *columns, opened_at, closed_at in rows
        ]

    def open_logs(self) -> list[Log]:
        """Return the logs that are consumed, oldest first; producers write to the last."""
        rows = self.connection.execute(
            f"SELECT {_COLUMNS} FROM logs WHERE closed_at IS NULL ORDER BY log"
        ).fetchall()
        return [Log(*row) for row in rows]

    def newest(self) -> Log:
        """Return the log that producers write to."""
        return self.open_logs()[-1]

    def closed_ends(self) -> dict[LogPartition, int]:
        """Return where the partitions of closed logs end."""
        rows = self.connection.execute(
            "SELECT log, partition, next_offset FROM log_ends ORDER BY log, partition"
        ).fetchall()
        return {LogPartition(log, partition): end for log, partition, end in rows}

    def open_log(self, topic: str, topic_id: str, partitions: int) -> Log:
        """Record a topic as the newest log, or its size where it is one already."""
        row = self.connection.execute(
            f"INSERT INTO logs ({_COLUMNS})"
            " SELECT coalesce(max(log) + 1, 0), %s, %s, %s FROM logs"
            " ON CONFLICT (topic_id) DO UPDATE SET partitions = excluded.partitions"
            f" RETURNING {_COLUMNS}",
            (topic, topic_id, partitions),
        ).fetchone()
        assert row is not None  # noqa: S101 - RETURNING
        return Log(*row)

    def close_log(self, log: Log, ends: Mapping[LogPartition, int]) -> None:
        """Record that a log takes no more records, and where its partitions end."""
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO log_ends VALUES (%s, %s, %s)",
                [(at.log, at.partition, end) for at, end in ends.items()],
            )
            cursor.execute("UPDATE logs SET closed_at = now() WHERE log = %s", (log.log,))
