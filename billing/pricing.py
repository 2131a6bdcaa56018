"""What one line costs before what holds for its whole charge: the model of each, exactly."""

from collections.abc import Callable, Mapping
from decimal import Decimal

from msgspec.structs import replace

from billing.charge import Charge, Price, price_in
from billing.money import EXACT, Rounding, share, text_of, to_major, to_minor
from billing.tiers import Step, Tier, graduated, packages, stairstep, volume

Dimensions = tuple[tuple[str, str], ...]
Priced = tuple[Decimal, list[Step]]
"""An exact amount, and the steps that add up to it."""

_PERCENT = Decimal(100)


def price_quantity(
    charge: Charge,
    currency: str,
    dimensions: Dimensions,
    reached: Decimal,
    quantity: Decimal,
    *,
    begins: bool,
    bounds_by: tuple[int, int] = (1, 1),
) -> Priced:
    """Return what a quantity costs on top of the position reached before it.

    `begins` says that nothing of the period came before; the bounds of tiers are shrunk to a
    period's part, `bounds_by` being its days and those of the whole.
    """
    if charge.model in _BY_ITSELF:
        return _BY_ITSELF[charge.model](charge, currency, dimensions, quantity)
    tiers = charge.tiers_in(currency)
    if bounds_by[0] != bounds_by[1]:
        tiers = [
            tier if tier.up_to is None else replace(tier, up_to=share(tier.up_to, *bounds_by))
            for tier in tiers
        ]
    if charge.model == "volume":
        return volume(tiers, quantity)
    if charge.model == "stairstep":
        return stairstep(tiers, quantity)
    return graduated(tiers, reached, quantity, begins=begins)


def _package(charge: Charge, currency: str, _: Dimensions, quantity: Decimal) -> Priced:
    assert charge.package_size is not None  # noqa: S101 - held by the schema
    return packages(charge.package_size, _in(charge.package_price, currency), quantity)


def _matrix(charge: Charge, currency: str, dimensions: Dimensions, quantity: Decimal) -> Priced:
    """Price by the first entry whose values are all there, else by the default."""
    values = dict(dimensions)
    found = (
        price.unit_price
        for price in charge.prices
        if all(values.get(name) == value for name, value in price.when.items())
    )
    return _units(quantity, _in(next(found, charge.default), currency))


def _by_time(charge: Charge, currency: str, dimensions: Dimensions, quantity: Decimal) -> Priced:
    rate = dict(dimensions)["rate"]
    found = (one.unit_price for one in charge.rates if one.name == rate)
    return _units(quantity, _in(next(found, charge.default), currency))


def _by_percent(charge: Charge, _: str, __: Dimensions, quantity: Decimal) -> Priced:
    return _percentage(quantity, charge.percent or Decimal(0))


def _dynamic(charge: Charge, _: str, __: Dimensions, quantity: Decimal) -> Priced:
    return _marked_up(quantity, charge.markup or Decimal(0))


_BY_ITSELF: Mapping[str, Callable[[Charge, str, Dimensions, Decimal], Priced]] = {
    "package": _package,
    "matrix": _matrix,
    "time_of_day": _by_time,
    "percentage": _by_percent,
    "dynamic": _dynamic,
}
"""Models whose price does not depend on the position reached."""


def price_events(
    charge: Charge, currency: str, counts: Mapping[Decimal, int], rounding: Rounding
) -> Priced:
    """Return what events cost one by one, given how many there are of each value."""
    steps: list[Step] = []
    amount = Decimal(0)
    lowest = None if charge.event_minimum is None else price_in(charge.event_minimum, currency)
    most = None if charge.event_maximum is None else price_in(charge.event_maximum, currency)
    for value, count in sorted(counts.items()):
        if charge.model == "dynamic":
            each, _ = _marked_up(value, charge.markup or Decimal(0))
        else:
            each, _ = _percentage(value, charge.percent or Decimal(0))
        if charge.fixed_fee is not None:
            each = EXACT.add(each, price_in(charge.fixed_fee, currency))
        each = each if lowest is None else max(each, lowest)
        each = each if most is None else min(each, most)
        if charge.round_each:
            each = to_major(to_minor(each, currency, rounding), currency)
        part = EXACT.multiply(each, Decimal(count))
        amount = EXACT.add(amount, part)
        if len(counts) <= _STEPS_MAX:
            steps.append(
                {
                    "step": f"events of {text_of(value)}",
                    "quantity": text_of(Decimal(count)),
                    "unit_price": text_of(each),
                    "amount": text_of(part),
                }
            )
    if len(counts) > _STEPS_MAX:
        events = text_of(Decimal(sum(counts.values())))
        steps = [{"step": "events, each by itself", "quantity": events, "amount": text_of(amount)}]
    return amount, steps


_STEPS_MAX = 20
"""Of more values than this a trace shows the sum only."""


def _in(price: Price | None, currency: str) -> Decimal:
    assert price is not None  # noqa: S101 - held by the schema
    return price_in(price, currency)


def _units(quantity: Decimal, unit_price: Decimal) -> Priced:
    return graduated([Tier(None, unit_price)], Decimal(0), quantity, begins=True)


def _percentage(quantity: Decimal, percent: Decimal) -> Priced:
    amount = EXACT.divide(EXACT.multiply(quantity, percent), _PERCENT)
    step = {
        "step": f"{text_of(percent)} %",
        "quantity": text_of(quantity),
        "amount": text_of(amount),
    }
    return amount, [step] if quantity else []


def _marked_up(quantity: Decimal, markup: Decimal) -> Priced:
    steps: list[Step] = []
    if quantity:
        steps.append({"step": "price of the events", "amount": text_of(quantity)})
    extra, more = _percentage(quantity, markup)
    if extra:
        steps += [{**more[0], "step": f"markup of {text_of(markup)} %"}]
    return EXACT.add(quantity, extra), steps
