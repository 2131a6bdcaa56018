"""Lounges: one airline upgrades in the middle of a month that is billed, another tries first.

The recount of their fees counts days by code of its own, from nothing but the prices and the dates
below.
"""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path

from ruamel.yaml import YAML

from tollbook.demo.flights import YEAR, period
from tollbook.demo.recount import Bill, LineKey

UPGRADES, TRIES = "UA", "VX"
UPGRADE_DAY = 16
MORE_DESKS = (5, 11)
"""The month and day from which the airline that upgrades has five desks, not three."""

SUBSCRIPTIONS = f"""
- {{key: "{UPGRADES}-lounge", customer: "{UPGRADES}", start: {YEAR}-01-01,
   items: [{{key: lounge, price_book: lounge,
            quantities: {{desks: [{{quantity: "3"}}, {{from: {YEAR}-05-11, quantity: "5"}}]}}}}]}}
- {{key: "{TRIES}-lounge", customer: "{TRIES}", start: {YEAR}-01-18, trial: {{days: 14}},
   items: [{{key: lounge, price_book: lounge, quantities: {{desks: "1"}}}}]}}
"""
"""The trial ends with January."""

Prices = dict[tuple[str, str], Decimal]
"""A month's price by book and charge."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Days of a month `[first, last)`, counted from 0, of one price."""

    charge: str
    first: int
    last: int
    quantity: int
    monthly: int
    days: int

    @property
    def cents(self) -> int:
        """What is earned up to its end, less what is earned up to its start."""
        return self._earned(self.last) - self._earned(self.first)

    def _earned(self, day: int) -> int:
        share = Decimal(self.monthly * day) / self.days
        return int(share.quantize(Decimal(1), ROUND_HALF_UP))


def upgrade_month(months: int) -> int | None:
    """Return the month in which the upgrade counts: it becomes known once that is billed."""
    month = max(1, 2 * months // 3)
    return month if month < months else None


def upgrade_command(month: int) -> list[str]:
    """Return the command that upgrades."""
    words = ["subscription", "change", f"{UPGRADES}-lounge", "--item", "lounge"]
    return [*words, "--to-book", "lounge_plus", "--at", f"{period(month)}-{UPGRADE_DAY}"]


def read_prices(path: Path) -> tuple[Prices, dict[str, str]]:
    """Return the prices of the books in a YAML file, and the product of each charge."""
    charges = [
        (book["key"], charge)
        for book in YAML(typ="safe").load(path)["price_books"]
        for charge in book["versions"][0]["charges"]
    ]
    prices = {
        (book, charge["key"]): Decimal(charge.get("amount") or charge["unit_price"])
        for book, charge in charges
    }
    return prices, {charge["key"]: charge["product"] for _, charge in charges}


def lounge_lines(prices: Prices, months: int) -> dict[LineKey, Bill]:
    """Return every line of lounges and desks that so many monthly closes must issue."""
    upgraded = upgrade_month(months)
    lines: dict[LineKey, Bill] = {}
    for month in range(1, months + 1):
        known = upgraded is not None and month > upgraded
        for part in _of_upgrader(prices, month, upgraded if known else None):
            kind = "proration_charge" if part.first else "advance"
            key = LineKey(UPGRADES, part.charge, "", month, month, kind)
            lines[key] = Bill(Decimal(part.quantity), part.cents)
        if month > 1:
            days = monthrange(YEAR, month)[1]
            for charge in ("lounge", "desks"):
                cents = int(prices["lounge", charge] * 100)
                part = _Part(charge, 0, days, 1, cents, days)
                key = LineKey(TRIES, charge, "", month, month, "advance")
                lines[key] = Bill(Decimal(1), part.cents)
    if upgraded is not None:
        lines |= _of_upgrade(prices, upgraded)
    return lines


def _of_upgrade(prices: Prices, month: int) -> dict[LineKey, Bill]:
    """Return what the next close credits and charges for the month of the upgrade."""
    before = {(p.charge, p.first): p for p in _of_upgrader(prices, month, None)}
    lines = {}
    for part in _of_upgrader(prices, month, month):
        was = before.get((part.charge, part.first))
        if was is None:
            key = LineKey(UPGRADES, part.charge, "", month, month + 1, "proration_charge")
            lines[key] = Bill(Decimal(part.quantity), part.cents)
        elif was.cents != part.cents:
            key = LineKey(UPGRADES, part.charge, "", month, month + 1, "proration_credit")
            lines[key] = Bill(Decimal(0), part.cents - was.cents)
    return lines


def _of_upgrader(prices: Prices, month: int, upgraded: int | None) -> Iterator[_Part]:
    """Yield the parts of a month, where an upgrade is known or not."""
    days = monthrange(YEAR, month)[1]
    cuts = {0, days}
    if month == upgraded:
        cuts.add(UPGRADE_DAY - 1)
    for charge in ("lounge", "desks"):
        more = charge == "desks" and month == MORE_DESKS[0]
        marks = sorted(cuts | ({MORE_DESKS[1] - 1} if more else set()))
        for first, last in pairwise(marks):
            on = (month, first + 1)
            plus = upgraded is not None and on >= (upgraded, UPGRADE_DAY)
            quantity = 1 if charge == "lounge" else 5 if on >= MORE_DESKS else 3
            price = prices["lounge_plus" if plus else "lounge", charge]
            yield _Part(charge, first, last, quantity, int(price * 100) * quantity, days)
