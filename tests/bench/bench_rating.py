"""CPU-seconds of rating many subscriptions, with five charges each; prints, asserts nothing."""

import time
from datetime import UTC, date, datetime
from decimal import Decimal

from billing.charge_period import ChargePeriod, Piece
from billing.period import Period
from billing.pricing import Dimensions
from billing.rating import PeriodInputs, rate
from tests.unit.billing.charges import charge_of

SUBSCRIPTIONS = 100_000
TIERS = "tiers: [{up_to: '100', unit_price: '0.5'}, {up_to: null, unit_price: '0.4'}]"
CHARGES = [
    charge_of("model: flat, amount: '49.90', timing: advance", "fee"),
    charge_of(f"model: graduated, meter: calls, {TIERS}", "calls"),
    charge_of(f"model: volume, meter: gb, {TIERS}", "data"),
    charge_of(
        "model: per_unit, meter: mails, unit_price: '0.001', included: '100', minimum: '1'", "mails"
    ),
    charge_of("model: package, meter: sms, package_size: '100', package_price: '1.25'", "sms"),
]
START, END = date(2013, 1, 1), date(2013, 2, 1)
STARTS_AT, ENDS_AT = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC)
PERIOD = Period(START, END, STARTS_AT, ENDS_AT, START, END)


def test_rating_of_many_subscriptions() -> None:
    before = time.process_time()
    total = 0
    for number in range(SUBSCRIPTIONS):
        quantities: tuple[dict[Dimensions, Decimal], ...] = ({(): Decimal(number % 997)},)
        for rank, charge in enumerate(CHARGES):
            billed = ChargePeriod(
                *(f"c{number}", f"s{number}", "i", charge.key, "book", "USD", charge.timing, rank),
                period=PERIOD,
                whole=31,
                unit="day",
                pieces=(Piece(START, END, STARTS_AT, ENDS_AT, 1, charge, 0, 31),),
            )
            targets, _ = rate(PeriodInputs(billed, "", quantities), {})
            total += sum(target.amount_minor for target in targets)
    seconds = time.process_time() - before
    what = f"rating {SUBSCRIPTIONS:,} subscriptions of {len(CHARGES)} charges"
    print(f"\n{what}: {seconds:.1f} CPU-s (target 30), {total:,} cents in all")  # noqa: T201
