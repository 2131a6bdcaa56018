"""Reads usage from ClickHouse as of a cut: whole windows of whole segments, and raw events."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from clickhouse_connect.driver.external import ExternalData

from pipelines.cut import AsOf, EffectiveMeter
from pipelines.fold import Worth
from pipelines.position import LogPartition
from pipelines.record import POSITIONED_SCHEMA

_SETTINGS = {"do_not_merge_across_partitions_select_final": 1}


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
        names = ", ".join(f"JSONExtractString(dimensions, '{name}')" for name in group_by)
        sql = (
            f"SELECT owner, [{names}]::Array(String) AS dims, item,"
            " sum(count), sum(sum), min(min), max(max) FROM usage_windows FINAL"
            " INNER JOIN spans ON usage_windows.subject = spans.subject"
            " WHERE tenant = {tenant:String} AND meter = {meter:String}"
            f" AND ({_in_force(versions)}) AND ({_whole(as_of)})"
            f" AND window_start >= fromUnixTimestamp64Micro({min(s.first_us for s in spans)})"
            f" AND window_start < fromUnixTimestamp64Micro({max(s.last_us for s in spans)})"
            " AND toUnixTimestamp64Micro(toDateTime64(window_start, 6)) >= first_us"
            " AND toUnixTimestamp64Micro(toDateTime64(window_start, 6)) < last_us"
            " GROUP BY owner, dims, item"
        )
        answer = self.client.query(
            sql,
            parameters={"tenant": tenant, "meter": versions[0].meter.definition.key},
            external_data=_external(spans),
            settings=_SETTINGS,
        )
        return {
            (owner, tuple(dims), item): (int(count), Decimal(total), Decimal(low), Decimal(high))
            for owner, dims, item, count, total, low, high in answer.result_rows
        }

    def raw_events(
        self,
        tenant: str,
        event_types: Iterable[str],
        ranges: Mapping[LogPartition, tuple[int, int]],
        start_us: int,
        end_us: int,
    ) -> Any:
        """Return stored events of an interval and of offsets per partition, in log order."""
        wanted = {at: span for at, span in ranges.items() if span[0] < span[1]}
        if not wanted or start_us >= end_us:
            return POSITIONED_SCHEMA.empty_table()
        places = " OR ".join(
            f"(log = {at.log} AND partition = {at.partition}"
            f" AND offset >= {start} AND offset < {end})"
            for at, (start, end) in wanted.items()
        )
        table = self.client.query_arrow(
            f"SELECT {', '.join(POSITIONED_SCHEMA.names)} FROM usage_events FINAL"
            " WHERE tenant = {tenant:String} AND type IN {types:Array(String)}"
            f" AND time >= fromUnixTimestamp64Micro({start_us})"
            f" AND time < fromUnixTimestamp64Micro({end_us}) AND ({places})"
            " ORDER BY log, partition, offset, index",
            parameters={"tenant": tenant, "types": sorted(set(event_types))},
            settings={**_SETTINGS, "output_format_arrow_low_cardinality_as_dictionary": 0},
            use_strings=True,
        )
        return table.cast(POSITIONED_SCHEMA)

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
            f" AND ({_in_force(versions)}) AND ({_whole(as_of)})"
            f" AND window_end > fromUnixTimestamp64Micro({start_us})"
            f" AND window_start < fromUnixTimestamp64Micro({end_us}) ORDER BY subject",
            parameters={"tenant": tenant, "meter": versions[0].meter.definition.key},
        )
        return [row[0] for row in answer.result_rows]

    def changed(
        self,
        tenant: str,
        ranges: Mapping[LogPartition, tuple[int, int]],
    ) -> list[tuple[str, str, int, int]]:
        """Return (meter, subject, first start, last end) per UTC month touched by segments.

        Times are in milliseconds since 1970.
        """
        places = " OR ".join(
            f"(log = {at.log} AND partition = {at.partition}"
            f" AND segment >= {start} AND segment < {end})"
            for at, (start, end) in ranges.items()
            if start < end
        )
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


def _in_force(versions: Sequence[EffectiveMeter]) -> str:
    if len(versions) == 1:
        return f"meter_version = {versions[0].meter.version}"
    return " OR ".join(
        f"(meter_version = {version.meter.version}"
        f" AND toUnixTimestamp64Micro(toDateTime64(window_start, 6)) >= {version.start_us}"
        f" AND toUnixTimestamp64Micro(toDateTime64(window_start, 6)) < {version.end_us})"
        for version in versions
    )


def _whole(as_of: AsOf) -> str:
    return " OR ".join(
        f"(log = {at.log} AND partition = {at.partition} AND segment < {bound})"
        for at, bound in as_of.whole_below.items()
    )


def _external(spans: Sequence[WholeSpan]) -> ExternalData:
    rows = "".join(
        f"{_tsv(span.owner)}\t{_tsv(span.subject)}\t{span.first_us}\t{span.last_us}\n"
        for span in spans
    )
    return ExternalData(
        file_name="spans",
        data=rows.encode(),
        fmt="TSV",
        structure=["owner String", "subject String", "first_us Int64", "last_us Int64"],
    )


def _tsv(text: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return text
