"""Formulas over the quantities of several meters: exact decimals, no division."""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from billing.money import EXACT

_OPERATORS: dict[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: EXACT.add,
    ast.Sub: EXACT.subtract,
    ast.Mult: EXACT.multiply,
}
_FUNCTIONS: dict[str, Callable[..., Decimal]] = {"min": min, "max": max, "abs": EXACT.abs}
_NUMBER = re.compile(r"^[0-9]{1,18}(\.[0-9]{1,12})?$")
_LENGTH_MAX = 1000
_NODES_MAX = 200


@dataclass(frozen=True, slots=True)
class Formula:
    """`2 * input + output`, with names of meters, numbers, + - *, min, max and abs."""

    text: str
    names: frozenset[str]
    _tree: ast.expr = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> "Formula":
        """Read a formula; raises ValueError that says at which character it fails."""
        if len(text) > _LENGTH_MAX:
            raise ValueError(f"a formula has at most {_LENGTH_MAX} characters")
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, RecursionError, MemoryError) as error:
            at = getattr(error, "offset", None) or 1
            raise ValueError(f"not a formula, at character {at}: {text}") from error
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.expr)]
        if len(nodes) > _NODES_MAX:
            raise ValueError(f"a formula has at most {_NODES_MAX} parts")
        called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        for node in nodes:
            if id(node) not in called:
                _check(node, text)
        names = {n.id for n in nodes if isinstance(n, ast.Name) and id(n) not in called}
        return cls(text, frozenset(names), tree)

    def value(self, quantities: Mapping[str, Decimal]) -> Decimal:
        """Return the result; names without a quantity count as 0."""
        return _value(self._tree, quantities, self.text)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Be written as text."""
        read = core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=read,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), read]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda formula: formula.text, return_schema=core_schema.str_schema()
            ),
        )


def _check(node: ast.expr, text: str) -> None:
    where = f"at character {node.col_offset + 1}: {text}"
    if isinstance(node, ast.BinOp) and type(node.op) not in _OPERATORS:
        hint = "; multiply instead of dividing" if isinstance(node.op, ast.Div) else ""
        raise ValueError(f"a formula knows + - * only{hint}, {where}")
    if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.USub):
        raise ValueError(f"a formula knows + - * only, {where}")
    if isinstance(node, ast.Constant) and not _NUMBER.match(
        ast.get_source_segment(text, node) or ""
    ):
        raise ValueError(f"not a number like 12.5, {where}")
    if isinstance(node, ast.Call) and (
        not isinstance(node.func, ast.Name)
        or node.func.id not in _FUNCTIONS
        or node.keywords
        or len(node.args) < (1 if node.func.id == "abs" else 2)
        or (node.func.id == "abs" and len(node.args) > 1)
    ):
        raise ValueError(f"a formula knows min(a, b), max(a, b) and abs(a) only, {where}")
    if not isinstance(node, ast.BinOp | ast.UnaryOp | ast.Constant | ast.Call | ast.Name):
        raise ValueError(f"a formula has names, numbers, + - * min max abs, {where}")


def _value(node: ast.expr, quantities: Mapping[str, Decimal], text: str) -> Decimal:
    if isinstance(node, ast.BinOp):
        left = _value(node.left, quantities, text)
        return _OPERATORS[type(node.op)](left, _value(node.right, quantities, text))
    if isinstance(node, ast.UnaryOp):
        return EXACT.minus(_value(node.operand, quantities, text))
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)  # noqa: S101 - checked when it was read
        return _FUNCTIONS[node.func.id](*(_value(arg, quantities, text) for arg in node.args))
    if isinstance(node, ast.Name):
        return quantities.get(node.id, Decimal(0))
    return Decimal(ast.get_source_segment(text, node) or "")
