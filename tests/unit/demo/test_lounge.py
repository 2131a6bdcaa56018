from collections import Counter
from decimal import Decimal
from pathlib import Path

import tollbook.demo
from tollbook.demo.lounge import lounge_lines, read_prices, upgrade_month
from tollbook.demo.recount import Bill, LineKey

PRICES, PRODUCTS = read_prices(Path(tollbook.demo.__file__).parent / "lounge.yaml")


def test_an_upgrade_in_the_middle_of_a_billed_month_is_credited_and_charged_by_the_next_close() -> (
    None
):
    """August: 15 of 31 days of 1,200.00 are 580.65, and of 1,999.99, which is left out, 967.74."""
    assert upgrade_month(12) == 8
    lines = lounge_lines(PRICES, 12)
    of = ("UA", "lounge", "", 8, 9)
    assert lines[LineKey(*of, "proration_credit")] == Bill(Decimal(0), 580_65 - 1200_00)
    assert lines[LineKey(*of, "proration_charge")] == Bill(Decimal(1), 1999_99 - 967_74)
    assert lines[LineKey("UA", "lounge", "", 9, 9, "advance")].cents == 1999_99


def test_desks_that_are_added_are_charged_for_the_days_that_are_left() -> None:
    lines = lounge_lines(PRICES, 12)
    may = [
        lines[LineKey("UA", "desks", "", 5, 5, kind)] for kind in ("advance", "proration_charge")
    ]
    # Ten of 31 days of three desks at 85.50; 21 of five.
    assert may == [Bill(Decimal(3), 82_74), Bill(Decimal(5), 427_50 - 137_90)]


def test_a_trial_pays_nothing_for_its_month() -> None:
    by_month = Counter(key.month for key in lounge_lines(PRICES, 12) if key.airline == "VX")
    assert by_month == dict.fromkeys(range(2, 13), 2)
    assert PRODUCTS == {"lounge": "lounge", "desks": "desks"}
