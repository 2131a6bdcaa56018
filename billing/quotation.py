"""What a quantity would cost: one whole period of a charge, rated by the same rules."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

from billing.charge import Charge, parse_amount
from billing.charge_period import ChargePeriod, Piece
from billing.money import text_of
from billing.period import Period, calendar, midnight
from billing.price_book import BookVersion, PriceBook
from billing.pricing import Dimensions
from billing.rating import LineKey, PeriodInputs, Target, rate, worth_nothing
from billing.time_of_day import OTHER

_UTC = ZoneInfo("UTC")


def quote(
    book: PriceBook,
    version: BookVersion,
    charge: Charge,
    quantity: Decimal,
    currency: str,
    on: date,
    given: Mapping[str, str] | None = None,
) -> Target:
    """Return the worth of a quantity in the whole period that a day lies in.

    `given` says the values of dimensions, the `rate` of a time of day, or the quantity of each
    meter of a formula. Of events that are priced one by one the quantity is the value of one.

    Raises:
        ValueError: something is given that the charge does not know.
    """
    start, end = calendar(charge.cadence).whole(on)
    at, days = (midnight(start, _UTC), midnight(end, _UTC)), (end - start).days
    billed = ChargePeriod(
        customer="quotation",
        subscription="quotation",
        item="quotation",
        charge=charge.key,
        price_book=book.key,
        currency=currency,
        timing=charge.timing,
        rank=0,
        period=Period(start, end, *at, start, end),
        whole=days,
        unit="day",
        pieces=(Piece(start, end, *at, version.version, charge, 0, days, quantity=quantity),),
        rounding=version.rounding,
    )
    quantities = (_quantities(charge, quantity, given or {}),)
    targets, _ = rate(PeriodInputs(billed, "", quantities), {})
    return targets[0] if targets else worth_nothing(billed, _key(billed), "")


def _quantities(
    charge: Charge, quantity: Decimal, given: Mapping[str, str]
) -> dict[Dimensions, Decimal]:
    known = {*charge.group_by, *charge.dimensions, *charge.meters}
    if charge.rates:
        known.add("rate")
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "nothing"
            raise ValueError(f"charge {charge.key} knows no {name}; it asks for {names}")
    if charge.meters:
        return {
            (("meter", name),): parse_amount(given.get(name, text_of(quantity)))
            for name in charge.meters
        }
    dimensions: list[tuple[str, str]] = [
        (name, given.get(name, "?")) for name in (*charge.group_by, *charge.dimensions)
    ]
    if charge.rates:
        dimensions.append(("rate", given.get("rate", OTHER)))
    if charge.per == "event":
        return {(*dimensions, ("value", text_of(quantity))): Decimal(1)}
    if charge.model == "commitment":
        return {(("charge", "all"),): quantity}
    return {tuple(dimensions): quantity}


def _key(billed: ChargePeriod) -> LineKey:
    period = billed.period
    return LineKey(*billed.charge_key, (), period.starts_at, period.ends_at, period.starts_at)
