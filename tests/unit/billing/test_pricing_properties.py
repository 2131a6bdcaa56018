"""What holds of prices whatever the tiers: each model against its definition, naively."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from billing.adjustments import Amount, bound, round_all, take_off
from billing.allowance import Allowance
from billing.charge import Rollover
from billing.discount import Discount
from billing.money import to_minor
from billing.pricing import price_events
from billing.tiers import Tier, graduated, packages, stairstep, volume
from billing.time_of_day import bands_between
from tests.unit.billing.charges import charge_of

ZERO = Decimal(0)
units = st.decimals(0, 10_000, places=3)
prices = st.decimals(0, 100, places=4)


@st.composite
def ladders(draw: st.DrawFn, fees: st.SearchStrategy[Decimal] = prices) -> list[Tier]:
    """Draw tiers whose bounds rise."""
    bounds = sorted(draw(st.sets(st.decimals("0.001", 9000, places=3), min_size=1, max_size=6)))
    return [Tier(up_to, draw(prices), draw(fees)) for up_to in [*bounds, None]]


def edges(tiers: list[Tier]) -> list[Decimal]:
    step = Decimal("0.001")
    inner = [tier.up_to for tier in tiers if tier.up_to is not None]
    return [ZERO, *(at for bound in inner for at in (bound - step, bound, bound + step))]


def reached(tiers: list[Tier], quantity: Decimal) -> Tier:
    """Return the tier a quantity ends in, bounds being inclusive."""
    return next(t for t in tiers if t.up_to is None or quantity <= t.up_to)


def one_by_one(tiers: list[Tier], quantity: Decimal) -> Fraction:
    """Price a quantity as graduated does, a tier at a time."""
    total, lower = Fraction(0), Fraction(0)
    for number, tier in enumerate(tiers):
        upper = Fraction(quantity if tier.up_to is None else min(tier.up_to, quantity))
        if number == 0 or quantity > lower:
            total += Fraction(tier.flat_fee)
        total += max(upper - lower, Fraction(0)) * Fraction(tier.unit_price)
        lower = Fraction(tier.up_to or 0)
    return total


@given(ladders(), units)
def test_volume_and_stairstep_are_the_tier_that_the_quantity_ends_in(
    tiers: list[Tier], quantity: Decimal
) -> None:
    for at in (quantity, *edges(tiers)):
        tier = reached(tiers, at)
        assert volume(tiers, at)[0] == tier.flat_fee + at * tier.unit_price
        assert stairstep(tiers, at)[0] == tier.flat_fee


@given(ladders(), units)
def test_graduated_is_the_sum_over_its_tiers(tiers: list[Tier], quantity: Decimal) -> None:
    for at in (quantity, *edges(tiers)):
        assert graduated(tiers, ZERO, at, begins=True)[0] == one_by_one(tiers, at)


@given(ladders(st.just(ZERO)), units, units)
def test_graduated_never_falls_and_does_not_jump(
    tiers: list[Tier], one: Decimal, other: Decimal
) -> None:
    low, high = sorted((one, other))
    dearest = max(tier.unit_price for tier in tiers)
    rise = (
        graduated(tiers, ZERO, high, begins=True)[0] - graduated(tiers, ZERO, low, begins=True)[0]
    )
    assert 0 <= rise <= (high - low) * dearest


@given(ladders(), st.lists(units, min_size=1, max_size=5))
def test_pieces_priced_one_after_the_other_add_up_to_the_whole(
    tiers: list[Tier], parts: list[Decimal]
) -> None:
    total, position = ZERO, ZERO
    for number, part in enumerate(parts):
        total += graduated(tiers, position, part, begins=number == 0)[0]
        position += part
    assert total == graduated(tiers, ZERO, position, begins=True)[0]


@given(st.decimals("0.001", 500, places=3), prices, units)
def test_packages_hold_the_quantity_and_no_package_is_empty(
    size: Decimal, price: Decimal, quantity: Decimal
) -> None:
    for at in (quantity, size, size + Decimal("0.001"), size * 3):
        amount, steps = packages(size, price, at)
        count = Decimal(steps[0]["quantity"]) if steps else ZERO
        assert (count - 1) * size < at <= count * size or at == count == 0
        assert amount == count * price


@given(st.dictionaries(st.decimals(0, 1000, places=2), st.integers(1, 50), max_size=40), prices)
def test_events_by_value_cost_what_they_cost_one_by_one(
    counts: dict[Decimal, int], fee: Decimal
) -> None:
    charge = charge_of(
        f"model: percentage, meter: seats, percent: '2.9', fixed_fee: '{fee}', per: event,"
        " event_minimum: '0.50', event_maximum: '20', round_each: true"
    )
    expected = sum(
        to_minor(min(max(value * Decimal("0.029") + fee, Decimal("0.5")), Decimal(20)), "USD")
        for value, count in counts.items()
        for _ in range(count)
    )
    amount, steps = price_events(charge, "USD", counts, "half_away")
    assert amount * 100 == expected == sum(Decimal(step["amount"]) for step in steps) * 100


@given(st.lists(st.decimals(0, 1000, places=5), min_size=1, max_size=8), units, units)
def test_what_is_bound_together_adds_up_to_the_rounded_bound(
    values: list[Decimal], one: Decimal, other: Decimal
) -> None:
    least, most = sorted((one, other))
    amounts = [Amount(value) for value in values]
    bound(amounts, least, most)
    minors = round_all(amounts, "USD", "half_away", together=True)
    assert sum(minors) == to_minor(min(max(sum(values, ZERO), least), most), "USD")
    assert all(minor >= 0 for minor in minors)


@given(st.lists(st.decimals(0, 1000, places=5), min_size=1, max_size=8), prices)
def test_an_amount_that_is_taken_off_is_taken_off_once_and_leaves_nothing_negative(
    values: list[Decimal], off: Decimal
) -> None:
    amounts = [Amount(value) for value in values]
    take_off(amounts, [Discount(key="d", amount=off, charges=("a",))], "USD")
    minors = round_all(amounts, "USD", "half_away", together=True)
    assert sum(minors) == to_minor(max(sum(values, ZERO) - off, ZERO), "USD")


@given(st.lists(units, max_size=12), units, st.integers(1, 3), units)
def test_an_allowance_is_used_oldest_first_and_never_twice(
    used: list[Decimal], included: Decimal, periods: int, most: Decimal
) -> None:
    """A list of units, each with the period it came from, is the model."""
    rollover = Rollover(periods=periods, up_to=most)
    state: dict[str, str] = {}
    left: list[tuple[int, Decimal]] = []
    for now, wanted in enumerate(used):
        allowance = Allowance.from_state(rollover, state)
        allowance.include(included)
        free = allowance.take(wanted)
        state = allowance.to_state()
        left.append((now, included))
        rest = wanted
        for at, (period, lot) in enumerate(left):
            part = min(lot, rest)
            left[at], rest = (period, lot - part), rest - part
        assert free == wanted - rest
        left = [(period, lot) for period, lot in left if lot and now - period < periods]
        while (over := sum(lot for _, lot in left) - most) > 0:
            period, lot = left[0]
            left[:1] = [(period, lot - over)] if lot > over else []


@given(st.integers(0, 400), st.integers(1, 40))
def test_bands_cover_an_interval_once_over_changes_of_the_clock(day: int, length: int) -> None:
    start = datetime(2024, 1, 1, 5, tzinfo=UTC) + timedelta(days=day)
    end = start + timedelta(days=length)
    bands = [("night", "22:00", "06:00", ("fri", "sat")), ("noon", "11:30", "13:15", ("mon",))]
    found = bands_between(bands, "Europe/Berlin", start, end)
    assert found[0][1] == start
    assert found[-1][2] == end
    assert all(one[2] == other[1] for one, other in pairwise(found))
    assert all(one[0] != other[0] for one, other in pairwise(found))
