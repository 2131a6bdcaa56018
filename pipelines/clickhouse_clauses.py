"""Clauses of SQL that reading usage for billing and for questions share."""

from collections.abc import Iterable, Sequence

from clickhouse_connect.driver.external import ExternalData

from pipelines.cut import AsOf, EffectiveMeter, Ranges

SETTINGS = {"do_not_merge_across_partitions_select_final": 1}
"""A row's partition is a function of its key, so FINAL may merge each by itself."""
ARROW_SETTINGS = {**SETTINGS, "output_format_arrow_low_cardinality_as_dictionary": 0}

SpanRow = tuple[str, str, int, int]
"""(owner, subject, first, last), times in microseconds since 1970, the last one excluded"""


def dimension(name: str) -> str:
    """Return the value of a dimension of a window."""
    return f"JSONExtractString(dimensions, '{name}')"


def in_force(versions: Sequence[EffectiveMeter]) -> str:
    """Say that a window belongs to the version of the meter in force at its start."""
    if len(versions) == 1:
        return f"meter_version = {versions[0].meter.version}"
    micros = "toUnixTimestamp64Milli(window_start) * 1000"
    return " OR ".join(
        f"(meter_version = {version.meter.version}"
        f" AND {micros} >= {version.start_us} AND {micros} < {version.end_us})"
        for version in versions
    )


def whole(as_of: AsOf) -> str:
    """Say that a window's segment lies wholly before a cut."""
    places = [
        f"(log = {at.log} AND partition = {at.partition} AND segment < {bound})"
        for at, bound in as_of.whole_below.items()
    ]
    return " OR ".join(places) or "false"


def within(ranges: Ranges, column: str) -> str:
    """Say that a column of offsets lies in its partition's range; empty where all are empty."""
    return " OR ".join(
        f"(log = {at.log} AND partition = {at.partition}"
        f" AND {column} >= {start} AND {column} < {end})"
        for at, (start, end) in ranges.items()
        if start < end
    )


def spans_table(rows: Iterable[SpanRow]) -> ExternalData:
    """Return the table `spans` that a query joins on the subject."""
    lines = (
        f"{_tsv(owner)}\t{_tsv(subject)}\t{first}\t{last}\n" for owner, subject, first, last in rows
    )
    return ExternalData(
        file_name="spans",
        data="".join(lines).encode(),
        fmt="TSV",
        structure=["owner String", "subject String", "first_us Int64", "last_us Int64"],
    )


def _tsv(text: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return text
