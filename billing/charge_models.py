"""What each model of a charge needs and takes, and which of them price pieces one by one."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

Model = Literal[
    "flat", "per_seat", "one_time", "per_unit", "graduated", "volume", "stairstep", "package",
    "percentage", "matrix", "time_of_day", "dynamic", "formula", "commitment",
]  # fmt: skip

_USAGE = frozenset({"group_by", "filter", "shared", "when_zero", "on_change"})
_BOUNDS = frozenset({"minimum", "maximum", "prorate"})
_ALLOWANCE = frozenset({"included", "rollover", "prorate"})
_EVENT = frozenset({"per", "round_each"})


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model must be given, and what it may; charges of one family price alike."""

    family: str
    needs: frozenset[str]
    takes: frozenset[str] = frozenset()


def _usage(family: str, *needs: str, takes: Collection[str] = _ALLOWANCE) -> Shape:
    return Shape(family, frozenset({"meter", *needs}), _USAGE | _BOUNDS | frozenset(takes))


MODELS: dict[str, Shape] = {
    "flat": Shape("time", frozenset({"amount"}), frozenset({"timing", "on_change"})),
    "per_seat": Shape(
        "seats",
        frozenset({"quantity_from"}),
        frozenset({"unit_price", "tiers", "timing", "on_change"}),
    ),
    "one_time": Shape("once", frozenset({"amount"}), frozenset({"timing"})),
    "per_unit": _usage("units", "unit_price"),
    "graduated": _usage("units", "tiers"),
    "volume": _usage("volume", "tiers"),
    "stairstep": _usage("stairstep", "tiers"),
    "package": _usage("package", "package_size", "package_price"),
    "percentage": _usage(
        "percentage",
        "percent",
        takes={"fixed_fee", "event_minimum", "event_maximum"} | _EVENT | _ALLOWANCE,
    ),
    "matrix": _usage("matrix", "dimensions", "prices", "default", takes=()),
    "time_of_day": _usage("time_of_day", "rates", "default", takes=()),
    "dynamic": _usage("dynamic", takes={"markup"} | _EVENT),
    "formula": Shape(
        "formula",
        frozenset({"meters", "formula"}),
        frozenset({"unit_price", "tiers", "shared", "when_zero", "on_change"})
        | _BOUNDS
        | _ALLOWANCE,
    ),
    "commitment": Shape(
        "commitment",
        frozenset(),
        frozenset({"commitment", "charges", "overage", "maximum", "prorate"}),
    ),
}

ADDITIVE = frozenset(
    {"flat", "per_seat", "per_unit", "graduated", "percentage", "matrix", "time_of_day", "dynamic"}
)
"""Models whose price may change within a period: pieces are priced from the position reached."""

_ALWAYS = frozenset({"key", "model", "every", "product", "revenue", "tax_code", "description"})


def faults_of(model: str, given: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with the fields that a charge of a model is given."""
    shape = MODELS[model]
    for name in sorted(shape.needs):
        if name not in given:
            yield f"model {model} needs {name}"
    for name in sorted(given):
        if name not in shape.needs | shape.takes | _ALWAYS:
            if name == "timing":
                yield "usage cannot be billed in advance"
            yield f"model {model} takes no {name}"
