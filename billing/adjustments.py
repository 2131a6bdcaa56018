"""What holds for a whole charge after its lines are priced: bounds, discounts, rounding.

In the order of money.md section 4. Where something is for all lines of a charge together it is
split over them by what they cost, so that they add up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from math import floor

from billing.charge import price_in
from billing.discount import Discount
from billing.money import EXACT, Rounding, minor_digits, share, text_of, to_major, to_minor
from billing.tiers import Step

_PERCENT = Decimal(100)


@dataclass(slots=True)
class Amount:
    """What a line costs so far, exactly, and how that came about."""

    value: Decimal
    steps: list[Step] = field(default_factory=list)

    def add(self, name: str, part: Decimal) -> None:
        """Add a step; none where it changes nothing."""
        if part:
            self.value = EXACT.add(self.value, part)
            self.steps.append({"step": name, "amount": text_of(part)})


def bound(amounts: Sequence[Amount], minimum: Decimal | None, maximum: Decimal | None) -> None:
    """Raise or lower what the lines of a charge cost together to its minimum or maximum."""
    total = _total(amounts)
    if minimum is not None and total < minimum:
        _spread(amounts, f"minimum of {text_of(minimum)}", EXACT.subtract(minimum, total))
    elif maximum is not None and total > maximum:
        _spread(amounts, f"maximum of {text_of(maximum)}", EXACT.subtract(maximum, total))


def take_off(amounts: Sequence[Amount], discounts: Sequence[Discount], currency: str) -> None:
    """Take discounts off the lines of a charge, one after the other; never below nothing."""
    for discount in discounts:
        if discount.percent is not None:
            for one in amounts:
                name = f"discount {discount.key}: {text_of(discount.percent)} %"
                off = EXACT.divide(EXACT.multiply(one.value, discount.percent), _PERCENT)
                one.add(name, EXACT.minus(off))
        elif discount.amount is not None:
            off = min(price_in(discount.amount, currency), max(_total(amounts), Decimal(0)))
            _spread(amounts, f"discount {discount.key}", EXACT.minus(off))


def round_all(
    amounts: Sequence[Amount], currency: str, rounding: Rounding, *, together: bool
) -> list[int]:
    """Return what each line costs in minor units; the steps then add up to that.

    Each line is rounded once by itself; `together`, their sum is, and split by largest remainder.
    """
    if together and len(amounts) > 1:
        minors = _rounded_together(amounts, currency, rounding)
    else:
        minors = [to_minor(one.value, currency, rounding) for one in amounts]
    for one, minor in zip(amounts, minors, strict=True):
        major = to_major(minor, currency)
        if major != one.value:
            rest = EXACT.subtract(major, one.value)
            one.add(f"rounding to {minor_digits(currency)} decimals", rest)
    return minors


def _rounded_together(amounts: Sequence[Amount], currency: str, rounding: Rounding) -> list[int]:
    total = to_minor(_total(amounts), currency, rounding)
    scaled = [Fraction(one.value) * 10 ** minor_digits(currency) for one in amounts]
    minors = [floor(value) for value in scaled]
    by_remainder = sorted(range(len(scaled)), key=lambda at: (minors[at] - scaled[at], at))
    for at in by_remainder[: total - sum(minors)]:
        minors[at] += 1
    return minors


def applying(
    discounts: Sequence[Discount], used: Mapping[str, str], starts_on: date, charge: str
) -> list[Discount]:
    """Return which discounts count for a period of a charge that starts on a day."""
    return [
        discount
        for discount in discounts
        if (not discount.charges or charge in discount.charges)
        and (discount.start is None or discount.start <= starts_on)
        and (discount.end is None or starts_on < discount.end)
        and (
            discount.periods_max is None
            or int(used.get(f"discount:{discount.key}", "0")) < discount.periods_max
        )
    ]


def counted(discounts: Sequence[Discount], used: Mapping[str, str]) -> dict[str, str]:
    """Return for how many periods limited discounts have counted, after one more."""
    now = {key: value for key, value in used.items() if key.startswith("discount:")}
    for discount in discounts:
        if discount.periods_max is not None:
            key = f"discount:{discount.key}"
            now[key] = str(int(used.get(key, "0")) + 1)
    return now


def _total(amounts: Sequence[Amount]) -> Decimal:
    total = Decimal(0)
    for one in amounts:
        total = EXACT.add(total, one.value)
    return total


def _spread(amounts: Sequence[Amount], name: str, extra: Decimal) -> None:
    """Add an amount to lines by what they cost; what cannot be divided goes to the first."""
    total = _total(amounts)
    if len(amounts) == 1 or not total or any(one.value < 0 for one in amounts):
        amounts[0].add(name, extra)
        return
    left = extra
    for one in amounts[:0:-1]:
        part = share(extra, one.value, total)
        one.add(name, part)
        left = EXACT.subtract(left, part)
    amounts[0].add(name, left)
