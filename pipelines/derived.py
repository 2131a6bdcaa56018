"""What the expressions of meters give for a table of events: texts, numbers and truths.

Each expression is evaluated once per table, by column where it is in the subset, else by event.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from pipelines import values
from pipelines.cel_events import compile_slow
from pipelines.expression import Expression, Member, parse
from pipelines.expression_columns import OTHER, Events, Vector, evaluate
from pipelines.expression_text import MissingMember
from pipelines.extract import Column
from pipelines.values import Codes

Faults = dict[int, str]
"""Why rows have no value."""

_EVENT = ("id", "source", "type", "subject", "time")


@dataclass(slots=True)
class Derived:
    """The values of expressions over a table of events; `columns` gives what their paths hold."""

    table: Any
    columns: Callable[[], Mapping[str, Column]]
    _vectors: dict[str, Vector] = field(default_factory=dict)
    _events: list[dict[str, Any]] | None = None

    def truths(self, text: str) -> tuple[Any, Faults]:
        """Return per row whether a filter is true; at rows with a fault it counts as true.

        An event without a member that decides is left out: that is no fault.
        """
        vector = self._vector(parse(text, "filter"))
        faults = dict(vector.faults)
        if vector.family == "truth" and not faults:
            return np.array(vector.values, bool), faults
        for row, value in enumerate(vector.values):
            if row not in faults and not isinstance(value, bool):
                faults[row] = f"the filter gives {_shown(value)}, not true or false"
        missing = {row for row, why in faults.items() if isinstance(why, MissingMember)}
        truths = [
            row not in missing and (row in faults or value)
            for row, value in enumerate(vector.values)
        ]
        kept = {row: why for row, why in faults.items() if row not in missing}
        return np.array(truths, bool), kept

    def numbers(self, text: str) -> tuple[Any, Faults]:
        """Return the values as `VALUE_TYPE`; those of rows with a fault are zero."""
        expression = parse(text, "value")
        if isinstance(expression.tree, Member) and expression.tree.path in self.columns():
            return values.numbers(self.columns()[expression.tree.path])
        vector = self._vector(expression)
        if set(map(type, vector.values)) == {int} and not vector.faults:
            return values.numbers(Column("number", list(vector.values)))
        raws = [
            None if row in vector.faults else _json_of(value)
            for row, value in enumerate(vector.values)
        ]
        exact, faults = values.numbers(Column("raw", raws))
        return exact, faults | vector.faults

    def texts(self, text: str) -> tuple[Codes, Faults]:
        """Return the values as texts; those of rows with a fault are empty."""
        vector = self._vector(parse(text, "text"))
        found: Sequence[str] = vector.values
        faults = dict(vector.faults)
        if vector.family != "text" or faults:
            for row, value in enumerate(vector.values):
                if row not in faults and value is OTHER:
                    faults[row] = "it gives a list or an object"
            found = [
                "" if row in faults else _text_of(value) for row, value in enumerate(vector.values)
            ]
        encoded = pa.array(found, pa.string()).dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64)
        return Codes(codes, encoded.dictionary.to_pylist()), faults

    def _vector(self, expression: Expression) -> Vector:
        if expression.text not in self._vectors:
            self._vectors[expression.text] = self._evaluated(expression)
        return self._vectors[expression.text]

    def _evaluated(self, expression: Expression) -> Vector:
        if expression.tree is not None:
            events = Events(
                self.table.num_rows,
                self.columns(),
                lambda name: self.table.column(name).to_pylist(),
            )
            return evaluate(expression.tree, events)
        if self._events is None:
            self._events = self.table.select(_EVENT).to_pylist()
        slow = compile_slow(expression.text)
        found, reasons = slow.values(self.table.column("data").to_pylist(), self._events)
        return Vector(found, "", reasons)


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def _json_of(value: Any) -> bytes:
    """Return a value as the JSON text that would stand for it."""
    if value is OTHER:
        return b"{}"
    if isinstance(value, str):
        return msgspec.json.encode(value)
    return _text_of(value).encode()


def _shown(value: Any) -> str:
    return "a list or an object" if value is OTHER else _text_of(value)[:40]
