"""Reads what a question of usage needs: totals per local window, and raw events."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.clickhouse_changes import changed_sql
from pipelines.clickhouse_clauses import (
    ARROW_SETTINGS,
    SETTINGS,
    Statement,
    audited_by,
    in_force,
    whole,
    within,
)
from pipelines.clickhouse_integrals import integrals_sql
from pipelines.clickhouse_totals import start_of, totals_sql
from pipelines.cut import AsOf, EffectiveMeter, Ranges
from pipelines.edges import Audited, RawRead, fewer
from pipelines.fold import Worth
from pipelines.outage import TransientError
from pipelines.position import LogPartition
from pipelines.query import Folded
from pipelines.question import Page, SeriesKey, UsageKey, UsageQuestion
from pipelines.record import COUNTED_SCHEMA, SIGNED_SCHEMA
from pipelines.selection import LATEST_US, Selection

_INTERVALS_MAX = 64
"""A statement names so many intervals of time; more are joined, and filtered when read."""


_TAKEN_SCHEMA = pa.schema(
    [
        *SIGNED_SCHEMA,
        pa.field("audit", pa.uint64()),
        pa.field("log", pa.uint16()),
        pa.field("partition", pa.uint16()),
    ]
)


@dataclass(slots=True)
class ClickHouseQuery:
    """Reads the tables usage_windows and usage_events; the client may be shared."""

    client: Any

    def extent(
        self, versions: Sequence[EffectiveMeter], question: UsageQuestion, as_of: AsOf | None
    ) -> tuple[int, int] | None:
        """Return first start and last end, in microseconds, of the windows of what is asked."""
        meter = versions[-1].meter
        statement = Statement({"tenant": meter.tenant, "meter": question.meter})
        where = [
            "tenant = {tenant:String}",
            "meter = {meter:String}",
            *statement.of_subjects("subject", question.named_subjects),
            in_force(versions, as_of),
        ]
        if as_of is not None:
            where.append(whole(as_of))
        sql = (
            "SELECT toUnixTimestamp64Milli(min(window_start)),"
            " toUnixTimestamp64Milli(max(window_end)), count() FROM usage_windows"
            f" WHERE ({') AND ('.join(where)})"
        )
        [(first, last, count)] = [row for block in self._blocks(sql, statement) for row in block]
        return (first * 1000, last * 1000) if count else None

    def totals(
        self, selection: Selection, folded: Folded, page: Page
    ) -> Iterator[tuple[UsageKey, Worth]]:
        """Yield, in order, what whole windows and folded events come to; see `value_of`."""
        statement = Statement()
        sql = totals_sql(selection, folded, page, statement)
        return self._worths(selection, sql, statement)

    def integrals(
        self, selection: Selection, folded: Mapping[tuple[SeriesKey, str], Worth], page: Page
    ) -> Iterator[tuple[UsageKey, Worth]]:
        """Yield, in order, what samples times microseconds come to; see `value_of`."""
        statement = Statement()
        sql = integrals_sql(selection, folded, page, statement)
        return self._worths(selection, sql, statement)

    def _worths(
        self, selection: Selection, sql: str, statement: Statement
    ) -> Iterator[tuple[UsageKey, Worth]]:
        for block in self._blocks(sql, statement):
            for start, owner, subject, dims, count, total in block:
                key = UsageKey(start_of(selection, start), owner, subject, tuple(dims))
                yield key, (int(count), Decimal(total))

    def raw(self, read: RawRead, ranges: Ranges, audited: Audited | None) -> Iterator[Any]:
        """Yield stored events and what corrections of them added; see `UsageTables`."""
        if not any(start < end for start, end in ranges.values()) or not read.intervals:
            return
        statement = Statement()
        among = _among(read, statement)
        columns_of = ", ".join(COUNTED_SCHEMA.names)
        sql = (
            f"SELECT {columns_of}, toInt8(1) AS sign FROM usage_events FINAL"
            f" WHERE ({among}) AND replacement = '' AND ({within(ranges, 'offset')})"
            f" UNION ALL SELECT {columns_of}, sign FROM usage_corrections FINAL"
            f" WHERE ({among}) AND ({within(ranges, 'offset', 'at_')})"
        )
        places = None if audited is None else within(audited.ranges, "offset", "at_")
        if audited is not None and places:
            last = "" if audited.audits is None else f" AND audit <= {audited.audits}"
            sql += (
                f" UNION ALL SELECT {columns_of}, sign FROM usage_audit_voids FINAL"
                f" WHERE ({among}) AND ({places}){last}"
            )
        yield from self._tables(sql, statement)

    def voids(self, read: RawRead, last_audit: int) -> Iterator[tuple[int, LogPartition, Any]]:
        """Yield what audits up to one took back; see `HistoryTables`."""
        statement = Statement()
        among = _among(read, statement)
        sql = (
            f"SELECT {', '.join(_TAKEN_SCHEMA.names)} FROM usage_audit_voids FINAL"
            f" WHERE ({among}) AND audit <= {last_audit}"
        )
        keys = ["audit", "log", "partition"]
        for table in self._tables(sql, statement, _TAKEN_SCHEMA):
            for place in table.group_by(keys).aggregate([]).to_pylist():
                is_it = [pc.equal(table.column(key), place[key]) for key in keys]
                of_place = table.filter(reduce(pc.and_, is_it))
                at = LogPartition(place["log"], place["partition"])
                yield place["audit"], at, of_place.select(SIGNED_SCHEMA.names)

    def changed(
        self,
        tenant: str,
        ranges: Ranges,
        until: AsOf,
        audits: tuple[int, int],
        open_us: tuple[int, int],
    ) -> list[tuple[str, str, int, int]]:
        """Return (meter, subject, start, end) of what offsets touched; see `UsageTables`."""
        places = f"{within(ranges, 'segment') or 'false'} OR {audited_by(*audits)}"
        sql = changed_sql(places, whole(until), open_us)
        blocks = self._blocks(sql, Statement({"tenant": tenant}))
        return [(row[0], row[1], row[2], row[3]) for block in blocks for row in block]

    def touched(
        self, version: EffectiveMeter, ranges: Ranges, audits: tuple[int, int]
    ) -> list[tuple[str, str, int, int]]:
        """Return (meter, subject, start, end) of the windows of raw events; see `UsageTables`."""
        meter = version.meter
        size_us = meter.definition.window_size // timedelta(microseconds=1)
        statement = Statement({"tenant": meter.tenant, "types": list(meter.definition.types)})
        among = "tenant = {tenant:String} AND type IN {types:Array(String)}"
        last = LATEST_US if meter.definition.is_carried else "toUnixTimestamp64Micro(max(time))"
        sql = (
            "SELECT subject, toUnixTimestamp64Micro(min(time)), toInt64("
            f"{last}) FROM (SELECT subject, time FROM usage_events"
            f" WHERE {among} AND ({within(ranges, 'offset') or 'false'}) UNION ALL"
            f" SELECT subject, time FROM usage_corrections"
            f" WHERE {among} AND ({within(ranges, 'offset', 'at_') or 'false'}) UNION ALL"
            f" SELECT subject, time FROM usage_audit_voids"
            f" WHERE {among} AND audit > {audits[0]} AND audit <= {audits[1]})"
            " GROUP BY subject, toStartOfMonth(time)"
        )
        key = meter.definition.key
        return [
            (key, subject, first // size_us * size_us, (last_us // size_us + 1) * size_us)
            for block in self._blocks(sql, statement)
            for subject, first, last_us in block
        ]

    def _blocks(self, sql: str, statement: Statement) -> Iterator[Any]:
        try:
            with self.client.query_row_block_stream(
                sql,
                parameters=statement.values,
                settings=SETTINGS,
                external_data=statement.external_data,
            ) as blocks:
                yield from blocks
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error

    def _tables(
        self, sql: str, statement: Statement, schema: pa.Schema = SIGNED_SCHEMA
    ) -> Iterator[Any]:
        try:
            with self.client.query_arrow_stream(
                sql,
                parameters=statement.values,
                settings=ARROW_SETTINGS,
                external_data=statement.external_data,
                use_strings=True,
            ) as batches:
                for batch in batches:
                    yield pa.Table.from_batches([batch]).cast(schema)
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error


def _among(read: RawRead, statement: Statement) -> str:
    """Return the condition for rows of a read, whatever their offsets."""
    statement.values |= {"tenant": read.tenant, "types": list(read.event_types)}
    times = " OR ".join(
        f"(time >= fromUnixTimestamp64Micro({start}) AND time < fromUnixTimestamp64Micro({end}))"
        for start, end in fewer(read.intervals, _INTERVALS_MAX)
    )
    where = [
        "tenant = {tenant:String}",
        "type IN {types:Array(String)}",
        *statement.of_subjects("subject", read.subjects),
        times,
    ]
    if read.windows is not None:
        names, starts = zip(*read.windows, strict=True)
        columns = {"subject": pa.array(names, pa.string()), "at": pa.array(starts, pa.int64())}
        statement.add_table("edges", columns)
        window = f"intDiv(toUnixTimestamp64Micro(time), {read.size_us}) * {read.size_us}"
        where.append(f"(subject, {window}) IN (SELECT subject, at FROM edges)")
    return ") AND (".join(where)
