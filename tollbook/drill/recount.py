"""The recount: what events are worth, added up the naive way from the bytes that were sent.

Shares nothing with the path that it checks: Python's JSON, decimals and fractions only.
"""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tollbook.drill.truth import parsed

Place = tuple[str, str, str]
"""Start of an hour (or nothing for all time), subject, region (or nothing)."""
Totals = dict[str, dict[Place, set[Decimal]]]
"""By the name of a meter and by place: the values of which one must be answered.

There is more than one only for the latest of several events of the same instant.
"""

VALUE_LIMIT = 10**18
SCALE = 12

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)

SHAPES: dict[str, dict[str, Any]] = {
    "calls": {"aggregation": "count", "dimensions": {"region": "$.region"}},
    "units": {"aggregation": "sum", "value": "$.units"},
    "least": {"aggregation": "min", "value": "$.units"},
    "top": {"aggregation": "max", "value": "$.units"},
    "mean": {"aggregation": "avg", "value": "$.units"},
    "p90": {"aggregation": "percentile", "value": "$.units", "percentile": "90"},
    "who": {"aggregation": "unique_count", "value": "$.who"},
    "last": {"aggregation": "latest", "value": "$.units"},
}
"""The meters of a drill: one per aggregation."""


def definitions(event_type: str) -> list[dict[str, Any]]:
    """Return the meters of one drill."""
    return [
        shape | {"key": meter_key(event_type, name), "event_type": event_type}
        for name, shape in SHAPES.items()
    ]


def meter_key(event_type: str, name: str) -> str:
    """Return the key of one of the drill's meters."""
    return f"{event_type.replace('.', '_').replace('-', '_')}_{name}"


def usable(value: object) -> Decimal | None:
    """Return the number that a value is, or None where no meter may use it."""
    written = value if isinstance(value, str) else f"{value}" if isinstance(value, Decimal) else ""
    if not _NUMBER.fullmatch(written):
        return None
    number = Decimal(written)
    # Before anything is made of it: a number of few characters may have a million digits.
    if number.adjusted() > SCALE * 2 or number.adjusted() < -SCALE * 2:
        return None if number else Decimal(0)
    units = Fraction(number) * 10**SCALE
    is_exact = units.denominator == 1
    return number if is_exact and abs(units) < VALUE_LIMIT * 10**SCALE else None


def recounted(bodies: Iterable[bytes]) -> Totals:
    """Return what every meter must answer, per hour and for all time."""
    numbers: dict[Place, list[Decimal]] = {}
    people: dict[Place, set[str]] = {}
    calls: dict[Place, int] = {}
    latest: dict[Place, tuple[datetime, set[Decimal]]] = {}
    for body in bodies:
        event = parsed(body)
        data = event.get("data") or {}
        moment = datetime.fromisoformat(event["time"]).astimezone(UTC)
        hour = moment.replace(minute=0, second=0, microsecond=0).isoformat()
        for start in ("", hour.replace("+00:00", "Z")):
            place = (start, event["subject"], "")
            counted = (start, event["subject"], text(data.get("region")))
            calls[counted] = calls.get(counted, 0) + 1
            number = usable(data.get("units"))
            if number is not None:
                numbers.setdefault(place, []).append(number)
                if place not in latest or latest[place][0] < moment:
                    latest[place] = moment, set()
                if latest[place][0] == moment:
                    latest[place][1].add(number)
            if who := text(data.get("who")):
                people.setdefault(place, set()).add(who)
    totals: Totals = {
        "calls": {place: {Decimal(count)} for place, count in calls.items()},
        "who": {place: {Decimal(len(names))} for place, names in people.items()},
        "last": {place: values for place, (_, values) in latest.items()},
    }
    for place, held in numbers.items():
        for name, value in _of_numbers(sorted(held)).items():
            totals.setdefault(name, {})[place] = {value}
    return totals


def _of_numbers(held: list[Decimal]) -> dict[str, Decimal]:
    total = sum((Fraction(number) for number in held), Fraction(0))
    mean = abs(total) / len(held) * 10**SCALE
    rounded = math.floor(mean + Fraction(1, 2))
    return {
        "units": _decimal(total),
        "least": held[0],
        "top": held[-1],
        "mean": _decimal(Fraction(rounded if total >= 0 else -rounded, 10**SCALE)),
        "p90": held[math.ceil(Fraction(90 * len(held), 100)) - 1],
    }


def _decimal(number: Fraction) -> Decimal:
    """Return a number of at most 12 decimals, exactly."""
    units = number * 10**SCALE
    if units.denominator != 1:
        raise ValueError("more than 12 decimals")
    sign = 1 if units < 0 else 0
    return Decimal((sign, tuple(int(digit) for digit in str(abs(int(units)))), -SCALE))


def text(value: object) -> str:
    """Return a dimension's value as text: missing is empty, a number as sent."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
