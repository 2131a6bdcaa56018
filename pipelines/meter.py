"""The contract of a meter: which events count, which value, which aggregation, which dimensions.

A definition is immutable; a change is a new version. One schema serves YAML, the API and storage.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Aggregation = Literal[
    "count", "sum", "avg", "min", "max", "unique_count", "percentile", "latest", "weighted_sum"
]
"""See `pipelines.aggregation` for what each keeps and answers."""

VALUE_SCALE = 12
"""Values have at most 12 decimals and 18 digits before the point; others are rejected."""
VALUE_DIGITS_MAX = 18

WINDOWS = {"1m": timedelta(minutes=1), "15m": timedelta(minutes=15), "1h": timedelta(hours=1)}

_PATH = re.compile(r"^\$(\.[A-Za-z_][A-Za-z0-9_]*)+$")
_FILTER = re.compile(
    r"^data((?:\.[A-Za-z_][A-Za-z0-9_]*)+)\s*==\s*"
    r"(\"(?:[^\"\\]|\\.)*\"|'[^'\\]*'|true|false|-?\d+(?:\.\d+)?)$"
)

JsonPath = Annotated[str, Field(max_length=256)]


class MeterDefinition(BaseModel):
    """One version of a meter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    event_type: str = Field(min_length=1, max_length=256)
    aggregation: Aggregation
    value: JsonPath | None = None
    """JSON path of the value in `data`; absent for count."""
    percentile: Decimal | None = Field(default=None, gt=0, le=100, max_digits=6, decimal_places=3)
    """Which one, for percentile: 95 is the value that 95 % of the events do not exceed."""
    per: Literal["second", "hour"] | None = None
    """For weighted_sum: a gauge of 3 over two hours is 6 per hour, and 21,600 per second."""
    dimensions: Mapping[str, JsonPath] = Field(default_factory=dict, max_length=8)
    filter: str | None = None
    """`data.<path> == <literal>`: only such events count."""
    window: Literal["1m", "15m", "1h"] = "15m"
    unit: str = ""
    display_name: str = ""

    @field_validator("value")
    @classmethod
    def _is_path(cls, value: str | None) -> str | None:
        if value is not None and not _PATH.match(value):
            raise ValueError(f"not a JSON path like $.a.b: {value}")
        return value

    @field_validator("dimensions")
    @classmethod
    def _are_paths(cls, dimensions: Mapping[str, str]) -> Mapping[str, str]:
        for name, path in dimensions.items():
            if not re.match(r"^[a-z][a-z0-9_]{0,62}$", name):
                raise ValueError(f"not a dimension name (a-z, 0-9, _): {name}")
            if not _PATH.match(path):
                raise ValueError(f"not a JSON path like $.a.b: {path}")
        return dict(sorted(dimensions.items()))

    @field_validator("filter")
    @classmethod
    def _is_filter(cls, text: str | None) -> str | None:
        if text is not None and not _FILTER.match(text):
            raise ValueError(f"not a filter like data.cached == false: {text}")
        return text

    @model_validator(mode="after")
    def _has_its_value(self) -> "MeterDefinition":
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
    def rule(self) -> str:
        """The aggregation as tables name it, such as `percentile(95)` or `weighted_sum(hour)`."""
        if self.percentile is not None:
            return f"{self.aggregation}({self.percentile.normalize():f})"
        return f"{self.aggregation}({self.per})" if self.per is not None else self.aggregation

    @property
    def filter_parts(self) -> tuple[str, str] | None:
        """The filter's JSON path and the JSON text of its literal, or None without a filter."""
        if self.filter is None:
            return None
        match = _FILTER.match(self.filter)
        assert match is not None  # noqa: S101 - held by the validator
        literal = match.group(2)
        return f"${match.group(1)}", f'"{literal[1:-1]}"' if literal[0] == "'" else literal


def path_names(path: str) -> list[str]:
    """Return the member names of a JSON path: `$.a.b` gives `["a", "b"]`."""
    return path.split(".")[1:]


def to_row(definition: MeterDefinition) -> dict[str, Any]:
    """Return the definition as JSON-ready fields, defaults included."""
    return definition.model_dump(mode="json")
