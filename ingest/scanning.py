"""Finds the events of a body: a loop over its bytes, compiled.

`scan` knows the usual event only, and that one wholly: JSON without a fault, attributes that it
expects, names without escapes, times as RFC 3339 writes them. About anything else it says
`UNUSUAL`, and `ingest.event` decides. It never takes what that would refuse, nor reads it
differently.

A text ends with a byte of 0, which JSON has nowhere: every loop stops there, so that none reads
behind the end.
"""

import numpy as np
from numba import njit

from ingest.event import NAME_CHARS_MAX

UNUSUAL = -1
ONE, MANY, LINES = 0, 1, 2
"""Shapes of a body: one event, an array of events, an event a line."""

FIELDS = ("tenant", "id", "source", "type", "subject", "data", "extensions")
"""Of an event a row tells where each of these begins and ends in the text; then its time."""
TIME = 2 * len(FIELDS)
"""Microseconds since 1970."""
STAMPED = TIME + 1
"""1 where ingest gave the time."""
ROW_ITEMS = STAMPED + 1

DEPTH_MAX = 62

_ID, _SOURCE, _TYPE, _SUBJECT, _DATA = 1, 2, 3, 4, 5
_TIME_SENT, _SPECVERSION, _DATACONTENTTYPE = 6, 7, 8
"""Attributes that have no field of their own, or are only looked at."""
_ALL_NAMES = 0b11110
_QUOTE, _BACKSLASH, _COLON, _COMMA = 34, 92, 58, 44
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST = 123, 125, 91, 93
_NEWLINE = 10
_DELETE, _LATIN_CONTROLS, _LATIN_TEXT = 0x7F, 0xC2, 0xA0
_HIGH_SURROGATE, _LOW_SURROGATE_END = 0xD800, 0xE000


def _bytes(text: str) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    return np.frombuffer(text.encode(), np.uint8)


_KEY_ID, _KEY_TYPE, _KEY_TIME, _KEY_DATA = map(_bytes, ("id", "type", "time", "data"))
_KEY_SOURCE, _KEY_SUBJECT = map(_bytes, ("source", "subject"))
_KEY_VERSION, _KEY_CONTENT = map(_bytes, ("specversion", "datacontenttype"))
_VERSION, _CONTENT = map(_bytes, ('"1.0"', '"application/json"'))
_NULL, _TRUE, _FALSE = map(_bytes, ("null", "true", "false"))

# Of each byte, whether it ends a run of plain text in a string, or in a name.
_IN_STRING = np.array([byte < 32 or byte in b'"\\' for byte in range(256)])
_IN_NAME = _IN_STRING | np.array([byte in (_DELETE, _LATIN_CONTROLS) for byte in range(256)])

compiled = njit(cache=True, nogil=True)


@compiled
def _byte(text, at):
    """Return a byte; a place without a sign spares a look at whether it counts from the end."""
    return text[np.uint64(at)]


@compiled
def _starts_with(text, at, word):
    """Return where a word ends that stands at a place, or UNUSUAL."""
    for byte in word:
        if _byte(text, at) != byte:
            return UNUSUAL
        at += 1
    return at


@compiled
def _after_space(text, at):
    while (
        _byte(text, at) == 32
        or _byte(text, at) == 10
        or _byte(text, at) == 13
        or _byte(text, at) == 9
    ):
        at += 1
    return at


@compiled
def _hex(byte):
    if 48 <= byte <= 57:
        return byte - 48
    byte |= 32
    if 97 <= byte <= 102:
        return byte - 87
    return UNUSUAL


@compiled
def _after_escape(text, at):
    """Return the place after an escape; surrogates are unusual."""
    kind = _byte(text, at + 1)
    if kind in (34, 92, 47, 98, 102, 110, 114, 116):  # "\/bfnrt
        return at + 2
    if kind != 117:
        return UNUSUAL
    code = 0
    for place in range(at + 2, at + 6):
        digit = _hex(np.int64(_byte(text, place)))
        if digit < 0:
            return UNUSUAL
        code = 16 * code + digit
    if _HIGH_SURROGATE <= code < _LOW_SURROGATE_END:
        return UNUSUAL
    return at + 6


