"""Reads times as RFC 3339 writes them, in place: compiled.

What is doubtful is UNUSUAL, and `ingest.event.parse_time` decides.
"""

from compiled.memory import byte_at, compiled
from ingest.plain_json import COLON
from ingest.plain_text import UNUSUAL


@compiled
def _digits(text, at, count):
    """Return the number that so many digits are, or a negative one."""
    number = 0
    for place in range(at, at + count):
        if not 48 <= byte_at(text, place) <= 57:
            return -1_000_000
        number = 10 * number + byte_at(text, place) - 48
    return number


@compiled
def _days(year, month, day):
    """Return the days from 1970 to a date, or UNUSUAL for what is no date from 1970 on."""
    lengths = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if year < 1970 or not 1 <= month <= 12 or day < 1:
        return UNUSUAL
    if day > lengths[month - 1] + (1 if is_leap and month == 2 else 0):
        return UNUSUAL
    before = year - 1
    days = 365 * (year - 1970) + before // 4 - before // 100 + before // 400 - 477
    for passed in range(month - 1):
        days += lengths[passed]
    return days + day - 1 + (1 if is_leap and month > 2 else 0)


@compiled
def _fraction_us(text, at, end):
    """Return the microseconds that up to nine digits are, half up, or UNUSUAL."""
    if not 0 < end - at <= 9:
        return UNUSUAL
    micros = _digits(text, at, min(end - at, 6))
    for _ in range(end - at, 6):
        micros *= 10
    if end - at > 6:
        if _digits(text, at + 6, end - at - 6) < 0:
            return UNUSUAL
        micros += byte_at(text, at + 6) >= 53
    return micros


@compiled
def time_us(text, at, end):
    """Return the microseconds since 1970 that an RFC 3339 time is, or UNUSUAL."""
    # The shortest is 2025-11-23T12:00:00Z.
    if (
        end - at < 20
        or byte_at(text, at + 4) != 45
        or byte_at(text, at + 7) != 45
        or byte_at(text, at + 10) != 84
    ):
        return UNUSUAL
    if byte_at(text, at + 13) != COLON or byte_at(text, at + 16) != COLON:
        return UNUSUAL
    days = _days(_digits(text, at, 4), _digits(text, at + 5, 2), _digits(text, at + 8, 2))
    hour, minute = _digits(text, at + 11, 2), _digits(text, at + 14, 2)
    second = _digits(text, at + 17, 2)
    if days < 0 or not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        return UNUSUAL
    zone, offset = end - 1, 0
    if byte_at(text, zone) != 90:  # Z
        zone = end - 6
        ahead_hours, ahead_minutes = _digits(text, end - 5, 2), _digits(text, end - 2, 2)
        if (
            zone < at + 19
            or byte_at(text, end - 3) != COLON
            or (byte_at(text, zone) != 43 and byte_at(text, zone) != 45)
        ):
            return UNUSUAL
        if not (0 <= ahead_hours < 24 and 0 <= ahead_minutes < 60):
            return UNUSUAL
        offset = 60 * ahead_hours + ahead_minutes
        offset = offset if byte_at(text, zone) == 43 else -offset
    micros = 0
    if zone != at + 19:
        micros = _fraction_us(text, at + 20, zone) if byte_at(text, at + 19) == 46 else UNUSUAL
        if micros < 0:
            return UNUSUAL
    return ((days * 24 + hour) * 60 + minute - offset) * 60_000_000 + second * 1_000_000 + micros
