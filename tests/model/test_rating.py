"""A naive model of prices, in fractions, against rating over random histories of a charge."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from billing.charge import Charge
from billing.charge_period import ChargePeriod, Piece
from billing.discount import Discount
from billing.period import Period, add_months
from billing.rating import PeriodInputs, State, Target, rate

DIGITS = {"USD": 2, "JPY": 0, "KWD": 3}
bounds = st.lists(st.integers(1, 60), min_size=0, max_size=4, unique=True).map(sorted)
units = st.decimals(0, 80, places=2)
prices = st.decimals(0, 20, places=4)


def noon(on: date) -> datetime:
    return datetime(on.year, on.month, on.day, 12, tzinfo=UTC)


def rated(
    charges: list[Charge], days: list[date], quantities: list[Any], state: State, **more: Any
) -> tuple[list[Target], State]:
    """Rate a month that is cut into pieces, each of a charge of its own."""
    month = days[0].replace(day=1)
    ends = zip(charges, pairwise(days), strict=True)
    pieces = tuple(
        Piece(a, b, noon(a), noon(b), n, c, (a - month).days, (b - month).days)
        for n, (c, (a, b)) in enumerate(ends)
    )
    whole = Period(days[0], days[-1], noon(days[0]), noon(days[-1]), month, add_months(month, 1))
    more, length = {"currency": "USD", **more}, (whole.whole_until - month).days
    names: dict[str, Any] = {
        name: name for name in ("customer", "subscription", "item", "price_book")
    }
    billed = ChargePeriod(
        **names, charge="a", timing="arrears", rank=0, period=whole, whole=length, unit="day",
        pieces=pieces, **more,
    )  # fmt: skip
    return rate(PeriodInputs(billed, "", tuple(quantities)), state)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, str | None]]:
    ends = [*map(str, draw(bounds)), None]
    return [
        {"up_to": e, "unit_price": str(draw(prices)), "flat_fee": str(draw(prices))} for e in ends
    ]


@st.composite
def charges(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what a charge says, as in a book."""
    model = draw(st.sampled_from(["per_unit", "graduated", "volume", "stairstep", "package"]))
    low, high = sorted((draw(prices), draw(prices)))
    found: dict[str, Any] = {"key": "a", "model": model, "meter": "m"}
    if model == "per_unit":
        found["unit_price"] = str(draw(prices))
    elif model == "package":
        found |= {"package_size": str(draw(st.integers(1, 9))), "package_price": str(draw(prices))}
    else:
        found["tiers"] = draw(tables())
        for tier in found["tiers"] if model == "stairstep" else ():
            del tier["unit_price"]
    may = {
        "included": st.integers(1, 40).map(str),
        "minimum": st.just(str(low)),
        "maximum": st.just(str(high)),
        "when_zero": st.just("skip"),
        "prorate": st.just(False),
    }
    found |= {name: draw(value) for name, value in may.items() if draw(st.booleans())}
    if "included" in found and draw(st.booleans()):
        periods, most = st.none() | st.integers(1, 3), st.none() | st.integers(0, 30).map(str)
        found["rollover"] = {"periods": draw(periods), "up_to": draw(most)}
    return found


lasting = st.sampled_from(["once", "forever"]) | st.integers(1, 3)
reductions = st.tuples(st.sampled_from(["percent", "amount", "units"]), st.integers(1, 30), lasting)


@dataclass
class Naive:
    """What money.md says, said again: one month after the other, nothing kept but lots."""

    says: dict[str, Any]
    discounts: list[tuple[str, int, str | int]]
    months: int = 0
    lots: list[tuple[int, Fraction]] = field(default_factory=list)

    def month(self, used: Fraction, share: Fraction) -> Fraction:
        """Return what a month costs, before it is rounded."""
        says, billable = self.says, used
        share = share if says.get("prorate", True) else Fraction(1)
        lasting = {"once": 1, "forever": self.months + 1}
        now = [d for d in self.discounts if self.months < int(lasting.get(str(d[2]), d[2]))]
        billable -= min(billable, Fraction(sum(d[1] for d in now if d[0] == "units")))
        lots = [*self.lots, (self.months, Fraction(says.get("included", 0)) * share)]
        self.lots, self.months = [], self.months + 1
        for since, left in lots:
            free = min(left, billable)
            billable -= free
            self.lots.append((since, left - free))
        self._carry()
        if used == 0 and says.get("when_zero") == "skip":
            return Fraction(0)
        cost = self._price(billable)
        if "minimum" in says and cost < Fraction(says["minimum"]) * share:
            cost = Fraction(says["minimum"]) * share
        elif "maximum" in says:
            cost = min(cost, Fraction(says["maximum"]) * share)
        for kind, value, _ in now:
            cost -= cost * value / 100 if kind == "percent" else 0
            cost -= min(cost, Fraction(value)) if kind == "amount" else 0
        return cost

    def _carry(self) -> None:
        rule = self.says.get("rollover", {"periods": 0})
        periods, most = rule["periods"], rule.get("up_to")
        room, kept = Fraction(10**9 if most is None else most), []
        for since, left in reversed(self.lots):
            if periods is None or self.months - since <= periods:
                kept.append((since, min(left, room)))
                room -= min(left, room)
        self.lots = kept[::-1]

    def _price(self, q: Fraction) -> Fraction:
        says = self.says
        if says["model"] == "per_unit":
            return q * Fraction(says["unit_price"])
        if says["model"] == "package":
            return ceil(q / int(says["package_size"])) * Fraction(says["package_price"])
        cost, lower = Fraction(0), Fraction(0)
        for number, tier in enumerate(says["tiers"]):
            upper = Fraction(10**9 if tier["up_to"] is None else tier["up_to"])
            fee, each = Fraction(tier["flat_fee"]), Fraction(tier.get("unit_price", 0))
            if says["model"] != "graduated" and q <= upper:
                return fee + q * each
            if says["model"] == "graduated" and (q > lower or number == 0):
                cost += fee + (min(q, upper) - lower) * each
            lower = upper
        return cost