@compiled
def _after_string(text, at):
    """Return the place after a string that opens before `at`, or UNUSUAL."""
    while True:
        while not _IN_STRING[_byte(text, at)]:
            at += 1
        if _byte(text, at) == _QUOTE:
            return at + 1
        if _byte(text, at) != _BACKSLASH:
            return UNUSUAL
        at = _after_escape(text, at)
        if at < 0:
            return UNUSUAL


@compiled
def _name_end(text, at):
    """Return where a name ends that begins at `at`: not empty, no escape, no control character."""
    begin = at
    while True:
        while not _IN_NAME[_byte(text, at)]:
            at += 1
        if _byte(text, at) != _LATIN_CONTROLS or _byte(text, at + 1) < _LATIN_TEXT:
            break
        at += 1
    if _byte(text, at) != _QUOTE or at == begin:
        return UNUSUAL
    characters = at - begin
    if characters > NAME_CHARS_MAX:
        for place in range(begin, at):
            characters -= (_byte(text, place) & 0xC0) == 0x80
    return at if characters <= NAME_CHARS_MAX else UNUSUAL


@compiled
def _after_digits(text, at):
    """Return the place after one or more digits, or UNUSUAL."""
    begin = at
    while 48 <= _byte(text, at) <= 57:
        at += 1
    return at if at > begin else UNUSUAL


@compiled
def _after_number(text, at):
    if _byte(text, at) == 45:  # -
        at += 1
    at = at + 1 if _byte(text, at) == 48 else _after_digits(text, at)
    if at > 0 and _byte(text, at) == 46:  # .
        at = _after_digits(text, at + 1)
    if at > 0 and _byte(text, at) | 32 == 101:  # e
        at += 1
        if _byte(text, at) == 43 or _byte(text, at) == 45:
            at += 1
        at = _after_digits(text, at)
    return at


@compiled
def _after_plain(text, at):
    """Return the place after a string, a number, true, false or null; or UNUSUAL."""
    byte = _byte(text, at)
    if byte == _QUOTE:
        return _after_string(text, at + 1)
    if byte == 116:
        return _starts_with(text, at, _TRUE)
    if byte == 102:
        return _starts_with(text, at, _FALSE)
    if byte == 110:
        return _starts_with(text, at, _NULL)
    return _after_number(text, at)


@compiled
def _after_key(text, at):
    """Return the place after a member's name and its colon, or UNUSUAL."""
    at = _after_space(text, at)
    if _byte(text, at) != _QUOTE:
        return UNUSUAL
    at = _after_string(text, at + 1)
    if at < 0:
        return UNUSUAL
    at = _after_space(text, at)
    return at + 1 if _byte(text, at) == _COLON else UNUSUAL


@compiled
def _after_value(text, at, depth_max):
    """Return the place after any JSON value that begins at `at`, or UNUSUAL."""
    depth, kinds = 0, 0  # of each open bracket one bit: 1 for a list
    while True:
        at = _after_space(text, at)
        byte = _byte(text, at)
        if byte in (_OPEN, _OPEN_LIST):
            depth += 1
            if depth > depth_max:
                return UNUSUAL
            is_list = byte == _OPEN_LIST
            kinds = 2 * kinds + is_list
            inside = _after_space(text, at + 1)
            if _byte(text, inside) == (_CLOSE_LIST if is_list else _CLOSE):
                at = inside  # closed below
            else:
                at = at + 1 if is_list else _after_key(text, at + 1)
                if at < 0:
                    return UNUSUAL
                continue
        else:
            at = _after_plain(text, at)
            if at < 0:
                return UNUSUAL
        while depth:
            at = _after_space(text, at)
            is_list = kinds & 1
            if _byte(text, at) != (_CLOSE_LIST if is_list else _CLOSE):
                break
            depth -= 1
            kinds >>= 1
            at += 1
        if depth == 0:
            return at
        if _byte(text, at) != _COMMA:
            return UNUSUAL
        at = at + 1 if kinds & 1 else _after_key(text, at + 1)
        if at < 0:
            return UNUSUAL


