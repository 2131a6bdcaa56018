"""Answers of usage as they are sent: rows of JSON, CSV, and Arrow streams."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

import pyarrow as pa

from billing.money import text_of
from pipelines.question import UsageQuestion, UsageRow
from tollbook.usage_question import WINDOWS

_VALUE = pa.decimal128(38, 12)
_TAKEN = ("window_start", "window_end", "customer", "subject", "value")


def instant_text(moment: datetime, zone: tzinfo = UTC) -> str:
    """Return an instant as RFC 3339."""
    text = moment.astimezone(zone).isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def to_rows(question: UsageQuestion, rows: Iterable[UsageRow]) -> Iterator[dict[str, Any]]:
    """Yield rows as JSON objects; values are decimals in plain notation."""
    for row in rows:
        start, end = row.window
        owner = {"customer": row.key.owner} if question.by_owner else {}
        yield {
            "window_start": instant_text(start),
            "window_end": instant_text(end),
            **owner,
            "subject": row.key.subject if question.by_subject else None,
            "dimensions": dict(zip(question.group_by, row.key.dimensions, strict=True)),
            "value": text_of(row.value),
        }


def to_content(question: UsageQuestion, rows: Sequence[UsageRow]) -> dict[str, Any]:
    """Return an answer as JSON content."""
    size_by_name = {size: text for text, size in WINDOWS.items()}
    return {
        "meter": question.meter,
        "from": instant_text(question.start) if question.start else None,
        "to": instant_text(question.end) if question.end else None,
        "window": size_by_name[question.window] if question.window else None,
        "window_time_zone": question.zone.key,
        "cut": question.cut,
        "rows": list(to_rows(question, rows)),
    }


def columns_of(question: UsageQuestion) -> list[str]:
    """Return the columns of an answer as a table."""
    names = ["window_start", "window_end"]
    names += ["customer"] * question.by_owner + ["subject"] * question.by_subject
    names += [f"dimension_{name}" if name in _TAKEN else name for name in question.group_by]
    return [*names, "value"]


def to_csv(question: UsageQuestion, rows: Iterable[UsageRow]) -> str:
    """Return an answer as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns_of(question))
    writer.writerows(to_cells(question, rows))
    return text.getvalue()


def to_cells(
    question: UsageQuestion, rows: Iterable[UsageRow], zone: tzinfo = UTC
) -> Iterator[list[str]]:
    """Yield the rows of an answer as a table, with instants in a time zone."""
    for row in rows:
        start, end = (instant_text(moment, zone) for moment in row.window)
        yield [start, end, *_names_of(question, row), text_of(row.value)]


def to_arrow(question: UsageQuestion, rows: Sequence[UsageRow]) -> bytes:
    """Return an answer as an Arrow IPC stream; instants are in UTC, values decimal(38, 12)."""
    windows = [row.window for row in rows]
    instant = pa.timestamp("us", tz="UTC")
    names = [_names_of(question, row) for row in rows]
    columns = columns_of(question)
    arrays = [
        pa.array([start for start, _ in windows], instant),
        pa.array([end for _, end in windows], instant),
        *(pa.array([of_row[i] for of_row in names], pa.string()) for i in range(len(columns) - 3)),
        pa.array([row.value for row in rows], _VALUE),
    ]
    table = pa.Table.from_arrays(arrays, names=columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _names_of(question: UsageQuestion, row: UsageRow) -> list[str]:
    owner = [row.key.owner] if question.by_owner else []
    subject = [row.key.subject] if question.by_subject else []
    return [*owner, *subject, *row.key.dimensions]
