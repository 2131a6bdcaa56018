"""Turns what stands at a JSON path into exact numbers, texts and verdicts of a filter.

Whether a value can be used depends on that value alone, never on the others of its column.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.extract import Column, Kind
from pipelines.meter import VALUE_DIGITS_MAX, VALUE_SCALE

VALUE_TYPE = pa.decimal128(38, VALUE_SCALE)
TEXT_LENGTH_MAX = 256
"""Longest value of a dimension, and longest item of unique_count, in characters."""
MISSING = "the value is missing"

EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])
"""Python's own context rounds to 28 digits; quantities have more."""

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,9})?")
_VALUE_LIMIT = 10**VALUE_DIGITS_MAX


@dataclass(frozen=True, slots=True)
class Codes:
    """A column as codes into its distinct values."""

    codes: Any
    values: list[str]

    @property
    def texts(self) -> Any:
        """The distinct values as Arrow keeps them."""
        return pa.array(self.values, pa.string())


@dataclass(frozen=True, slots=True)
class Names:
    """A column as codes into distinct names: of many, none becomes an object of Python."""

    codes: Any
    texts: Any


def numbers(column: Column) -> tuple[Any, dict[int, str]]:
    """Return a column as `VALUE_TYPE`, and why rows cannot be used; those are zero."""
    reasons = {}
    values = column.values
    if None in values:
        reasons = {row: MISSING for row, value in enumerate(values) if value is None}
        blank: Any = 0 if column.kind == "number" else b"0"
        values = [blank if value is None else value for value in values]
    parts = list(_cast_what_can_be(column.kind, values, 0, reasons))
    return pa.concat_arrays(parts), reasons


def _cast(kind: Kind, values: list[Any]) -> Any:
    """Return all values at once; raises where one of them cannot be used."""
    if kind == "number":
        whole = pa.array(values, pa.int64())
        least, greatest = pc.min_max(whole).as_py().values()
        if len(values) and not _is_within(least, greatest):
            raise OverflowError
        return whole.cast(pa.decimal128(19, 0)).cast(VALUE_TYPE)
    texts = pa.array([raw.strip(b'"') for raw in values], pa.binary())
    exact = texts.cast(pa.string()).cast(VALUE_TYPE)
    least, greatest = pc.min_max(exact).as_py().values()
    if len(values) and not _is_within(least, greatest):
        raise OverflowError
    return exact


def _is_within(least: int | Decimal, greatest: int | Decimal) -> bool:
    """Tell whether values have few enough digits; compares only, since arithmetic may round."""
    return bool(least > -_VALUE_LIMIT and greatest < _VALUE_LIMIT)


def _cast_what_can_be(
    kind: Kind, values: list[Any], first: int, reasons: dict[int, str]
) -> Iterator[Any]:
    """Yield the values in order, in parts; halves down to what cannot be used, which is zero."""
    try:
        yield _cast(kind, values)
    except (pa.ArrowInvalid, OverflowError):
        if len(values) == 1:
            raw = values[0] if isinstance(values[0], bytes) else b"%d" % values[0]
            reasons.setdefault(first, _why_not(raw))
            yield pa.array([Decimal(0)], VALUE_TYPE)
            return
        half = len(values) // 2
        yield from _cast_what_can_be(kind, values[:half], first, reasons)
        yield from _cast_what_can_be(kind, values[half:], first + half, reasons)


def _why_not(raw: bytes) -> str:
    text = raw.strip(b'"').decode(errors="replace")
    if not _NUMBER.fullmatch(text):
        return f"the value is not a number: {text[:40]}"
    if Decimal(text).copy_abs() >= _VALUE_LIMIT:
        return f"the value has more than {VALUE_DIGITS_MAX} digits before the point"
    return f"the value has more than {VALUE_SCALE} decimals"


def texts(column: Column) -> Codes:
    """Return a column as texts: missing is empty, a number as sent."""
    codes, distinct = _coded(column)
    if column.kind == "text":
        return merged(codes, [value or "" for value in distinct])
    return merged(codes, [text_of(raw) for raw in distinct])


def merged(codes: Any, values: list[str]) -> Codes:
    """Give each distinct text one code: missing and empty are one, and so are 7 and "7"."""
    code_by_value: dict[str, int] = {}
    codes_of = [code_by_value.setdefault(value, len(code_by_value)) for value in values]
    if len(code_by_value) == len(values):
        return Codes(codes, values)
    return Codes(np.array(codes_of, np.int64)[codes], list(code_by_value))


def combined(columns: Sequence[Codes], join: Callable[[tuple[str, ...]], str]) -> Codes:
    """Return the distinct combinations of columns, each joined into one text."""
    codes = columns[0].codes
    parts: list[tuple[str, ...]] = [(value,) for value in columns[0].values]
    for column in columns[1:]:
        size = len(column.values)
        distinct, codes = _compacted(codes * size + column.codes, len(parts) * size)
        parts = [(*parts[pair // size], column.values[pair % size]) for pair in distinct]
    return Codes(codes, [join(part) for part in parts])


def _compacted(codes: Any, size: int) -> tuple[list[int], Any]:
    """Return the distinct codes below `size` in order, and each code's place among them."""
    if size > 4 * len(codes):
        distinct, places = np.unique(codes, return_inverse=True)
        return distinct.tolist(), places
    distinct = np.flatnonzero(np.bincount(codes, minlength=size))
    places = np.zeros(size, np.int64)
    places[distinct] = np.arange(len(distinct))
    return distinct.tolist(), places[codes]


def plain_texts(exact: Any) -> Codes:
    """Return a column of `VALUE_TYPE` as texts: one spelling per number, as short as can be."""
    encoded = exact.cast(pa.string()).dictionary_encode()
    shortest = [plain_text(Decimal(value)) for value in encoded.dictionary.to_pylist()]
    return merged(encoded.indices.to_numpy().astype(np.int64), shortest)


def plain_text(value: Decimal) -> str:
    """Return a number as text: no exponent, no zeros behind the last decimal."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def text_of(raw: bytes | None) -> str:
    """Return a JSON value as text: missing is empty, a number as sent."""
    if raw is None:
        return ""
    if raw[:1] == b'"':
        try:
            return msgspec.json.decode(raw, type=str)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
    return raw.decode(errors="replace")


def _coded(column: Column) -> tuple[Any, list[Any]]:
    """Return a column's codes and its distinct values, None among them."""
    kind = pa.string() if column.kind == "text" else pa.binary()
    encoded = pa.array(column.values, kind).dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()