@compiled
def _squeezed(text, at, end):
    """Take the white space between the tokens of a value out; return its new end."""
    to = at
    while at < end:
        begin = at
        if _byte(text, at) == _QUOTE:
            at = _after_string(text, at + 1)
        elif _byte(text, at) <= 32:
            at += 1
            continue
        else:
            at += 1
        if to == begin:
            to = at
        else:
            for place in range(begin, at):
                text[np.uint64(to)] = _byte(text, place)
                to += 1
    return to


@compiled
def _digits(text, at, count):
    """Return the number that so many digits are, or a negative one."""
    number = 0
    for place in range(at, at + count):
        if not 48 <= _byte(text, place) <= 57:
            return -1_000_000
        number = 10 * number + _byte(text, place) - 48
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
        micros += _byte(text, at + 6) >= 53
    return micros


@compiled
def _time_us(text, at, end):
    """Return the microseconds since 1970 that an RFC 3339 time is, or UNUSUAL."""
    # The shortest is 2025-11-23T12:00:00Z.
    if (
        end - at < 20
        or _byte(text, at + 4) != 45
        or _byte(text, at + 7) != 45
        or _byte(text, at + 10) != 84
    ):
        return UNUSUAL
    if _byte(text, at + 13) != _COLON or _byte(text, at + 16) != _COLON:
        return UNUSUAL
    days = _days(_digits(text, at, 4), _digits(text, at + 5, 2), _digits(text, at + 8, 2))
    hour, minute = _digits(text, at + 11, 2), _digits(text, at + 14, 2)
    second = _digits(text, at + 17, 2)
    if days < 0 or not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        return UNUSUAL
    zone, offset = end - 1, 0
    if _byte(text, zone) != 90:  # Z
        zone = end - 6
        ahead_hours, ahead_minutes = _digits(text, end - 5, 2), _digits(text, end - 2, 2)
        if (
            zone < at + 19
            or _byte(text, end - 3) != _COLON
            or (_byte(text, zone) != 43 and _byte(text, zone) != 45)
        ):
            return UNUSUAL
        if not (0 <= ahead_hours < 24 and 0 <= ahead_minutes < 60):
            return UNUSUAL
        offset = 60 * ahead_hours + ahead_minutes
        offset = offset if _byte(text, zone) == 43 else -offset
    micros = 0
    if zone != at + 19:
        micros = _fraction_us(text, at + 20, zone) if _byte(text, at + 19) == 46 else UNUSUAL
        if micros < 0:
            return UNUSUAL
    return ((days * 24 + hour) * 60 + minute - offset) * 60_000_000 + second * 1_000_000 + micros


@compiled
def _attribute(text, begin, end):
    """Return the number of the attribute that a key names, or UNUSUAL."""
    size = end - begin
    if size == 2:
        return _ID if _starts_with(text, begin, _KEY_ID) > 0 else UNUSUAL
    if size == 4:
        if _starts_with(text, begin, _KEY_TYPE) > 0:
            return _TYPE
        if _starts_with(text, begin, _KEY_DATA) > 0:
            return _DATA
        return _TIME_SENT if _starts_with(text, begin, _KEY_TIME) > 0 else UNUSUAL
    if size == 6:
        return _SOURCE if _starts_with(text, begin, _KEY_SOURCE) > 0 else UNUSUAL
    if size == 7:
        return _SUBJECT if _starts_with(text, begin, _KEY_SUBJECT) > 0 else UNUSUAL
    if size == 11:
        return _SPECVERSION if _starts_with(text, begin, _KEY_VERSION) > 0 else UNUSUAL
    if size == 15:
        return _DATACONTENTTYPE if _starts_with(text, begin, _KEY_CONTENT) > 0 else UNUSUAL
    return UNUSUAL


