"""The statement that adds up a selection: whole windows of the tables, and folded raw events."""

from collections.abc import Mapping
from decimal import Decimal

import pyarrow as pa

from pipelines.clickhouse_clauses import Statement, dimension, in_force, whole
from pipelines.fold import Worth
from pipelines.local_windows import SECOND_US, Grid, LocalWindows
from pipelines.question import Page, UsageKey, UsageQuestion
from pipelines.selection import Selection
from pipelines.values import VALUE_TYPE

NOTHING = "''"
_START_US = "toUnixTimestamp64Milli(window_start) * 1000"
_START_SECOND = "intDiv(toUnixTimestamp64Milli(window_start), 1000)"
_SAMPLED_US = "toInt64(substring(item, 1, 16))"
_SAMPLED_SECOND = f"intDiv({_SAMPLED_US}, {SECOND_US})"
_REDUCED = {
    "unique_count": "toInt64(count()) AS n, toDecimal128(0, 12) AS total",
    "min": "sum(c) AS n, min(toDecimal128(item, 12)) AS total",
    "max": "sum(c) AS n, max(toDecimal128(item, 12)) AS total",
    "latest": "argMax(c, item) AS n, argMax(t, item) AS total",
    "percentile": "sum(c) AS n, arraySort(groupArray((toDecimal128(item, 12), c))) AS ranked",
}
"""What the live items of one answer come to; see `aggregation.value_of`."""


def totals_sql(
    selection: Selection,
    folded: Mapping[tuple[UsageKey, str], Worth],
    page: Page,
    statement: Statement,
) -> str:
    """Return SQL for (window, owner, subject, dimensions, count, sum) in order.

    Windows are in seconds since 1970, or 0 where there is one; see `start_of`.
    """
    definition = selection.definition
    if not folded and selection.has_whole and not definition.keeps_items:
        # Most questions: one level, since the engine plans each as long as it reads a month.
        sql = _whole_windows(selection, "sum(count) AS n, sum(sum) AS total", statement)
        after = _after(selection, page, statement)
        keys = _keys(selection.question)
        return f"{sql} GROUP BY {keys} HAVING n > 0{after and f' AND {after}'}{_sorted(page, keys)}"
    parts = []
    if selection.has_whole:
        parts.append(_whole_windows(selection, "item, count AS c, sum AS t", statement))
    if folded or not parts:
        _add_folded(selection, folded, statement)
        parts.append("SELECT w, o, s, d, item, c, t FROM folded")
    total = "total"
    sql = f"FROM ({' UNION ALL '.join(parts)}) GROUP BY w, o, s, d"
    if definition.keeps_items:
        live = f"SELECT w, o, s, d, item, sum(c) AS c, sum(t) AS t {sql}, item HAVING c > 0"
        sql = f"SELECT w, o, s, d, {_REDUCED[definition.aggregation]} FROM ({live})"
        sql += " GROUP BY w, o, s, d"
    else:
        sql = f"SELECT w, o, s, d, sum(c) AS n, sum(t) AS total {sql} HAVING n > 0"
    if definition.percentile is not None:
        total = _percentile(definition.percentile)
    return in_order(sql, total, selection, page, statement)


def in_order(sql: str, total: str, selection: Selection, page: Page, statement: Statement) -> str:
    """Return SQL for the rows of a page, in order."""
    after = _after(selection, page, statement)
    where = f" WHERE {after}" if after else ""
    return f"SELECT w, o, s, d, n, {total} FROM ({sql}){where}{_sorted(page)}"


def _keys(question: UsageQuestion) -> str:
    """Return the keys of an answer that differ between its rows."""
    named = (("o", question.by_owner), ("s", question.by_subject), ("d", question.group_by))
    return ", ".join(["w", *(key for key, is_asked in named if is_asked)])


def _sorted(page: Page, keys: str = "w, o, s, d") -> str:
    return f" ORDER BY {keys}" + ("" if page.limit is None else f" LIMIT {page.limit}")


def start_of(selection: Selection, window: int) -> int:
    """Return the start of a window of `totals_sql`, in microseconds since 1970."""
    if is_one(selection.windows):
        return selection.windows.bounds(selection.start_us)[0]
    return window * SECOND_US


def _percentile(percentile: Decimal) -> str:
    """Return SQL for the nearest rank: the least value with so many events at or below it."""
    enough = f"reached * 100000 >= {int(percentile * 1000)} * n"
    return f"ranked[arrayFirstIndex(reached -> {enough}, arrayCumSum(ranked.2))].1"


