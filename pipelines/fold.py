"""What an event is worth: the one place where events become quantities.

Workers, straddled segments and raw edges all call `fold`; there is no second implementation.
A fold is columnar: a table of events in, one row per (subject, dimensions, item, window) out.
Whether a value can be used never depends on the other events of the table.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.extract import RawColumn, extract
from pipelines.meter import VALUE_DIGITS_MAX, VALUE_SCALE, MeterDefinition

VALUE_TYPE = pa.decimal128(38, VALUE_SCALE)
TEXT_LENGTH_MAX = 256
"""Longest value of a dimension, and longest item of unique_count, in characters."""

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,9})?")
_VALUE_LIMIT = Decimal(10) ** VALUE_DIGITS_MAX


@dataclass(frozen=True, slots=True)
class ActiveMeter:
    """A meter definition as stored: whose it is, and which version."""

    definition_id: int
    tenant: str = field(compare=False)
    version: int = field(compare=False)
    definition: MeterDefinition = field(compare=False)


@dataclass(frozen=True, slots=True)
class Rejection:
    """An accepted event whose value one meter cannot use."""

    meter: ActiveMeter
    offset: int
    index: int
    reason: str


WindowKey = tuple[str, str, str, int]
"""(subject, dimensions as JSON, item, window start in microseconds since 1970)"""
Worth = tuple[int, Decimal, Decimal, Decimal]
"""(count, sum, min, max)"""


@dataclass(frozen=True, slots=True)
class Fold:
    """What a table of events adds to one meter, per window; and what it could not use."""

    meter: ActiveMeter
    worth_by_key: dict[WindowKey, Worth]
    rejections: list[Rejection]


def combine(left: Worth, right: Worth) -> Worth:
    """Return the worth of two sets of events of one window together."""
    return (
        left[0] + right[0],
        left[1] + right[1],
        min(left[2], right[2]),
        max(left[3], right[3]),
    )


def fold_all(events: Any, meters: Iterable[ActiveMeter]) -> list[Fold]:
    """Fold a table of `POSITIONED_SCHEMA` into every meter that its events may count for."""
    by_stream: dict[tuple[str, str], list[ActiveMeter]] = {}
    for meter in meters:
        by_stream.setdefault((meter.tenant, meter.definition.event_type), []).append(meter)
    folds = []
    for (tenant, event_type), of_stream in by_stream.items():
        mask = pc.and_(
            pc.equal(events.column("tenant"), tenant), pc.equal(events.column("type"), event_type)
        )
        stream = events.filter(mask)
        if stream.num_rows:
            folds.extend(_fold_stream(stream, of_stream))
    return folds


def _fold_stream(stream: Any, meters: Sequence[ActiveMeter]) -> list[Fold]:
    paths: set[str] = set()
    for meter in meters:
        paths.update(_paths(meter.definition))
    texts = stream.column("data").to_pylist()
    columns = extract(texts, sorted(paths)) if paths else {}
    return [_fold_meter(stream, columns, meter) for meter in meters]


def _paths(definition: MeterDefinition) -> set[str]:
    paths = set(definition.dimensions.values())
    if definition.value is not None:
        paths.add(definition.value)
    if definition.filter_parts is not None:
        paths.add(definition.filter_parts[0])
    return paths


def _fold_meter(stream: Any, columns: dict[str, RawColumn], meter: ActiveMeter) -> Fold:
    definition = meter.definition
    reasons: dict[int, str] = {}
    counted = _matching(definition, columns, stream.num_rows)
    dimensions = _dimension_texts(definition, columns, stream.num_rows, reasons)
    items: list[str] | None = None
    values = None
    if definition.aggregation == "unique_count":
        items = _items(columns[definition.value or ""], reasons)
    elif definition.value is not None:
        values = _values(columns[definition.value], counted, reasons)
    rejected = [row for row in reasons if counted[row]]
    counted[list(reasons)] = False
    rejections = _rejections(stream, meter, {row: reasons[row] for row in sorted(rejected)})
    keep = np.flatnonzero(counted)
    if not len(keep):
        return Fold(meter, {}, rejections)
    return Fold(
        meter, _grouped(stream, keep, definition.window_size, dimensions, items, values), rejections
    )


def _grouped(
    stream: Any,
    keep: Any,
    window: timedelta,
    dimensions: list[str] | None,
    items: list[str] | None,
    values: Any,
) -> dict[WindowKey, Worth]:
    size = window // timedelta(microseconds=1)
    times = stream.column("time").cast(pa.int64()).to_numpy()[keep]
    rows = pa.array(keep)
    keys = {
        "subject": stream.column("subject").take(rows),
        "window": pa.array(times // size * size),
    }
    if dimensions is not None:
        keys["dimensions"] = pa.array(dimensions, pa.string()).take(rows)
    if items is not None:
        keys["item"] = pa.array(items, pa.string()).take(rows)
    names = list(keys)
    if values is None:
        table = pa.table(keys).group_by(names, use_threads=False).aggregate([([], "count_all")])
        totals: Any = ([Decimal(0)] * table.num_rows,) * 3
    else:
        table = pa.table({**keys, "v": values.take(rows)}).group_by(names, use_threads=False)
        table = table.aggregate([([], "count_all"), ("v", "sum"), ("v", "min"), ("v", "max")])
        totals = [table.column(name).to_pylist() for name in ("v_sum", "v_min", "v_max")]
    blank = [""] * table.num_rows
    return {
        (subject, dims, item, start): (count, total, least, greatest)
        for subject, dims, item, start, count, total, least, greatest in zip(
            table.column("subject").to_pylist(),
            table.column("dimensions").to_pylist()
            if dimensions is not None
            else ["{}"] * len(blank),
            table.column("item").to_pylist() if items is not None else blank,
            table.column("window").to_pylist(),
            table.column("count_all").to_pylist(),
            *totals,
            strict=True,
        )
    }


def _rejections(stream: Any, meter: ActiveMeter, reasons: dict[int, str]) -> list[Rejection]:
    if not reasons:
        return []
    rows = pa.array(list(reasons))
    offsets = stream.column("offset").take(rows).to_pylist()
    indexes = stream.column("index").take(rows).to_pylist()
    return [
        Rejection(meter, offset, index, reason)
        for offset, index, reason in zip(offsets, indexes, reasons.values(), strict=True)
    ]


def _matching(definition: MeterDefinition, columns: dict[str, RawColumn], rows: int) -> Any:
    if definition.filter_parts is None:
        return np.ones(rows, bool)
    path, literal = definition.filter_parts
    wanted = _scalar(literal.encode())
    verdicts: dict[bytes | None, bool] = {None: False}
    matches = np.empty(rows, bool)
    for row, raw in enumerate(columns[path]):
        verdict = verdicts.get(raw)
        if verdict is None:
            verdict = verdicts[raw] = raw is not None and _scalar(raw) == wanted
        matches[row] = verdict
    return matches


def _scalar(raw: bytes) -> tuple[str, str | Decimal | bool | None]:
    """Return a JSON text's kind and value, so that 1 equals 1.0 and not "1" or true."""
    try:
        if raw[:1] == b'"':
            return "text", msgspec.json.decode(raw, type=str)
        if raw in (b"true", b"false"):
            return "truth", raw == b"true"
        if raw[:1] in b"-0123456789":
            return "number", Decimal(raw.decode())
    except (msgspec.MsgspecError, InvalidOperation, UnicodeDecodeError):
        pass
    return "other", None


