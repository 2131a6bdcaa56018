"""Prices of quantities: by tiers passed, by the tier reached, and by whole packages."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from msgspec import Struct

from billing.money import EXACT, text_of

Step = dict[str, str]
"""One step of a trace; the `amount`s of all steps add up to the line's."""


def total_of(trace: Iterable[Step]) -> Decimal:
    """Return what the steps of a trace add up to, of however many digits."""
    total = Decimal(0)
    for step in trace:
        total = EXACT.add(total, Decimal(step["amount"]))
    return total


class Tier(Struct, frozen=True):
    """Units up to and including `up_to` (None: all further ones) cost `unit_price` each."""

    up_to: Decimal | None
    unit_price: Decimal
    flat_fee: Decimal = Decimal(0)


def graduated(
    tiers: Sequence[Tier], reached: Decimal, quantity: Decimal, *, begins: bool
) -> tuple[Decimal, list[Step]]:
    """Return the exact amount of a quantity on top of a position, and how it comes about.

    The first tier's flat fee falls due where the period `begins`, at quantity 0 too; another's when
    the position passes the tier's lower bound. A quantity below zero goes back through the tiers.
    """
    position = EXACT.add(reached, quantity)
    low, high = min(reached, position), max(reached, position)
    sign = 1 if quantity >= 0 else -1
    amount = Decimal(0)
    steps: list[Step] = []
    upper: Decimal | None = None
    for number, tier in enumerate(tiers, 1):
        lower, upper = upper, tier.up_to
        is_entered = begins if lower is None else reached <= lower < high and sign > 0
        if tier.flat_fee and is_entered:
            amount = EXACT.add(amount, tier.flat_fee)
            steps.append({"step": f"tier {number} flat fee", "amount": text_of(tier.flat_fee)})
        begin = low if lower is None else max(low, lower)
        end = high if upper is None else min(high, upper)
        if begin >= end:
            continue
        units = EXACT.multiply(EXACT.subtract(end, begin), Decimal(sign))
        part = EXACT.multiply(units, tier.unit_price)
        amount = EXACT.add(amount, part)
        steps.append(
            {
                "step": f"tier {number}" if len(tiers) > 1 else "units",
                "quantity": text_of(units),
                "unit_price": text_of(tier.unit_price),
                "amount": text_of(part),
            }
        )
    return amount, steps


def volume(tiers: Sequence[Tier], quantity: Decimal) -> tuple[Decimal, list[Step]]:
    """Return what a quantity costs at the price of the tier it ends in, with that tier's fee."""
    number, tier = _reached(tiers, quantity)
    steps: list[Step] = []
    if tier.flat_fee:
        steps.append({"step": f"tier {number} flat fee", "amount": text_of(tier.flat_fee)})
    part = EXACT.multiply(quantity, tier.unit_price)
    if quantity:
        steps.append(
            {
                "step": f"all in tier {number}",
                "quantity": text_of(quantity),
                "unit_price": text_of(tier.unit_price),
                "amount": text_of(part),
            }
        )
    return EXACT.add(tier.flat_fee, part), steps


def stairstep(tiers: Sequence[Tier], quantity: Decimal) -> tuple[Decimal, list[Step]]:
    """Return the one fee of the tier that a quantity ends in."""
    number, tier = _reached(tiers, quantity)
    step = {
        "step": f"tier {number}",
        "quantity": text_of(quantity),
        "amount": text_of(tier.flat_fee),
    }
    return tier.flat_fee, [step]


def packages(size: Decimal, price: Decimal, quantity: Decimal) -> tuple[Decimal, list[Step]]:
    """Return what a quantity costs in packages; a begun one counts whole, none is below zero."""
    count = max(EXACT.divide_int(quantity, size), Decimal(0))
    if EXACT.multiply(count, size) < quantity:
        count = EXACT.add(count, Decimal(1))
    amount = EXACT.multiply(count, price)
    if not count:
        return amount, []
    step = {
        "step": f"packages of {text_of(size)}",
        "quantity": text_of(count),
        "unit_price": text_of(price),
        "amount": text_of(amount),
    }
    return amount, [step]


def _reached(tiers: Sequence[Tier], quantity: Decimal) -> tuple[int, Tier]:
    for number, tier in enumerate(tiers, 1):
        if tier.up_to is None or quantity <= tier.up_to:
            return number, tier
    raise AssertionError("the last tier has no bound")
