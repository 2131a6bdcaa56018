"""Rating for the recount: a second implementation, sharing nothing with billing but the YAML.

It knows only what the demo's book uses, and refuses the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from math import ceil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

_EVERY = {"key", "model", "every", "product"}
_KNOWN_FIELDS = {
    "flat": _EVERY | {"amount", "timing", "revenue"},
    "per_unit": _EVERY | {"meter", "unit_price", "group_by"},
    "graduated": _EVERY | {"meter", "tiers", "group_by"},
    "volume": _EVERY | {"meter", "tiers"},
    "package": _EVERY | {"meter", "package_size", "package_price"},
    "matrix": _EVERY | {"meter", "dimensions", "prices", "default"},
}


@dataclass(frozen=True, slots=True)
class Charge:
    """What a quantity at an origin costs; without a meter, what a month does."""

    key: str
    product: str
    meter: str | None
    cost: Callable[[Decimal, str], Decimal]

    def cents(self, quantity: Decimal, origin: str = "") -> int:
        """Return what a quantity costs, rounded once, half away from zero."""
        return int((self.cost(quantity, origin) * 100).quantize(Decimal(1), ROUND_HALF_UP))


@dataclass(frozen=True, slots=True)
class Version:
    """The charges in force from a date on."""

    number: int
    effective_on: date
    charges: tuple[Charge, ...]


def read_versions(path: Path) -> list[Version]:
    """Return the versions of the one price book in a YAML file, oldest first."""
    (book,) = YAML(typ="safe").load(path)["price_books"]
    versions = [
        Version(v["version"], v["effective_from"], tuple(_charge(c) for c in v["charges"]))
        for v in book["versions"]
    ]
    return sorted(versions, key=lambda version: version.effective_on)


def version_on(versions: list[Version], day: date) -> Version:
    """Return the version in force on a day."""
    return [version for version in versions if version.effective_on <= day][-1]


def _charge(fields: dict[str, Any]) -> Charge:
    unknown = set(fields) - _KNOWN_FIELDS[fields["model"]]
    if unknown:
        raise ValueError(f"the recount cannot rate charge {fields['key']}: {sorted(unknown)}")
    return Charge(fields["key"], fields["product"], fields.get("meter"), _cost(fields))


def _cost(fields: dict[str, Any]) -> Callable[[Decimal, str], Decimal]:
    model = fields["model"]
    if model == "flat":
        amount = Decimal(fields["amount"])
        return lambda _, __: amount
    if model == "per_unit":
        each = Decimal(fields["unit_price"])
        return lambda quantity, _: quantity * each
    if model == "package":
        size, price = Decimal(fields["package_size"]), Decimal(fields["package_price"])
        return lambda quantity, _: ceil(quantity / size) * price
    if model == "matrix":
        default = Decimal(fields["default"])
        own = {one["when"]["origin"]: Decimal(one["unit_price"]) for one in fields["prices"]}
        return lambda quantity, origin: quantity * own.get(origin, default)
    tiers = [
        (Decimal(tier["up_to"] or "Infinity"), Decimal(tier["unit_price"]))
        for tier in fields["tiers"]
    ]
    if model == "volume":
        return lambda quantity, _: quantity * next(p for end, p in tiers if quantity <= end)
    starts = [Decimal(0), *(end for end, _ in tiers)]
    steps = [(start, price) for start, (_, price) in zip(starts, tiers, strict=False)]
    return lambda quantity, _: _graduated(steps, quantity)


def _graduated(steps: list[tuple[Decimal, Decimal]], quantity: Decimal) -> Decimal:
    cost, charged = Decimal(0), Decimal(0)
    for start, price in reversed(steps):
        units = max(Decimal(0), quantity - start) - charged
        cost, charged = cost + units * price, charged + units
    return cost
