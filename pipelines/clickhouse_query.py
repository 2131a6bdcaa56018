"""Reads what a question of usage needs: windows added up per local window, and raw events."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from clickhouse_connect.driver.exceptions import OperationalError
from clickhouse_connect.driver.external import ExternalData

from pipelines.clickhouse_clauses import (
    ARROW_SETTINGS,
    SETTINGS,
    dimension,
    in_force,
    spans_table,
    whole,
    within,
)
from pipelines.cut import AsOf, Ranges
from pipelines.fold import Worth
from pipelines.local_windows import SECOND_US, Grid, LocalWindows
from pipelines.outage import TransientError
from pipelines.query import Selection
from pipelines.question import TooMuchError, UsageKey
from pipelines.record import COUNTED_SCHEMA

RAW_EVENTS_MAX = 2_000_000
ROWS_MAX = 1_000_000

_SECOND = "intDiv(toUnixTimestamp64Milli(window_start), 1000)"
_FAR = 1 << 62


@dataclass(slots=True)
class ClickHouseQuery:
    """Reads the tables usage_windows and usage_events; the client may be shared."""

    client: Any

    def extent(self, tenant: str, meter: str) -> tuple[int, int] | None:
        """Return the first start and last end of a meter's windows in microseconds, or None."""
        rows = self._rows(
            "SELECT toUnixTimestamp64Milli(min(window_start)),"
            " toUnixTimestamp64Milli(max(window_end)), count() FROM usage_windows"
            " WHERE tenant = {tenant:String} AND meter = {meter:String}",
            {"tenant": tenant, "meter": meter},
        )
        first, last, count = rows[0]
        return (first * 1000, last * 1000) if count else None

    def whole(
        self, selection: Selection, as_of: AsOf | None
    ) -> Iterator[tuple[UsageKey, str, Worth]]:
        """Yield (key, item, worth) of whole windows, added up per local window."""
        question = selection.question
        values: dict[str, Any] = {"tenant": selection.tenant, "meter": question.meter}
        where = [
            "tenant = {tenant:String}",
            "meter = {meter:String}",
            f"window_start >= fromUnixTimestamp64Micro({selection.start_us})",
            f"window_end <= fromUnixTimestamp64Micro({selection.end_us})",
            in_force(selection.versions),
        ]
        if selection.divided:
            divided = ", ".join(str(at // SECOND_US) for at in selection.divided)
            where.append(f"{_SECOND} NOT IN ({divided})")
        if as_of is not None:
            where.append(whole(as_of))
        if selection.subjects is not None:
            where.append("usage_windows.subject IN {subjects:Array(String)}")
            values["subjects"] = selection.subjects
        for number, (name, allowed) in enumerate(question.where):
            where.append(f"{dimension(name)} IN {{where{number}:Array(String)}}")
            values[f"where{number}"] = list(allowed)
        join = ""
        if question.spans is not None:
            join = " INNER JOIN spans ON usage_windows.subject = spans.subject"
            micros = "toUnixTimestamp64Milli(window_start) * 1000"
            where.append(f"{micros} >= first_us AND {micros} < last_us")
        dimensions = ", ".join(dimension(name) for name in question.group_by)
        rows = self._rows(
            f"SELECT {_local_start(selection.windows)} AS w,"
            f" {'owner' if question.by_owner else _NOTHING} AS o,"
            f" {'usage_windows.subject' if question.by_subject else _NOTHING} AS s,"
            f" [{dimensions}]::Array(String) AS d, item, sum(count), sum(sum)"
            f" FROM usage_windows FINAL{join} WHERE ({') AND ('.join(where)})"
            f" GROUP BY w, o, s, d, item LIMIT {ROWS_MAX + 1}",
            values,
            None if question.spans is None else _spans(selection),
        )
        _check(len(rows), ROWS_MAX, "rows")
        for start, owner, subject, dims, item, count, total in rows:
            key = UsageKey(_window_us(selection, start), owner, subject, tuple(dims))
            yield key, item, (int(count), Decimal(total))

    def raw(
        self, selection: Selection, intervals: Sequence[tuple[int, int]], ranges: Ranges
    ) -> Any:
        """Return stored events as a table of `COUNTED_SCHEMA`, in log order."""
        places = within(ranges, "offset")
        if not places or not intervals:
            return COUNTED_SCHEMA.empty_table()
        times = " OR ".join(
            f"(time >= fromUnixTimestamp64Micro({start})"
            f" AND time < fromUnixTimestamp64Micro({end}))"
            for start, end in intervals
        )
        types = sorted({version.meter.definition.event_type for version in selection.versions})
        values: dict[str, Any] = {"tenant": selection.tenant, "types": types}
        of_subjects = ""
        if selection.subjects is not None:
            of_subjects = " AND subject IN {subjects:Array(String)}"
            values["subjects"] = selection.subjects
        sql = (
            f"SELECT {', '.join(COUNTED_SCHEMA.names)} FROM usage_events FINAL"
            f" WHERE tenant = {{tenant:String}} AND type IN {{types:Array(String)}}{of_subjects}"
            f" AND ({times}) AND ({places})"
            f" ORDER BY log, partition, offset, index LIMIT {RAW_EVENTS_MAX + 1}"
        )
        try:
            table = self.client.query_arrow(
                sql, parameters=values, settings=ARROW_SETTINGS, use_strings=True
            )
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error
        _check(table.num_rows, RAW_EVENTS_MAX, "raw events")
        return table.cast(COUNTED_SCHEMA)

    def _rows(self, sql: str, values: dict[str, Any], external: ExternalData | None = None) -> Any:
        try:
            return self.client.query(
                sql, parameters=values, settings=SETTINGS, external_data=external
            ).result_rows
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error


_NOTHING = "''"


def _check(found: int, limit: int, what: str) -> None:
    if found > limit:
        raise TooMuchError(
            f"the answer takes more than {limit} {what}; ask for a shorter interval,"
            " larger windows or fewer subjects"
        )


def _local_start(windows: LocalWindows) -> str:
    """Return SQL for where the local window of a row starts, in seconds; 0 where there is one."""
    if not isinstance(windows, Grid):
        if len(windows.marks) == 2:
            return "toInt64(0)"
        marks = ", ".join(str(mark // SECOND_US) for mark in windows.marks)
        return f"toInt64(roundDown({_SECOND}, [{marks}]))"
    size = windows.size_us // SECOND_US
    starts = []
    for index, (begins, offset) in enumerate(windows.pieces):
        start = f"{_SECOND} - positiveModulo({_SECOND} + {offset // SECOND_US}, {size})"
        starts.append(f"greatest({start}, {begins // SECOND_US})" if index else start)
    branches = [
        f"{_SECOND} < {begins // SECOND_US}, {start}"
        for (begins, _), start in zip(windows.pieces[1:], starts, strict=False)
    ]
    return f"toInt64(multiIf({', '.join([*branches, starts[-1]])}))" if branches else starts[0]


def _window_us(selection: Selection, start: int) -> int:
    windows = selection.windows
    if not isinstance(windows, Grid) and len(windows.marks) == 2:
        return windows.marks[0]
    return int(start) * SECOND_US


def _spans(selection: Selection) -> ExternalData:
    return spans_table(
        (
            span.owner,
            span.subject,
            -_FAR if span.start is None else _us(span.start),
            _FAR if span.end is None else _us(span.end),
        )
        for span in selection.question.spans or ()
    )


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND_US + moment.microsecond