@compiled
def _after_attribute(text, at, number, row, bounds, rows):
    """Read one attribute's value; return the place after it, or UNUSUAL."""
    depth_max, data_max, first_us, last_us, _ = bounds
    if number == _DATA:
        end = _after_value(text, at, min(depth_max, DEPTH_MAX))
        if end < 0:
            return UNUSUAL
        squeezed = _squeezed(text, at, end)
        if squeezed - at > data_max:
            return UNUSUAL
        is_null = _starts_with(text, at, _NULL) == end
        rows[row, 2 * _DATA], rows[row, 2 * _DATA + 1] = at, at if is_null else squeezed
        return end
    if number == _SPECVERSION:
        return _starts_with(text, at, _VERSION)
    if number in (_TIME_SENT, _DATACONTENTTYPE):
        end = _starts_with(text, at, _NULL)
        if end > 0:
            return end
    if number == _DATACONTENTTYPE:
        return _starts_with(text, at, _CONTENT)
    if _byte(text, at) != _QUOTE:
        return UNUSUAL
    end = _name_end(text, at + 1)
    if end < 0:
        return UNUSUAL
    if number == _TIME_SENT:
        moment = _time_us(text, at + 1, end)
        rows[row, TIME], rows[row, STAMPED] = moment, 0
        return end + 1 if first_us <= moment <= last_us else UNUSUAL
    rows[row, 2 * number], rows[row, 2 * number + 1] = at + 1, end
    return end + 1


@compiled
def _after_event(text, at, row, bounds, rows):
    """Read one event; return the place after it, or UNUSUAL."""
    if _byte(text, at) != _OPEN:
        return UNUSUAL
    rows[row] = 0
    rows[row, TIME], rows[row, STAMPED] = bounds[4], 1
    seen = 0
    while True:
        at = _after_space(text, at + 1)
        if _byte(text, at) != _QUOTE:
            return UNUSUAL
        begin = at + 1
        at = _name_end(text, begin)
        number = _attribute(text, begin, at)
        if number < 0 or seen & (1 << number):
            return UNUSUAL
        seen |= 1 << number
        at = _after_space(text, at + 1)
        if _byte(text, at) != _COLON:
            return UNUSUAL
        at = _after_space(text, at + 1)
        at = _after_attribute(text, at, number, row, bounds, rows)
        if at < 0:
            return UNUSUAL
        at = _after_space(text, at)
        if _byte(text, at) == _CLOSE:
            return at + 1 if seen & _ALL_NAMES == _ALL_NAMES else UNUSUAL
        if _byte(text, at) != _COMMA:
            return UNUSUAL


@compiled
def scan(text, shape, newlines, bounds, rows):
    """Find the events of a body; return how many, or UNUSUAL.

    Args:
        text: the body's bytes and a 0; data is changed in place to have no white space.
        shape: ONE, MANY or LINES.
        newlines: of LINES, how many are in the text; an event on two lines is none.
        bounds: deepest nesting of data, its most bytes, first and last acceptable time, and the
            time that an event without one has.
        rows: filled in; an event each: see `FIELDS`.
    """
    end = len(text) - 1
    row = 0
    at = 0
    if shape == MANY:
        at = _after_space(text, at)
        if _byte(text, at) != _OPEN_LIST:
            return UNUSUAL
        at = _after_space(text, at + 1)
        if _byte(text, at) == _CLOSE_LIST:
            return 0 if _after_space(text, at + 1) == end else UNUSUAL
    while True:
        while (
            _byte(text, at) == 32
            or _byte(text, at) == _NEWLINE
            or _byte(text, at) == 13
            or _byte(text, at) == 9
        ):
            newlines -= _byte(text, at) == _NEWLINE
            at += 1
        if shape == LINES and at == end:
            return row if newlines == 0 else UNUSUAL
        if row == len(rows):
            return UNUSUAL
        at = _after_event(text, at, row, bounds, rows)
        if at < 0:
            return UNUSUAL
        row += 1
        if shape == LINES:
            while _byte(text, at) == 32 or _byte(text, at) == 13 or _byte(text, at) == 9:
                at += 1
            if at != end and _byte(text, at) != _NEWLINE:
                return UNUSUAL
            continue
        at = _after_space(text, at)
        if shape == ONE:
            return row if at == end else UNUSUAL
        if _byte(text, at) == _CLOSE_LIST:
            return row if _after_space(text, at + 1) == end else UNUSUAL
        if _byte(text, at) != _COMMA:
            return UNUSUAL
        at += 1
