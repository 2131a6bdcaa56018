"""How far each partition is processed, as written with the rows themselves."""

from dataclasses import dataclass
from typing import Any

from pipelines.position import LogPartition


@dataclass(slots=True)
class ClickHouseProgress:
    """Reads the table usage_progress."""

    client: Any

    def next_offsets(self) -> dict[LogPartition, int]:
        """Return per partition the offset below which everything is in the tables."""
        rows = self.client.query(
            "SELECT log, partition, max(next_offset) FROM usage_progress GROUP BY log, partition"
        ).result_rows
        return {LogPartition(log, partition): offset for log, partition, offset in rows}
