"""Money: integer minor units in the books, exact decimals in prices and quantities.

The one place where amounts are rounded: half away from zero, once per line.
"""

from collections.abc import Sequence
from decimal import (
    ROUND_DOWN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    Inexact,
    InvalidOperation,
    Overflow,
)
from fractions import Fraction
from typing import Literal

AMOUNT_MINOR_MAX = 10**17
"""Larger amounts are refused: they would not fit sums of the ledger's 64-bit integers."""

_WITH_CENTS = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD
    CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD
    HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD
    MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON
    RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD
    TZS UAH USD UYU UZS VED VES WST XCD YER ZAR ZMW ZWG"""
_WHOLE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_WITH_MILLS = "BHD IQD JOD KWD LYD OMR TND"
_MINOR_DIGITS = (
    dict.fromkeys(_WITH_CENTS.split(), 2)
    | dict.fromkeys(_WHOLE.split(), 0)
    | dict.fromkeys(_WITH_MILLS.split(), 3)
)
_MINOR_UNIT = {currency: Decimal(1).scaleb(-digits) for currency, digits in _MINOR_DIGITS.items()}

EXACT = Context(prec=120, traps=[Inexact, InvalidOperation, Overflow])
"""Arithmetic that raises instead of rounding."""


_WIDE = Context(prec=120, rounding=ROUND_DOWN, traps=[InvalidOperation, Overflow])
_FINEST = Decimal(1).scaleb(-24)


def is_currency(code: str) -> bool:
    """Return whether the code is one of ISO 4217's that money is counted in here."""
    return code in _MINOR_DIGITS


def minor_digits(currency: str) -> int:
    """Return how many decimals the currency's minor unit has: USD 2, JPY 0, KWD 3."""
    return _MINOR_DIGITS[currency]


Rounding = Literal["half_away", "half_even"]
"""Where exactly half a minor unit goes: away from zero, or to the even neighbour."""

_ROUNDING = {"half_away": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN}


def to_minor(amount: Decimal, currency: str, rounding: Rounding = "half_away") -> int:
    """Round an exact amount to minor units."""
    scaled = amount.scaleb(_MINOR_DIGITS[currency], EXACT)
    minor = int(scaled.to_integral_value(_ROUNDING[rounding]))
    if not -AMOUNT_MINOR_MAX <= minor <= AMOUNT_MINOR_MAX:
        raise OverflowError(f"{amount} {currency} is more than the books can hold")
    return minor


def to_major(amount_minor: int, currency: str) -> Decimal:
    """Return minor units as a decimal with the currency's number of decimals."""
    return EXACT.multiply(Decimal(amount_minor), _MINOR_UNIT[currency])


def share(amount: Decimal, part: Decimal | int, whole: Decimal | int) -> Decimal:
    """Return `amount * part / whole`, cut off after 24 decimals where it has more.

    A price has at most 12 decimals and a period less than 10,000 days, so that what is cut off
    never decides to which side a minor unit is rounded.
    """
    if part == whole:
        return amount
    return _WIDE.divide(_WIDE.multiply(amount, Decimal(part)), Decimal(whole)).quantize(
        _FINEST, rounding=ROUND_DOWN, context=_WIDE
    )


def text_of(amount: Decimal) -> str:
    """Return a decimal without exponent or trailing zeros: the form in traces and JSON."""
    text = str(amount)
    if "E" in text:
        text = f"{amount:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def amount_text(amount_minor: int, currency: str) -> str:
    """Return an amount with all decimals of its currency, as JSON has it: `12345.60`."""
    return str(to_major(amount_minor, currency))


def display(amount_minor: int, currency: str) -> str:
    """Return an amount for people: `12,345.60`."""
    return f"{to_major(amount_minor, currency):,f}"


def round_half_away(value: Fraction) -> int:
    """Round to an integer, half away from zero."""
    return _quotient(value.numerator, value.denominator)


def _quotient(part: int, whole: int) -> int:
    rounded = (2 * abs(part) + whole) // (2 * whole)
    return rounded if part >= 0 else -rounded


def earned_minor(billed_minor: int, days: int, days_total: int) -> int:
    """Return how much of an amount billed for `days_total` is earned after `days` of them.

    Differences of this function telescope, so that any chain of changes adds up to what was
    billed; no daily rate is ever rounded.
    """
    if not 0 <= days <= days_total or days_total <= 0:
        raise ValueError(f"{days} of {days_total} days")
    return _quotient(billed_minor * days, days_total)


def split_minor(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Split an amount by weights so that the parts add up, by largest remainder.

    Of equal remainders the earlier part gets the unit.
    """
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise ValueError(f"weights must be positive in sum and none negative: {list(weights)}")
    sign = -1 if amount_minor < 0 else 1
    shares = [divmod(abs(amount_minor) * weight, total) for weight in weights]
    left = abs(amount_minor) - sum(share for share, _ in shares)
    winners = sorted(range(len(shares)), key=lambda index: (-shares[index][1], index))[:left]
    return [sign * (share + (index in winners)) for index, (share, _) in enumerate(shares)]
