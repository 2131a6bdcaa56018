"""The tables of usage as seeding and backtests read and write them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.clickhouse_clauses import SETTINGS, Statement, within
from pipelines.clickhouse_query import ClickHouseQuery
from pipelines.cut import Ranges
from pipelines.edges import RawRead
from pipelines.fold import Rejection
from pipelines.outage import TransientError
from pipelines.position import LogPartition


@dataclass(slots=True)
class ClickHouseHistory:
    """A `HistoryTables`; the client may be shared."""

    client: Any

    def raw(self, read: RawRead, ranges: Ranges) -> Iterator[Any]:
        """Yield stored events and what corrections of them added."""
        return ClickHouseQuery(self.client).raw(read, ranges)

    def counts(self, read: RawRead, ranges: Ranges, step_us: int) -> list[tuple[int, int]]:
        """Return (start, events) of the steps of time that have events, in order."""
        rows = self._grouped(read, ranges, _step_of(step_us))
        return [(int(number) * step_us, int(events)) for number, events in rows]

    def subjects(self, read: RawRead, ranges: Ranges) -> list[tuple[str, int]]:
        """Return the subjects with their number of events."""
        return [(name, int(events)) for name, events in self._grouped(read, ranges, "subject")]

    def write(self, at: LogPartition, windows: Any, rejections: Sequence[Rejection]) -> None:
        """Write rows of windows, and rejections, of one partition."""
        rows = [
            {
                "tenant": rejection.meter.tenant,
                "meter": rejection.meter.definition.key,
                "meter_version": rejection.meter.version,
                "log": at.log,
                "partition": at.partition,
                "offset": rejection.offset,
                "index": rejection.index,
                "reason": rejection.reason,
            }
            for rejection in rejections
        ]
        try:
            if windows.num_rows:
                self.client.insert_arrow("usage_windows", windows)
            if rows:
                self.client.insert_arrow("usage_rejections", pa.Table.from_pylist(rows))
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error

    def _grouped(self, read: RawRead, ranges: Ranges, key: str) -> Any:
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
            f" WHERE ({where}) AND ({within(ranges, 'offset')})"
            f" UNION ALL SELECT {key} AS key FROM usage_corrections"
            f" WHERE ({where}) AND ({within(ranges, 'offset', 'at_')})) GROUP BY key ORDER BY key"
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
