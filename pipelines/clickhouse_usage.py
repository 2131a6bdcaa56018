"""Reads usage from ClickHouse as of a cut: whole windows of whole segments, and raw events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipelines.clickhouse_clauses import (
    ARROW_SETTINGS,
    SETTINGS,
    dimension,
    in_force,
    spans_table,
    whole,
    within,
)
from pipelines.cut import AsOf, EffectiveMeter, Ranges
from pipelines.fold import Worth
from pipelines.record import COUNTED_SCHEMA


@dataclass(frozen=True, slots=True)
class WholeSpan:
    """A subject's whole windows in `[first_us, last_us)` count for `owner`."""

    owner: str
    subject: str
    first_us: int
    last_us: int


Total = tuple[str, tuple[str, ...], str]
"""(owner, values of the asked dimensions, item)"""


@dataclass(slots=True)
class ClickHouseUsage:
    """Reads the tables usage_windows and usage_events."""

    client: Any

    def totals(
        self,
        tenant: str,
        versions: Sequence[EffectiveMeter],
        as_of: AsOf,
        spans: Sequence[WholeSpan],
        group_by: Sequence[str],
    ) -> dict[Total, Worth]:
        """Return what whole windows of whole segments add up to, per owner and dimensions."""
        if not spans:
            return {}
        names = ", ".join(dimension(name) for name in group_by)
        sql = (
            f"SELECT owner, [{names}]::Array(String) AS dims, item,"
            " sum(count), sum(sum) FROM usage_windows FINAL"
            " INNER JOIN spans ON usage_windows.subject = spans.subject"
            " WHERE tenant = {tenant:String} AND meter = {meter:String}"
            f" AND ({in_force(versions)}) AND ({whole(as_of)})"
            f" AND window_start >= fromUnixTimestamp64Micro({min(s.first_us for s in spans)})"
            f" AND window_start < fromUnixTimestamp64Micro({max(s.last_us for s in spans)})"
            " AND toUnixTimestamp64Micro(toDateTime64(window_start, 6)) >= first_us"
            " AND toUnixTimestamp64Micro(toDateTime64(window_start, 6)) < last_us"
            " GROUP BY owner, dims, item"
        )
        answer = self.client.query(
            sql,
            parameters={"tenant": tenant, "meter": versions[0].meter.definition.key},
            external_data=spans_table(
                (span.owner, span.subject, span.first_us, span.last_us) for span in spans
            ),
            settings=SETTINGS,
        )
        return {
            (owner, tuple(dims), item): (int(count), Decimal(total))
            for owner, dims, item, count, total in answer.result_rows
        }

    def raw_events(
        self,
        tenant: str,
        event_types: Iterable[str],
        ranges: Ranges,
        start_us: int,
        end_us: int,
    ) -> Any:
        """Return stored events of an interval and of offsets per partition, in log order."""
        places = within(ranges, "offset")
        if not places or start_us >= end_us:
            return COUNTED_SCHEMA.empty_table()
        table = self.client.query_arrow(
            f"SELECT {', '.join(COUNTED_SCHEMA.names)} FROM usage_events FINAL"
            " WHERE tenant = {tenant:String} AND type IN {types:Array(String)}"
            f" AND time >= fromUnixTimestamp64Micro({start_us})"
            f" AND time < fromUnixTimestamp64Micro({end_us}) AND ({places})"
            " ORDER BY log, partition, offset, index",
            parameters={"tenant": tenant, "types": sorted(set(event_types))},
            settings=ARROW_SETTINGS,
            use_strings=True,
        )
        return table.cast(COUNTED_SCHEMA)

    def subjects(
        self,
        tenant: str,
        versions: Sequence[EffectiveMeter],
        as_of: AsOf,
        start_us: int,
        end_us: int,
    ) -> list[str]:
        """Return the subjects with windows that overlap an interval."""
        answer = self.client.query(
            "SELECT DISTINCT subject FROM usage_windows"
            " WHERE tenant = {tenant:String} AND meter = {meter:String}"
            f" AND ({in_force(versions)}) AND ({whole(as_of)})"
            f" AND window_end > fromUnixTimestamp64Micro({start_us})"
            f" AND window_start < fromUnixTimestamp64Micro({end_us}) ORDER BY subject",
            parameters={"tenant": tenant, "meter": versions[0].meter.definition.key},
        )
        return [row[0] for row in answer.result_rows]

    def changed(
        self,
        tenant: str,
        ranges: Ranges,
    ) -> list[tuple[str, str, int, int]]:
        """Return (meter, subject, first start, last end) per UTC month touched by segments.

        Times are in milliseconds since 1970.
        """
        places = within(ranges, "segment")
        if not places:
            return []
        answer = self.client.query(
            "SELECT meter, subject, toUnixTimestamp64Milli(min(window_start)),"
            " toUnixTimestamp64Milli(max(window_end)) FROM usage_windows"
            f" WHERE tenant = {{tenant:String}} AND ({places})"
            " GROUP BY meter, subject, toStartOfMonth(window_start)"
            " ORDER BY meter, subject, min(window_start)",
            parameters={"tenant": tenant},
        )
        return [(row[0], row[1], row[2], row[3]) for row in answer.result_rows]
