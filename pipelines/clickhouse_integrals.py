"""The statement that integrates samples: each value times how long it lasted, in microseconds.

A sample lasts until the next one of its series, in whichever window, partition or log that lies;
the last live one before what is asked is carried in.
"""

from collections.abc import Mapping

import pyarrow as pa

from pipelines.clickhouse_clauses import Statement, as_rows, dimension, whole
from pipelines.clickhouse_totals import NOTHING, add_spans, in_order, is_one
from pipelines.fold import Worth
from pipelines.local_windows import SECOND_US, Grid
from pipelines.question import Page, SeriesKey
from pipelines.selection import LATEST_US, Selection
from pipelines.values import VALUE_TYPE

_AT = "toInt64(substring(item, 1, 16))"
_SERIES = "m, subject, dimensions"
_SHARE = "toDecimal256(round(divideDecimal(t, toDecimal256(n, 0), 13), 12), 12)"
_VALUE = f"if(n = 1, toDecimal256(t, 12), {_SHARE})"
"""Of a sample; copies that no audit has found yet are one sample."""


def integrals_sql(
    selection: Selection,
    folded: Mapping[tuple[SeriesKey, str], Worth],
    page: Page,
    statement: Statement,
) -> str:
    """Return SQL for (window, owner, subject, dimensions, samples, value times microseconds)."""
    question = selection.question
    _add_folded(folded, statement)
    lasting = (
        f"SELECT {_SERIES}, {_VALUE} AS value,"
        f" greatest({_AT}, {selection.first_us}, {_bound_of_version(selection, 'start')}) AS b,"
        f" least(next_at, {selection.last_us}, {_bound_of_version(selection, 'end')}) AS e"
        f" FROM ({_samples(selection, statement)}) WHERE b < e"
    )
    owner = "'' AS o"
    if selection.owned is not None:
        add_spans(selection, statement)
        owner = f"{'owner' if question.by_owner else NOTHING} AS o"
        lasting = (
            "SELECT dimensions, lasting.subject AS subject, owner, value,"
            " greatest(lasting.b, first_us) AS b, least(lasting.e, last_us) AS e"
            f" FROM ({lasting}) AS lasting INNER JOIN spans ON lasting.subject = spans.subject"
            " WHERE b < e"
        )
    names = ", ".join(dimension(name) for name in question.group_by)
    subject = f"{'subject' if question.by_subject else NOTHING} AS s"
    sql = (
        f"SELECT w, {owner}, {subject}, [{names}]::Array(String) AS d,"
        " toInt64(count()) AS n, sum(value * toInt64(e - b)) AS total"
        f" FROM ({_in_windows(selection, lasting)}) GROUP BY w, o, s, d"
    )
    return in_order(sql, "total", selection, page, statement)


def _samples(selection: Selection, statement: Statement) -> str:
    """Return SQL for the live samples of each series, with when the next one follows."""
    question = selection.question
    statement.values |= {"tenant": selection.tenant, "meter": question.meter}
    of_dimensions = []
    for number, (name, allowed) in enumerate(question.where):
        of_dimensions.append(f"{dimension(name)} IN {{where{number}:Array(String)}}")
        statement.values[f"where{number}"] = list(allowed)
    among = [
        *of_dimensions,
        *statement.of_subjects("subject", selection.subjects),
    ]
    stored = [
        "tenant = {tenant:String}",
        "meter = {meter:String}",
        as_rows(selection.versions, selection.as_of),
        *among,
        *([] if selection.as_of is None else [whole(selection.as_of)]),
    ]
    first_us, last_us = selection.first_us, selection.last_us
    since_us = first_us // selection.size_us * selection.size_us
    inside = f"window_start >= fromUnixTimestamp64Micro({since_us})"
    before = f"window_start < fromUnixTimestamp64Micro({first_us})"
    until = f"window_start < fromUnixTimestamp64Micro({last_us})"
    live = _live([*stored, inside, until], among, f"{_AT} >= {first_us} AND {_AT} < {last_us}")
    earlier = _live([*stored, before], among, f"{_AT} < {first_us}")
    carried = (
        f"SELECT {_SERIES}, last.1 AS item, last.2 AS n, last.3 AS t FROM (SELECT {_SERIES},"
        f" argMax((item, n, t), item) AS last FROM ({earlier}) GROUP BY {_SERIES})"
    )
    return (
        f"SELECT {_SERIES}, item, n, t, leadInFrame({_AT}, 1, toInt64({LATEST_US}))"
        f" OVER (PARTITION BY {_SERIES} ORDER BY item"
        " ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS next_at"
        f" FROM ({live} UNION ALL {carried})"
    )


