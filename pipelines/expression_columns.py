"""Evaluates the subset of CEL by column: one pass of each operator over all events.

A value is a number (int or Decimal, exact), a text, a truth, or something else that can only be
asked for. Whether a row has a value, and which, depends on that row alone: a column all of one
family is worked on at once, any other row by row, by the same rules.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, DecimalException, localcontext
from typing import Any

import msgspec
import pyarrow as pa

from pipelines.expression import Constant, Has, Node, Operation, parents_of
from pipelines.expression_text import MissingMember
from pipelines.extract import Column
from pipelines.meter import VALUE_DIGITS_MAX, VALUE_SCALE
from pipelines.values import EXACT

_FAMILY_OF = {int: "number", Decimal: "number", str: "text", bool: "truth"}
_LIMIT = 10**VALUE_DIGITS_MAX
_UNIT = Decimal(1).scaleb(-VALUE_SCALE)
_WORDS = {"number": "a number", "text": "a text", "truth": "true or false", "": "a list or object"}


class _Other:
    """A list or an object, which the subset can only ask for."""


OTHER = _Other()


@dataclass(frozen=True, slots=True)
class Vector:
    """One value per event; at the rows of `faults` there is none, and the value means nothing."""

    values: Sequence[Any]
    family: str
    """`number`, `text` or `truth` where all values are; else empty."""
    faults: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Events:
    """What an expression reads: columns of `data` by JSON path, and attributes by name."""

    rows: int
    columns: Mapping[str, Column]
    attribute: Callable[[str], Sequence[str]]


def evaluate(tree: Node, events: Events) -> Vector:
    """Return the value of an expression per event."""
    with localcontext(EXACT):
        return _evaluate(tree, events)


def _evaluate(node: Node, events: Events) -> Vector:
    if isinstance(node, Operation):
        operands = [_evaluate(operand, events) for operand in node.operands]
        return _OPERATIONS.get(node.operator, _combined)(node.operator, *operands)
    if isinstance(node, Constant):
        return Vector([node.value] * events.rows, _FAMILY_OF[type(node.value)])
    if isinstance(node, Has):
        return _has(node.path, events)
    if node.path[0] != "$":
        return Vector(events.attribute(node.path), "text")
    return _member(events.columns[node.path], f"data{node.path[1:]}")


def _member(column: Column, name: str) -> Vector:
    values: Sequence[Any] = column.values
    faults: dict[int, str] = {}
    if column.kind == "raw":
        values = _parsed(values, name, faults)
    elif None in values:
        missing = MissingMember(f"{name} is missing")
        faults = {row: missing for row, value in enumerate(values) if value is None}
        blank = {"number": 0, "text": "", "truth": False}[column.kind]
        values = [blank if value is None else value for value in values]
    elif column.kind == "number" and any(abs(v) >= _LIMIT for v in values):
        faults = {row: _too_long(name) for row, v in enumerate(values) if abs(v) >= _LIMIT}
    return Vector(values, _family(values, faults), faults)


def _too_long(name: str) -> str:
    return f"{name} has more than {VALUE_DIGITS_MAX} digits before the point"


def _parsed(raws: Sequence[bytes | None], name: str, faults: dict[int, str]) -> list[Any]:
    encoded = pa.array(raws, pa.binary()).dictionary_encode(null_encoding="encode")
    distinct = [_scalar(raw, name) for raw in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_pylist()
    for row, code in enumerate(codes):
        if isinstance(distinct[code], _Fault):
            faults[row] = distinct[code].reason
    return [distinct[code] for code in codes]


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: str


def _scalar(raw: bytes | None, name: str) -> Any:
    """Return a JSON text as a value, or why it is none."""
    if raw is None:
        return _Fault(MissingMember(f"{name} is missing"))
    if raw[:1] in b"[{":
        return OTHER
    if raw[:1] in b"tf":
        return raw == b"true"
    if raw[:1] == b'"':
        try:
            return msgspec.json.decode(raw, type=str)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _Fault(f"{name} is not valid Unicode")
    return _number(raw.decode(), name)


def _number(text: str, name: str) -> Decimal | int | _Fault:
    try:
        value = Decimal(text)
        if value.copy_abs() >= _LIMIT:
            return _Fault(_too_long(name))
        if value % _UNIT:
            return _Fault(f"{name} has more than {VALUE_SCALE} decimals")
    except DecimalException:
        return _Fault(f"{name} has too many digits")
    return int(value) if value == int(value) else value


def _has(path: str, events: Events) -> Vector:
    """CEL asks whether the last member is there; all above it must be."""
    present = [True] * events.rows
    faults: dict[int, str] = {}
    *above, last = parents_of(path)
    for parent in above:
        for row, raw in enumerate(events.columns[parent].values):
            if raw is None or raw[:1] != b"{":
                name = f"data{parent[1:]}"
                is_missing = MissingMember(f"{name} is missing")
                faults.setdefault(row, is_missing if raw is None else f"{name} is not an object")
    present = [raw is not None for raw in events.columns[last].values]
    return Vector(present, "truth", faults)


def _family(values: Sequence[Any], faults: Mapping[int, str]) -> str:
    kinds = set(map(type, values))
    if faults:
        kinds = {type(value) for row, value in enumerate(values) if row not in faults}
    families = {_FAMILY_OF.get(kind, "") for kind in kinds}
    return families.pop() if len(families) == 1 else ""


def _family_of(value: Any) -> str:
    return _FAMILY_OF.get(type(value), "")


_ARITHMETIC = ("+", "-", "*")
_EQUALITY = ("==", "!=")
_FUNCTIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_TAKES = {"+": ("number", "text"), "-": ("number",), "*": ("number",)}


def _combined(sign: str, left: Vector, right: Vector) -> Vector:
    faults = {**right.faults, **left.faults}
    family = left.family if left.family == right.family else ""
    function = _FUNCTIONS[sign]
    result = family if sign in _ARITHMETIC else "truth"
    pairs = zip(left.values, right.values, strict=True)
    if family and not faults and family in _TAKES.get(sign, (family,)):
        try:
            return Vector(list(map(function, left.values, right.values)), result)
        except DecimalException:
            pass
    rule = _rule(sign, function)
    values = _by_row((rule, pairs), faults)
    return Vector(values, result if family else _family(values, faults), faults)


def _rule(sign: str, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return an operator for two values of any family."""

    def combine(one: Any, other: Any) -> Any:
        first, second = _family_of(one), _family_of(other)
        if sign in _EQUALITY:
            if not first and not second:
                return _Fault("lists and objects cannot be compared")
            return function(one, other) if first == second else sign == "!="
        if first != second or first not in _TAKES.get(sign, ("number", "text", "truth")):
            return _Fault(f"{sign} does not take {_WORDS[first]} and {_WORDS[second]}")
        try:
            return function(one, other)
        except DecimalException:
            return _Fault(f"{sign} gives a number with too many digits")

    return combine


