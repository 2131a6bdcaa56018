"""The tables of usage as seeding and backtests read and write them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.clickhouse_clauses import SETTINGS, Statement, within
from pipelines.clickhouse_query import ClickHouseQuery
from pipelines.clickhouse_writer import rejection_row
from pipelines.cut import Ranges
from pipelines.edges import Audited, RawRead
from pipelines.fold import Rejection
from pipelines.outage import TransientError
from pipelines.position import LogPartition


@dataclass(slots=True)
class ClickHouseHistory:
    """A `HistoryTables`; the client may be shared."""

    client: Any

    def raw(self, read: RawRead, ranges: Ranges, audited: Audited | None) -> Iterator[Any]:
        """Yield what the log adds; see `UsageTables.raw`."""
        return ClickHouseQuery(self.client).raw(read, ranges, audited)

    def voids(self, read: RawRead, last_audit: int) -> Iterator[tuple[int, LogPartition, Any]]:
        """Yield what audits took back; see `HistoryTables`."""
        return ClickHouseQuery(self.client).voids(read, last_audit) if last_audit else iter(())

    def counts(
        self, read: RawRead, ranges: Ranges, last_audit: int, step_us: int
    ) -> list[tuple[int, int]]:
        """Return (start, signed events) of the steps of time that have any, in order."""
        rows = self._grouped(read, ranges, last_audit, _step_of(step_us))
        return [(int(number) * step_us, int(events)) for number, events in rows]

    def subjects(self, read: RawRead, ranges: Ranges, last_audit: int) -> list[tuple[str, int]]:
        """Return the subjects with their number of signed events."""
        rows = self._grouped(read, ranges, last_audit, "subject")
        return [(name, int(events)) for name, events in rows]

    def write(self, at: LogPartition, windows: Any, rejections: Sequence[Rejection]) -> None:
        """Write rows of windows, and rejections, of one partition."""
        rows = [rejection_row(at, rejection) for rejection in rejections]
        try:
            if windows.num_rows:
                self.client.insert_arrow("usage_windows", windows)
            if rows:
                self.client.insert_arrow("usage_rejections", pa.Table.from_pylist(rows))
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error

    def _grouped(self, read: RawRead, ranges: Ranges, last_audit: int, key: str) -> Any:
        """Return (key, events) in order; a correction counts as an event of its own time."""
        statement = Statement({"tenant": read.tenant, "types": list(read.event_types)})
        [(start_us, end_us)] = read.intervals
        where = ") AND (".join(
            [
                "tenant = {tenant:String}",
                "type IN {types:Array(String)}",
                f"time >= fromUnixTimestamp64Micro({start_us})",
                f"time < fromUnixTimestamp64Micro({end_us})",
            ]
        )
        sql = (
            f"SELECT key, count() FROM (SELECT {key} AS key FROM usage_events"
            f" WHERE ({where}) AND ({within(ranges, 'offset') or 'false'})"
            f" UNION ALL SELECT {key} AS key FROM usage_corrections"
            f" WHERE ({where}) AND ({within(ranges, 'offset', 'at_') or 'false'})"
            f" UNION ALL SELECT {key} AS key FROM usage_audit_voids"
            f" WHERE ({where}) AND audit <= {last_audit}) GROUP BY key ORDER BY key"
        )
        try:
            answer = self.client.query(sql, parameters=statement.values, settings=SETTINGS)
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error
        return answer.result_rows


def _step_of(step_us: int) -> str:
    """Return SQL for the number of a step of time, which may lie before 1970."""
    at = "toUnixTimestamp64Micro(time)"
    return f"intDiv({at} - positiveModulo({at}, {step_us}), {step_us})"
