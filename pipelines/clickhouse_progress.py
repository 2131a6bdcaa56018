"""How far each partition is processed, as written with the rows themselves."""

from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.outage import TransientError
from pipelines.position import LogPartition
from pipelines.progress import Mark


@dataclass(slots=True)
class ClickHouseProgress:
    """Reads the table usage_progress."""

    client: Any

    def next_offsets(self) -> dict[LogPartition, int]:
        """Return per partition the offset below which everything is in the tables.

        Raises:
            TransientError: ClickHouse does not answer.
        """
        return {at: mark.next_offset for at, mark in self.marks().items()}

    def marks(self) -> dict[LogPartition, Mark]:
        """Return per partition how far it is processed, and the greatest event time there.

        Raises:
            TransientError: ClickHouse does not answer.
        """
        sql = (
            "SELECT log, partition, max(next_offset), toUnixTimestamp64Micro(max(max_time))"
            " FROM usage_progress GROUP BY log, partition"
        )
        try:
            rows = self.client.query(sql).result_rows
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error
        return {LogPartition(log, number): Mark(*mark) for log, number, *mark in rows}