def rounded(amount: Fraction, digits: int, mode: str) -> int:
    scaled = amount * 10**digits
    return round(scaled) if mode == "half_even" else int(scaled + Fraction(1, 2))


@given(
    charges(),
    st.lists(reductions, max_size=3),
    st.lists(units, min_size=1, max_size=6),
    st.integers(1, 31),
    st.sampled_from(list(DIGITS)),
    st.sampled_from(["half_away", "half_even"]),
)
def test_rating_agrees_with_the_naive_model_month_by_month(
    says: dict[str, Any], off: list[Any], used: list[Decimal], day: int, currency: str, mode: str
) -> None:
    charge, naive, state = Charge.model_validate(says), Naive(says, off), dict[str, str]()
    discounts = tuple(
        Discount.model_validate(
            {"key": f"d{n}", kind: str(value), "charges": ["a"], "duration": lasts}
        )
        for n, (kind, value, lasts) in enumerate(off)
    )
    more = {"currency": currency, "rounding": mode, "discounts": discounts}
    start = date(2013, 1, day)
    for quantity in used:
        end = add_months(start, 1)
        share = Fraction((end - start).days, (end - start.replace(day=1)).days)
        targets, after = rated([charge], [start, end], [{(): quantity}], state, **more)
        expected = rounded(naive.month(Fraction(quantity), share), DIGITS[currency], mode)
        assert sum(target.amount_minor for target in targets) == expected
        start, state = end, dict(after)


@given(tables(), tables(), st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_units_cost_what_the_price_in_force_says_of_their_place_in_the_period(
    old: list[Any], new: list[Any], pieces: list[int]
) -> None:
    """Unit by unit: a change of price does not start the count again."""
    by_price = [
        Charge.model_validate({"key": "a", "model": "graduated", "meter": "m", "tiers": t})
        for t in (old, new)
    ]
    days = [date(2013, 1, 1) + timedelta(days=2 * n) for n in range(len(pieces) + 1)]
    own = [by_price[n % 2] for n in range(len(pieces))]
    targets, _ = rated(own, days, [{(): Decimal(n)} for n in pieces], {})
    place = 0
    for number, (target, count) in enumerate(zip(targets, pieces, strict=True)):
        cost = Fraction((old, new)[number % 2][0]["flat_fee"]) if number == 0 else Fraction(0)
        tiers = (old, new)[number % 2]
        lower_bounds = [0, *(int(tier["up_to"]) for tier in tiers[:-1])]
        for unit in range(place + 1, place + count + 1):
            at = next(t for t in tiers if t["up_to"] is None or unit <= int(t["up_to"]))
            first_of_tier = unit > 1 and unit - 1 in lower_bounds[1:]
            cost += Fraction(at["unit_price"]) + first_of_tier * Fraction(at["flat_fee"])
        place += count
        assert target.amount_minor == rounded(cost, 2, "half_away")


@given(prices, prices, st.integers(1, 27), st.integers(1, 12))
def test_credit_and_charge_of_a_change_are_the_difference_it_makes(
    old: Decimal, new: Decimal, day: int, month: int
) -> None:
    start = date(2012, month, 1)
    change, end = start + timedelta(days=day), add_months(start, 1)
    fees = [
        Charge.model_validate({"key": "a", "model": "flat", "amount": str(fee)})
        for fee in (old, new)
    ]
    before, _ = rated(fees[:1], [start, end], [{}], {})
    after, _ = rated(fees, [start, change, end], [{}, {}], {})
    same, _ = rated([fees[0], fees[0]], [start, change, end], [{}, {}], {})
    used = Fraction(day, (end - start).days)
    cents = [rounded(Fraction(fee), 2, "half_away") for fee in (old, new)]
    credit = cents[0] - rounded(cents[0] * used, 0, "half_away")
    charged = cents[1] - rounded(cents[1] * used, 0, "half_away")
    assert sum(target.amount_minor for target in same) == before[0].amount_minor == cents[0]
    assert sum(target.amount_minor for target in after) - cents[0] == charged - credit


@given(st.lists(st.tuples(st.sampled_from("ab"), units), max_size=9), st.randoms())
def test_the_order_in_which_usage_is_told_does_not_matter(
    told: list[tuple[str, Decimal]], chance: Any
) -> None:
    charge = Charge.model_validate(
        {
            "key": "a",
            "model": "percentage",
            "meter": "m",
            "group_by": ["who"],
            "percent": "2.9",
            "per": "event",
            "fixed_fee": "0.3",
            "event_maximum": "1.5",
            "round_each": True,
        }
    )
    found = {
        (("who", who), ("value", str(value))): Decimal(told.count((who, value)))
        for who, value in told
    }
    other = list(found.items())
    chance.shuffle(other)
    days = [date(2013, 1, 1), date(2013, 2, 1)]
    assert rated([charge], days, [found], {}) == rated([charge], days, [dict(other)], {})