def text_of(raw: bytes | None) -> str:
    """Return a JSON value as the text of a dimension: missing is empty, a number as sent."""
    if raw is None:
        return ""
    if raw[:1] == b'"':
        try:
            return msgspec.json.decode(raw, type=str)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
    return raw.decode(errors="replace")


def _dimension_texts(
    definition: MeterDefinition, columns: dict[str, RawColumn], rows: int, reasons: dict[int, str]
) -> list[str] | None:
    if not definition.dimensions:
        return None
    names = list(definition.dimensions)
    known: dict[tuple[bytes | None, ...], str | None] = {}
    texts = []
    raws = zip(*(columns[definition.dimensions[name]] for name in names), strict=True)
    for row, key in enumerate(raws):
        text = known.get(key, "")
        if text == "":
            values = {name: text_of(raw) for name, raw in zip(names, key, strict=True)}
            is_long = any(len(value) > TEXT_LENGTH_MAX for value in values.values())
            text = None if is_long else msgspec.json.encode(values).decode()
            known[key] = text
        if text is None:
            reasons[row] = f"a dimension is longer than {TEXT_LENGTH_MAX} characters"
        texts.append(text or "")
    assert len(texts) == rows  # noqa: S101 - columns of one table
    return texts


def _items(column: RawColumn, reasons: dict[int, str]) -> list[str]:
    items = []
    for row, raw in enumerate(column):
        text = text_of(raw)
        if raw is None or not text:
            reasons.setdefault(row, "the value is missing")
        elif len(text) > TEXT_LENGTH_MAX:
            reasons.setdefault(row, f"the value is longer than {TEXT_LENGTH_MAX} characters")
        items.append(text)
    return items


def _values(column: RawColumn, counted: Any, reasons: dict[int, str]) -> Any:
    """Return the values as `VALUE_TYPE`; unusable ones are zero and have a reason."""
    cleaned = [
        b"0" if not wanted else raw for raw, wanted in zip(column, counted.tolist(), strict=True)
    ]
    try:
        if None in cleaned:
            raise pa.ArrowInvalid("missing")  # noqa: TRY301 - the slow way names the rows
        texts = [raw.strip(b'"') for raw in cleaned if raw is not None]
        values = pa.array(texts, pa.binary()).cast(pa.string()).cast(VALUE_TYPE)
        top = max(abs(pc.max(values).as_py()), abs(pc.min(values).as_py())) if texts else 0
        if top < _VALUE_LIMIT:
            return values
    except pa.ArrowInvalid:
        pass
    exact: list[Decimal] = []
    for row, raw in enumerate(cleaned):
        value = _value(raw)
        if isinstance(value, str):
            reasons.setdefault(row, value)
            value = Decimal(0)
        exact.append(value)
    return pa.array(exact, VALUE_TYPE)


def _value(raw: bytes | None) -> Decimal | str:
    """Return the value of one JSON text, or why it cannot be used."""
    if raw is None:
        return "the value is missing"
    try:
        text = raw.strip(b'"').decode()
        value = pa.scalar(text).cast(VALUE_TYPE).as_py()
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return _why_not(raw)
    if abs(value) >= _VALUE_LIMIT:
        return f"the value has more than {VALUE_DIGITS_MAX} digits before the point"
    return Decimal(value)


def _why_not(raw: bytes) -> str:
    text = raw.strip(b'"').decode(errors="replace")
    if not _NUMBER.fullmatch(text):
        return f"the value is not a number: {text[:40]}"
    if abs(Decimal(text)) >= _VALUE_LIMIT:
        return f"the value has more than {VALUE_DIGITS_MAX} digits before the point"
    return f"the value has more than {VALUE_SCALE} decimals"
