"""Clauses of SQL that reading usage for billing and for questions share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.external import ExternalData

from pipelines.cut import AsOf, EffectiveMeter, Ranges
from pipelines.segment import AUDIT_SEGMENTS, HISTORY_SEGMENT
from pipelines.values import VALUE_TYPE

SETTINGS = {"do_not_merge_across_partitions_select_final": 1}
"""A row's partition is a function of its key, so FINAL may merge each by itself."""
ARROW_SETTINGS = {**SETTINGS, "output_format_arrow_low_cardinality_as_dictionary": 0}

_FAR = 1 << 62

_TYPES = {
    pa.string(): "String",
    pa.int64(): "Int64",
    pa.list_(pa.string()): "Array(String)",
    VALUE_TYPE: "Decimal(38, 12)",
}


def dimension(name: str) -> str:
    """Return the value of a dimension of a window."""
    return f"JSONExtractString(dimensions, '{name}')"


def in_force(versions: Sequence[EffectiveMeter], as_of: AsOf | None) -> str:
    """Say that a row is of a version read by rows, and that the window is that version's."""
    micros = "toUnixTimestamp64Milli(window_start) * 1000"
    rows = []
    for version in versions:
        if version.is_raw(as_of):
            continue
        parts = [f"meter_version = {version.meter.version}"]
        if version.start_us > -_FAR:
            parts.append(f"{micros} >= {version.start_us}")
        if version.end_us < _FAR:
            parts.append(f"{micros} < {version.end_us}")
        rows.append(f"({' AND '.join(parts)})")
    return " OR ".join(rows) or "false"


def as_rows(versions: Sequence[EffectiveMeter], as_of: AsOf | None) -> str:
    """Say that a row is of a version that is read by rows, whatever its window."""
    numbers = [str(each.meter.version) for each in versions if not each.is_raw(as_of)]
    return f"meter_version IN ({', '.join(numbers)})" if numbers else "false"


def whole(as_of: AsOf) -> str:
    """Say that a row's segment lies wholly before a cut, or is history, or an audit's of it."""
    places = [
        f"(log = {at.log} AND partition = {at.partition}"
        f" AND (segment < {bound} OR segment = {HISTORY_SEGMENT}))"
        for at, bound in as_of.whole_below.items()
    ]
    return " OR ".join([*places, audited_by(0, as_of.audits)])


def audited_by(after: int, last: int) -> str:
    """Say that a window's segment is of an audit, from after one up to another."""
    return f"segment > {AUDIT_SEGMENTS + after} AND segment <= {AUDIT_SEGMENTS + last}"


def within(ranges: Ranges, column: str, prefix: str = "") -> str:
    """Say that a column of offsets lies in its partition's range; empty where all are empty."""
    return " OR ".join(
        f"({prefix}log = {at.log} AND {prefix}partition = {at.partition}"
        f" AND {prefix}{column} >= {start} AND {prefix}{column} < {end})"
        for at, (start, end) in ranges.items()
        if start < end
    )


@dataclass(slots=True)
class Statement:
    """The values and tables that a statement is sent with."""

    values: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)

    def add_table(self, name: str, columns: Mapping[str, Any]) -> None:
        """Send Arrow columns along, as a table of the statement."""
        self.tables[name] = pa.table(dict(columns))

    def of_subjects(self, column: str, subjects: Sequence[str] | None) -> list[str]:
        """Return the condition that a column is one of some subjects, where any are named."""
        if subjects is None:
            return []
        if len(subjects) == 1:
            self.values["subject"] = subjects[0]
            return [f"{column} = {{subject:String}}"]
        self.add_table("subjects", {"subject": pa.array(subjects, pa.string())})
        return [f"{column} IN (SELECT subject FROM subjects)"]

    @property
    def external_data(self) -> ExternalData | None:
        """The tables as they are sent, or None where there are none."""
        data = ExternalData()
        for name, table in self.tables.items():
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            data.add_file(
                file_name=name,
                data=bytes(sink.getvalue()),
                fmt="ArrowStream",
                structure=[f"{each.name} {_TYPES[each.type]}" for each in table.schema],
            )
        return data if self.tables else None
