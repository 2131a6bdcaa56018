"""Rating for the recount: a second implementation, sharing nothing with billing but the YAML.

It knows only what the demo's book uses (flat, per unit and graduated prices) and refuses the rest.
"""

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

_FLAT = {"key", "model", "amount", "every", "timing", "revenue", "product"}
_PER_UNIT = {"key", "model", "meter", "unit_price", "group_by", "every", "product"}
_GRADUATED = {"key", "model", "meter", "tiers", "group_by", "every", "product"}
_KNOWN_FIELDS = {"flat": _FLAT, "per_unit": _PER_UNIT, "graduated": _GRADUATED}


@dataclass(frozen=True, slots=True)
class Charge:
    """One price: steps of (above this quantity, unit price), or a flat amount without a meter."""

    key: str
    product: str
    meter: str | None
    flat: Decimal
    steps: tuple[tuple[Decimal, Decimal], ...]

    def cents(self, quantity: Decimal) -> int:
        """Return what a quantity costs, rounded once, half away from zero."""
        cost, charged = self.flat, Decimal(0)
        for start, price in reversed(self.steps):
            units = max(Decimal(0), quantity - start) - charged
            cost, charged = cost + units * price, charged + units
        return int((cost * 100).quantize(Decimal(1), ROUND_HALF_UP))


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
    names = (fields["key"], fields["product"])
    if fields["model"] == "flat":
        return Charge(*names, None, Decimal(fields["amount"]), ())
    steps = [(Decimal(0), Decimal(fields["unit_price"]))] if "unit_price" in fields else []
    start = Decimal(0)
    for tier in fields.get("tiers", []):
        steps.append((start, Decimal(tier["unit_price"])))
        start = Decimal(tier["up_to"] or "0")
    return Charge(*names, fields["meter"], Decimal(0), tuple(steps))
