"""The contract of a meter: which events count, which value, which aggregation, which dimensions.

A definition is immutable; a change is a new version. One schema serves YAML, the API and storage.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipelines.expression import Expression, Role, parse
from pipelines.expression_text import LENGTH_MAX, ExpressionError

Aggregation = Literal[
    "count", "sum", "avg", "min", "max", "unique_count", "percentile", "latest", "weighted_sum"
]
"""See `pipelines.aggregation` for what each keeps and answers."""

VALUE_SCALE = 12
"""Values have at most 12 decimals and 18 digits before the point; others are rejected."""
VALUE_DIGITS_MAX = 18

WINDOWS = {
    "1m": timedelta(minutes=1),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
"""Each is made of whole windows of those before it."""
TYPES_MAX = 16

_PATH = re.compile(r"\$(\.[A-Za-z_][A-Za-z0-9_]*)+")
_PATH_LENGTH_MAX = 256
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
_ASKED_OTHERWISE = frozenset({"subject", "customer"})
"""`group_by` has these for what every event has; a dimension of that name could not be asked."""


def _checked(role: Role, text: str) -> str:
    try:
        if text.startswith("$"):
            _check_path(text, role)
        else:
            parse(text, role)
    except ExpressionError as error:
        places = {"line": error.line, "column": error.column, "caret": error.caret}
        reason = error.reason.replace("{", "{{").replace("}", "}}")
        raise PydanticCustomError("expression", reason, places) from error
    return text


def _check_path(text: str, role: Role) -> None:
    if role == "filter":
        reason = "a filter is an expression, such as data.cached == false"
        raise ExpressionError(reason, text, 0)
    if len(text) > _PATH_LENGTH_MAX:
        reason = f"a path has at most {_PATH_LENGTH_MAX} characters"
        raise ExpressionError(reason, text, _PATH_LENGTH_MAX)
    path = _PATH.match(text)
    if path is None or path.end() < len(text):
        reason = "not a JSON path like $.a.b"
        raise ExpressionError(reason, text, 1 if path is None else path.end())


_Text = Annotated[str, Field(max_length=LENGTH_MAX)]
Filter = Annotated[_Text, AfterValidator(partial(_checked, "filter"))]
Value = Annotated[_Text, AfterValidator(partial(_checked, "text"))]
"""A JSON path, `$.a.b`, or an expression."""
EventType = Annotated[str, Field(min_length=1, max_length=256)]


class MeterDefinition(BaseModel):
    """One version of a meter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(pattern=_NAME.pattern)
    event_type: EventType | None = None
    """The CloudEvents type that counts; or several, as `event_types`."""
    event_types: tuple[EventType, ...] = Field(default=(), max_length=TYPES_MAX)
    aggregation: Aggregation
    value: Value | None = None
    """JSON path of the value in `data`, or an expression; absent for count."""
    percentile: Decimal | None = Field(default=None, gt=0, le=100, max_digits=6, decimal_places=3)
    """Which one, for percentile: 95 is the value that 95 % of the events do not exceed."""
    per: Literal["second", "hour"] | None = None
    """For weighted_sum: a gauge of 3 over two hours is 6 per hour, and 21,600 per second."""
    dimensions: Mapping[str, Value] = Field(default_factory=dict, max_length=8)
    """By name, a JSON path or an expression."""
    filter: Filter | None = None
    """Only events for which this expression is true count."""
    window: Literal["1m", "15m", "1h", "1d"] = "15m"
    unit: str = Field(default="", max_length=64)
    display_name: str = Field(default="", max_length=256)

    @field_validator("value")
    @classmethod
    def _is_number(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("aggregation") != "unique_count":
            _checked("value", value)
        return value

    @field_validator("dimensions")
    @classmethod
    def _are_named(cls, dimensions: Mapping[str, str]) -> Mapping[str, str]:
        for name in dimensions:
            if not _NAME.match(name):
                raise ValueError(f"not a dimension name (a-z, 0-9, _): {name}")
            if name in _ASKED_OTHERWISE:
                raise ValueError(f"not a dimension name: {name} means the event's own in answers")
        return dict(sorted(dimensions.items()))

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, given: Any) -> Any:
        """Give one list of one type, and several types in any order, one form."""
        if not isinstance(given, dict) or not isinstance(given.get("event_types"), list | tuple):
            return given
        types = [one for one in given["event_types"] if isinstance(one, str)]
        if len(types) != len(given["event_types"]) or not types:
            return given
        rest = {name: value for name, value in given.items() if name != "event_types"}
        if given.get("event_type") is not None:
            return given
        if len(set(types)) == 1:
            return rest | {"event_type": types[0]}
        return rest | {"event_types": sorted(set(types))}

    @model_validator(mode="after")
    def _has_its_value(self) -> "MeterDefinition":
        if (self.event_type is None) != bool(self.event_types):
            raise ValueError("a meter has an event_type, or else event_types")
        if (self.aggregation == "count") != (self.value is None):
            needs = "takes no value" if self.aggregation == "count" else "needs a value"
            raise ValueError(f"a meter that aggregates by {self.aggregation} {needs}")
        if (self.aggregation == "percentile") != (self.percentile is not None):
            raise ValueError('a percentile meter, and no other, says which: percentile: "95"')
        if (self.aggregation == "weighted_sum") != (self.per is not None):
            raise ValueError("a weighted_sum meter, and no other, says per: second or per: hour")
        return self

    @property
    def window_size(self) -> timedelta:
        """The length of a window; windows start at multiples of it since 1970 in UTC."""
        return WINDOWS[self.window]

    @property
    def is_additive(self) -> bool:
        """True where quantities of adjacent intervals add up."""
        return self.aggregation in ("count", "sum", "weighted_sum")

    @property
    def keeps_items(self) -> bool:
        """True where a window has a row per counted value or sample."""
        return self.aggregation not in ("count", "sum", "avg")

    @property
    def keeps_samples(self) -> bool:
        """True where an item is one event: its time and identity, with the value beside them."""
        return self.aggregation in ("latest", "weighted_sum")

    @property
    def is_carried(self) -> bool:
        """True where a value lasts until the next one, whichever window that lies in."""
        return self.aggregation == "weighted_sum"

    @property
    def rule(self) -> str:
        """The aggregation as tables name it, such as `percentile(95)` or `weighted_sum(hour)`."""
        if self.percentile is not None:
            return f"{self.aggregation}({self.percentile.normalize():f})"
        return f"{self.aggregation}({self.per})" if self.per is not None else self.aggregation

    @property
    def types(self) -> tuple[str, ...]:
        """The CloudEvents types that count, sorted."""
        return self.event_types if self.event_type is None else (self.event_type,)

    @property
    def is_slow(self) -> bool:
        """True where an expression is evaluated event by event, not by column."""
        return any(expression.is_slow for expression in self.expressions)

    @property
    def expressions(self) -> list[Expression]:
        """The expressions among filter, value and dimensions; JSON paths are none."""
        given: list[tuple[str | None, Role]] = [(self.filter, "filter")]
        given.append((self.value, "text" if self.aggregation == "unique_count" else "value"))
        given += [(text, "text") for text in self.dimensions.values()]
        return [parse(text, role) for text, role in given if text and not is_path(text)]


def is_path(text: str) -> bool:
    """Tell a JSON path from an expression."""
    return text.startswith("$")


def path_names(path: str) -> list[str]:
    """Return the member names of a JSON path: `$.a.b` gives `["a", "b"]`."""
    return path.split(".")[1:]


def to_row(definition: MeterDefinition) -> dict[str, Any]:
    """Return the definition as JSON-ready fields, those that are absent left out."""
    fields = definition.model_dump(mode="json", exclude_none=True)
    return {name: value for name, value in fields.items() if value not in ("", [], {})}