def _live(stored: list[str], among: list[str], at: str) -> str:
    """Return SQL for the samples that are not taken back, of windows and folded events."""
    folded = f" WHERE ({') AND ('.join(among)})" if among else ""
    return (
        f"SELECT {_SERIES}, item, sum(c) AS n, sum(a) AS t FROM ("
        "SELECT meter_version AS m, subject, dimensions, item, count AS c, sum AS a"
        f" FROM usage_windows FINAL WHERE ({') AND ('.join(stored)})"
        f" UNION ALL SELECT m, subject, dimensions, item, c, a FROM folded{folded}"
        f") WHERE {at} GROUP BY {_SERIES}, item HAVING n > 0"
    )


def _bound_of_version(selection: Selection, name: str) -> str:
    """Return SQL for where the version of a sample begins, or ends, to be in force."""
    versions = selection.versions
    bounds = [each.start_us if name == "start" else each.end_us for each in versions]
    if len(versions) == 1:
        return f"toInt64({bounds[0]})"
    numbers = ", ".join(str(each.meter.version) for each in versions)
    listed = ", ".join(f"toInt64({bound})" for bound in bounds)
    return f"transform(m, [{numbers}], [{listed}], toInt64(0))"


def _in_windows(selection: Selection, lasting: str) -> str:
    """Return SQL that cuts intervals [b, e) at the local windows; w is one's start in seconds."""
    windows = selection.windows
    if is_one(windows):
        return f"SELECT *, toInt64(0) AS w FROM ({lasting})"
    if isinstance(windows, Grid):
        return _in_grid(windows, lasting)
    marks = [mark // SECOND_US for mark in windows.marks]
    pieces = _in_pieces(lasting, marks)
    return f"SELECT * EXCEPT (piece), {_listed(marks)}[piece] AS w FROM ({pieces})"


def _in_grid(windows: Grid, lasting: str) -> str:
    begins = [begin // SECOND_US for begin, _ in windows.pieces]
    offsets = [offset for _, offset in windows.pieces]
    size_us = windows.size_us
    first = f"b - positiveModulo(b + {_listed(offsets)}[piece], {size_us})"
    cut = (
        "SELECT * EXCEPT (b, e), greatest(b, at) AS b,"
        f" least(e, at + {size_us}) AS e FROM (SELECT *,"
        f" arrayJoin(range({first}, e, {size_us})) AS at FROM ({_in_pieces(lasting, begins)}))"
    )
    start = f"if(piece > 1, greatest(at, {_listed(begins)}[piece] * {SECOND_US}), at)"
    return f"SELECT * EXCEPT (at, piece), intDiv({start}, {SECOND_US}) AS w FROM ({cut})"


def _in_pieces(lasting: str, starts: list[int]) -> str:
    """Return SQL that cuts intervals where pieces start, in seconds; the last never ends."""
    if len(starts) == 1:
        return f"SELECT *, 1 AS piece FROM ({lasting})"
    numbers = _listed(list(range(1, len(starts) + 1)))

    def place(at: str) -> str:
        second = f"greatest(intDiv({at}, {SECOND_US}), {starts[0]})"
        return f"transform(roundDown({second}, {_listed(starts)}), {_listed(starts)}, {numbers})"

    ends = _listed([*(start * SECOND_US for start in starts[1:]), LATEST_US])
    begins = _listed([-LATEST_US, *(start * SECOND_US for start in starts[1:])])
    return (
        f"SELECT * EXCEPT (b, e), greatest(b, {begins}[piece]) AS b, least(e, {ends}[piece]) AS e"
        f" FROM (SELECT *, arrayJoin(range({place('b')}, {place('e - 1')} + 1)) AS piece"
        f" FROM ({lasting}))"
    )


def _listed(numbers: list[int]) -> str:
    return (
        f"[{', '.join(f'toInt64({number})' for number in numbers[:1])}"
        + "".join(f", {number}" for number in numbers[1:])
        + "]"
    )


def _add_folded(folded: Mapping[tuple[SeriesKey, str], Worth], statement: Statement) -> None:
    keys = [key for key, _ in folded]
    columns = {
        "m": pa.array([key.meter_version for key in keys], pa.int64()),
        "subject": pa.array([key.subject for key in keys], pa.string()),
        "dimensions": pa.array([key.dimensions for key in keys], pa.string()),
        "item": pa.array([item for _, item in folded], pa.string()),
        "c": pa.array([count for count, _ in folded.values()], pa.int64()),
        "a": pa.array([total for _, total in folded.values()], VALUE_TYPE),
    }
    statement.add_table("folded", columns)
