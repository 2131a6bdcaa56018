"""Units that cost nothing: what is included, what was left of it before, and coupons of units."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from billing.charge import Rollover
from billing.money import EXACT, text_of

ROLLOVER = "rollover"


@dataclass(slots=True)
class Allowance:
    """What is free in one period of a charge; `carried` is oldest first."""

    rollover: Rollover | None
    carried: list[tuple[Decimal, int]]
    """(units left, over how many periods they have been carried)"""
    left: Decimal = Decimal(0)
    """Of what this period included."""

    @classmethod
    def from_state(cls, rollover: Rollover | None, state: Mapping[str, str]) -> "Allowance":
        """Read what earlier periods left."""
        carried = []
        for text in state.get(ROLLOVER, "").split():
            units, _, age = text.partition(":")
            carried.append((Decimal(units), int(age)))
        return cls(rollover, carried if rollover is not None else [])

    @property
    def is_used_up(self) -> bool:
        """True where nothing is free any more."""
        return not self.left and not self.carried

    def include(self, units: Decimal) -> None:
        """Add what a period, or a part of one, includes."""
        self.left = EXACT.add(self.left, units)

    def take(self, wanted: Decimal) -> Decimal:
        """Use up to so many units, what was carried longest first; returns how many are free."""
        free = Decimal(0)
        kept = []
        for units, age in self.carried:
            used = min(units, max(EXACT.subtract(wanted, free), Decimal(0)))
            free = EXACT.add(free, used)
            if units > used:
                kept.append((EXACT.subtract(units, used), age))
        self.carried = kept
        used = min(self.left, max(EXACT.subtract(wanted, free), Decimal(0)))
        self.left = EXACT.subtract(self.left, used)
        return EXACT.add(free, used)

    def to_state(self) -> dict[str, str]:
        """Return what goes on to the next period; the oldest is dropped where it is too much."""
        if self.rollover is None:
            return {}
        most = self.rollover.periods
        kept = [(u, age + 1) for u, age in self.carried if most is None or age + 1 <= most]
        if self.left > 0:
            kept.append((self.left, 1))
        if self.rollover.up_to is not None:
            kept = _latest(kept, self.rollover.up_to)
        text = " ".join(f"{text_of(units)}:{age}" for units, age in kept)
        return {ROLLOVER: text} if text else {}


def _latest(kept: list[tuple[Decimal, int]], most: Decimal) -> list[tuple[Decimal, int]]:
    """Return so many of the units that were kept last."""
    found: list[tuple[Decimal, int]] = []
    for units, age in reversed(kept):
        part = min(units, most)
        most = EXACT.subtract(most, part)
        if part:
            found.insert(0, (part, age))
    return found