def _by_row(
    work: tuple[Callable[..., Any], Iterable[tuple[Any, ...]]], faults: dict[int, str]
) -> list[Any]:
    """Apply a rule to the rows without a fault; what it cannot do is a fault."""
    rule, rows = work
    values: list[Any] = []
    for row, arguments in enumerate(rows):
        value = None if row in faults else rule(*arguments)
        if isinstance(value, _Fault):
            faults[row] = value.reason
        values.append(value)
    return values


def _mapped(sign: str, operand: Vector) -> Vector:
    wanted = "truth" if sign == "!" else "number"
    function = operator.not_ if sign == "!" else operator.neg
    if operand.family == wanted and not operand.faults:
        return Vector(list(map(function, operand.values)), wanted)

    def rule(value: Any) -> Any:
        family = _family_of(value)
        if family != wanted:
            return _Fault(f"{sign.replace('neg', '-')} does not take {_WORDS[family]}")
        return function(value)

    faults = dict(operand.faults)
    values = _by_row((rule, ((value,) for value in operand.values)), faults)
    return Vector(values, wanted, faults)


def _any_equal(_: str, left: Vector, *listed: Vector) -> Vector:
    options = [option.values[0] for option in listed if option.values]
    wanted = {(_family_of(option), option) for option in options}
    if left.family and not left.faults:
        plain = {option for family, option in wanted if family == left.family}
        return Vector([value in plain for value in left.values], "truth")
    faults = dict(left.faults)
    values = _by_row(
        (lambda one: (_family_of(one), one) in wanted, ((value,) for value in left.values)), faults
    )
    return Vector(values, "truth", faults)


def _junction(sign: str, left: Vector, right: Vector) -> Vector:
    """One side can decide whatever the other is, a fault included; so CEL has it."""
    decides = sign == "||"
    if left.family == right.family == "truth" and not left.faults and not right.faults:
        function = operator.or_ if decides else operator.and_
        return Vector(list(map(function, left.values, right.values)), "truth")
    values: list[Any] = []
    faults: dict[int, str] = {}
    for row, pair in enumerate(zip(left.values, right.values, strict=True)):
        reasons = [
            side.faults.get(row) or _no_truth(sign, value)
            for side, value in zip((left, right), pair, strict=True)
        ]
        is_decided = any(
            value is decides and reason is None for value, reason in zip(pair, reasons, strict=True)
        )
        values.append(is_decided is decides)
        if not is_decided and any(reasons):
            faults[row] = next(reason for reason in reasons if reason)
    return Vector(values, "truth", faults)


def _no_truth(sign: str, value: Any) -> str | None:
    family = _family_of(value)
    return None if family == "truth" else f"{sign} does not take {_WORDS[family]}"


def _chosen(_: str, condition: Vector, yes: Vector, no: Vector) -> Vector:
    values: list[Any] = []
    faults = dict(condition.faults)
    for row, (is_yes, one, other) in enumerate(
        zip(condition.values, yes.values, no.values, strict=True)
    ):
        values.append(one if is_yes else other)
        if row in faults:
            continue
        if _family_of(is_yes) != "truth":
            faults[row] = f"? does not take {_WORDS[_family_of(is_yes)]}"
        elif reason := (yes if is_yes else no).faults.get(row):
            faults[row] = reason
    family = yes.family if yes.family == no.family else _family(values, faults)
    return Vector(values, family, faults)


_OPERATIONS: Mapping[str, Callable[..., Vector]] = {
    "&&": _junction, "||": _junction, "?": _chosen, "in": _any_equal, "!": _mapped, "neg": _mapped,
}  # fmt: skip