def _whole_windows(selection: Selection, columns: str, statement: Statement) -> str:
    """Return SQL for columns of whole windows, with what the answer is grouped by."""
    question, spans = selection.question, selection.owned is not None
    is_sampled = selection.definition.keeps_samples
    at_us = _SAMPLED_US if is_sampled else _START_US
    second = _SAMPLED_SECOND if is_sampled else _START_SECOND
    where = [*_windows_of(selection, statement)]
    if is_sampled:
        where.append(f"{at_us} >= {selection.first_us} AND {at_us} < {selection.last_us}")
    if selection.divided:
        size_us = selection.size_us
        divided = ", ".join(map(str, sorted(selection.divided)))
        where.append(f"intDiv({_START_US}, {size_us}) * {size_us} NOT IN ({divided})")
    if spans:
        add_spans(selection, statement)
        where.append(f"{at_us} >= first_us AND {at_us} < last_us")
    dimensions = ", ".join(dimension(name) for name in question.group_by)
    return (
        f"SELECT {_local_start(selection.windows, second)} AS w,"
        f" {'owner' if question.by_owner else NOTHING} AS o,"
        f" {'usage_windows.subject' if question.by_subject else NOTHING} AS s,"
        f" [{dimensions}]::Array(String) AS d, {columns} FROM usage_windows FINAL"
        f"{' INNER JOIN spans ON usage_windows.subject = spans.subject' if spans else ''}"
        f" WHERE ({') AND ('.join(where)})"
    )


def _windows_of(selection: Selection, statement: Statement) -> list[str]:
    """Return the conditions for rows of the windows that overlap what is read whole."""
    question, size_us = selection.question, selection.size_us
    statement.values |= {"tenant": selection.tenant, "meter": question.meter}
    first_us = selection.first_us // size_us * size_us
    where = [
        "tenant = {tenant:String}",
        "meter = {meter:String}",
        *statement.of_subjects("usage_windows.subject", selection.subjects),
        f"window_start >= fromUnixTimestamp64Micro({first_us})",
        f"window_start < fromUnixTimestamp64Micro({selection.last_us})",
        in_force(selection.versions, selection.as_of),
    ]
    if selection.as_of is not None:
        where.append(whole(selection.as_of))
    for number, (name, allowed) in enumerate(question.where):
        where.append(f"{dimension(name)} IN {{where{number}:Array(String)}}")
        statement.values[f"where{number}"] = list(allowed)
    return where


def add_spans(selection: Selection, statement: Statement) -> None:
    """Send the spans along: of samples exact, else of whole windows."""
    spans = selection.owned or ()
    is_sampled = selection.definition.keeps_samples
    bounds = [(s.start_us, s.end_us) if is_sampled else (s.first_us, s.last_us) for s in spans]
    columns = {
        "owner": pa.array([span.owner for span in spans], pa.string()),
        "subject": pa.array([span.subject for span in spans], pa.string()),
        "first_us": pa.array([first for first, _ in bounds], pa.int64()),
        "last_us": pa.array([last for _, last in bounds], pa.int64()),
    }
    statement.add_table("spans", columns)


def _add_folded(
    selection: Selection, folded: Mapping[tuple[UsageKey, str], Worth], statement: Statement
) -> None:
    scale = 0 if is_one(selection.windows) else 1
    keys = [key for key, _ in folded]
    columns = {
        "w": pa.array([key.start_us // SECOND_US * scale for key in keys], pa.int64()),
        "o": pa.array([key.owner for key in keys], pa.string()),
        "s": pa.array([key.subject for key in keys], pa.string()),
        "d": pa.array([list(key.dimensions) for key in keys], pa.list_(pa.string())),
        "item": pa.array([item for _, item in folded], pa.string()),
        "c": pa.array([count for count, _ in folded.values()], pa.int64()),
        "t": pa.array([total for _, total in folded.values()], VALUE_TYPE),
    }
    statement.add_table("folded", columns)


def _after(selection: Selection, page: Page, statement: Statement) -> str:
    if page.after is None:
        return ""
    key = page.after
    start = 0 if is_one(selection.windows) else key.start_us // SECOND_US
    statement.values |= {"after_o": key.owner, "after_s": key.subject}
    statement.values["after_d"] = list(key.dimensions)
    after = f"toInt64({start}), {{after_o:String}}, {{after_s:String}}, {{after_d:Array(String)}}"
    return f"(w, o, s, d) > ({after})"


def is_one(windows: LocalWindows) -> bool:
    """Tell whether there is one window."""
    return not isinstance(windows, Grid) and len(windows.marks) == 2


def _local_start(windows: LocalWindows, second: str) -> str:
    """Return SQL for where the local window of a second starts, in seconds; 0 if it is one."""
    if not isinstance(windows, Grid):
        if is_one(windows):
            return "toInt64(0)"
        marks = ", ".join(str(mark // SECOND_US) for mark in windows.marks)
        return f"toInt64(roundDown({second}, [{marks}]))"
    size = windows.size_us // SECOND_US
    starts = []
    for index, (begins, offset) in enumerate(windows.pieces):
        local = f"{second} + {offset // SECOND_US}" if offset else second
        start = f"{second} - positiveModulo({local}, {size})"
        starts.append(f"greatest({start}, {begins // SECOND_US})" if index else start)
    branches = [
        f"{second} < {begins // SECOND_US}, {start}"
        for (begins, _), start in zip(windows.pieces[1:], starts, strict=False)
    ]
    return f"toInt64(multiIf({', '.join([*branches, starts[-1]])}))" if branches else starts[0]
