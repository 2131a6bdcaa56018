"""What a quantity would cost: one whole period of a charge, rated by the same rules."""

from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

from billing.charge import Charge
from billing.due import ChargePeriod, Piece
from billing.period import Period, add_months, midnight, whole_period
from billing.price_book import BookVersion, PriceBook
from billing.rating import PeriodInputs, Target, rate

_UTC = ZoneInfo("UTC")


def quote(
    book: PriceBook,
    version: BookVersion,
    charge: Charge,
    quantity: Decimal,
    currency: str,
    on: date,
) -> Target:
    """Return the worth of a quantity in the whole period that a day lies in."""
    start = whole_period(on, charge.months)
    end = add_months(start, charge.months)
    starts_at, ends_at = midnight(start, _UTC), midnight(end, _UTC)
    billed = ChargePeriod(
        customer="quotation",
        subscription="quotation",
        item="quotation",
        charge=charge.key,
        price_book=book.key,
        currency=currency,
        timing=charge.timing,
        rank=0,
        period=Period(start, end, starts_at, ends_at, start, end),
        pieces=(Piece(start, end, starts_at, ends_at, version.version, charge),),
    )
    dimensions = tuple((name, "?") for name in charge.group_by)
    quantities = () if charge.meter is None else ({dimensions: quantity},)
    targets, _ = rate(PeriodInputs(billed, "", quantities), {})
    return targets[0]
