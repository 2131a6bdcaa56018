"""Revenue before and after a change of prices, and how much of a change is too much."""

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from billing.money import display, round_half_away


@dataclass(slots=True)
class Sums:
    """What was, and what would have been."""

    before_minor: int = 0
    after_minor: int = 0

    @property
    def difference_minor(self) -> int:
        """How much more it would have been."""
        return self.after_minor - self.before_minor


@dataclass(slots=True)
class Comparison:
    """Revenue before and after, by customer and by charge of the book, each with its currency."""

    customers: dict[tuple[str, str], Sums] = field(default_factory=dict)
    charges: dict[tuple[str, str], Sums] = field(default_factory=dict)
    periods: int = 0

    def revenue(self) -> dict[str, Sums]:
        """Return what all customers come to, by currency."""
        totals: dict[str, Sums] = {}
        for (_, currency), sums in sorted(self.customers.items()):
            total = totals.setdefault(currency, Sums())
            total.before_minor += sums.before_minor
            total.after_minor += sums.after_minor
        return totals

    def merge(self, other: "Comparison") -> None:
        """Add what was found of other subscriptions."""
        self.periods += other.periods
        for mine, found in ((self.customers, other.customers), (self.charges, other.charges)):
            for key, sums in found.items():
                add_to(mine, key, sums.before_minor, sums.after_minor)


def add_to(
    into: dict[tuple[str, str], Sums], key: tuple[str, str], before: int, after: int
) -> None:
    """Add to the sums of a key."""
    sums = into.setdefault(key, Sums())
    sums.before_minor += before
    sums.after_minor += after


@dataclass(frozen=True, slots=True)
class Policy:
    """How much bills may rise and revenue may fall, in percent; None is by any amount."""

    bill_up_by: Decimal | None = None
    revenue_down_by: Decimal | None = None

    def faults(self, found: Comparison) -> list[str]:
        """Return each way in which a comparison is against it."""
        faults = []
        for (customer, currency), sums in sorted(found.customers.items()):
            if self.bill_up_by is not None and _reaches(sums, self.bill_up_by):
                faults.append(f"customer {customer}: {_words(sums, currency)}")
        for currency, sums in found.revenue().items():
            down = Sums(-sums.before_minor, -sums.after_minor)
            if self.revenue_down_by is not None and _reaches(down, self.revenue_down_by):
                faults.append(f"revenue in {currency}: {_words(sums, currency)}")
        return faults


def _reaches(sums: Sums, percent: Decimal) -> bool:
    """Return whether what was rises by a percentage or more; from nothing it does by any."""
    up = sums.difference_minor
    return up > 0 and Fraction(up * 100) >= Fraction(percent) * abs(sums.before_minor)


def percent_of(sums: Sums) -> str | None:
    """Return by how many percent it would have been more, to two decimals; None of nothing."""
    if not sums.before_minor:
        return None
    hundredths = round_half_away(Fraction(sums.difference_minor * 10_000, abs(sums.before_minor)))
    return f"{Decimal(hundredths).scaleb(-2):.2f}"


def _words(sums: Sums, currency: str) -> str:
    before, after = (display(minor, currency) for minor in (sums.before_minor, sums.after_minor))
    percent = percent_of(sums)
    by = "" if percent is None else f", {percent} %"
    return f"{before} to {after} {currency}{by}"
