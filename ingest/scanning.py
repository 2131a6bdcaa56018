"""Finds the events of a body: a loop over its bytes, compiled.

`scan` knows the usual event only, and that one wholly: JSON without a fault, attributes that it
expects, names without escapes, times as RFC 3339 writes them. About anything else it says
`UNUSUAL`, and `ingest.event` decides. It never takes what that would refuse, nor reads it
differently.

What is compiled takes the text, and a row, by its address: see `ingest.plain_text`.
"""

from compiled.memory import byte_at, compiled, inlined, long_at, put_long
from ingest.plain_json import (
    CLOSE,
    CLOSE_LIST,
    COLON,
    COMMA,
    DEPTH_MAX,
    KEY_BYTES,
    NULL,
    OPEN,
    OPEN_LIST,
    after_known_key,
    after_value,
    forget_keys,
    note_key,
    squeezed,
)
from ingest.plain_text import (
    QUOTE,
    UNUSUAL,
    after_space,
    is_ascii,
    may_have_space,
    name_end,
    starts_with,
    word,
)
from ingest.plain_times import time_us

ONE, MANY, LINES, ANY = 0, 1, 2, 3
"""Shapes of a body: one event, an array of events, an event a line, one or an array."""

FIELDS = ("tenant", "id", "source", "type", "subject", "data", "extensions")
"""Of an event a row tells where each of these begins and ends in the text; then its time."""
TIME = 2 * len(FIELDS)
"""Microseconds since 1970."""
STAMPED = TIME + 1
"""1 where ingest gave the time."""
ROW_ITEMS = STAMPED + 1
ROW_BYTES = 8 * ROW_ITEMS

BODY = ("tenant", "begin", "end", "shape", "is_utf8", "first_us", "last_us", "stamp_us", "found")
"""Of a body: where its tenant's name and it begin and where it ends, whether it was seen to be
UTF-8, the first and last acceptable time of its events, the time that one without has; and,
filled in, how many events were found."""
IS_UTF8, FOUND = BODY.index("is_utf8"), BODY.index("found")

_ID, _SOURCE, _TYPE, _SUBJECT, _DATA = 1, 2, 3, 4, 5
_TIME_SENT, _SPECVERSION, _DATACONTENTTYPE = 6, 7, 8
"""Attributes that have no field of their own, or are only looked at."""
_ALL_NAMES = 0b11110
_DATA_SLOT = 9
"""Of the first key in data; those of attributes come before."""
_NEWLINE = 10

_KEY_ID, _KEY_TYPE, _KEY_TIME, _KEY_DATA = map(word, ("id", "type", "time", "data"))
_KEY_SOURCE, _KEY_SUBJECT = map(word, ("source", "subject"))
_KEY_VERSION, _KEY_CONTENT = map(word, ("specversion", "datacontenttype"))
_VERSION, _CONTENT = map(word, ('"1.0"', '"application/json"'))


@inlined
def _attribute(text, begin, end):
    """Return the number of the attribute that a key names, or UNUSUAL."""
    size = end - begin
    if size == 2:
        return _ID if starts_with(text, begin, _KEY_ID) > 0 else UNUSUAL
    if size == 4:
        if starts_with(text, begin, _KEY_TYPE) > 0:
            return _TYPE
        if starts_with(text, begin, _KEY_DATA) > 0:
            return _DATA
        return _TIME_SENT if starts_with(text, begin, _KEY_TIME) > 0 else UNUSUAL
    if size == 6:
        return _SOURCE if starts_with(text, begin, _KEY_SOURCE) > 0 else UNUSUAL
    if size == 7:
        return _SUBJECT if starts_with(text, begin, _KEY_SUBJECT) > 0 else UNUSUAL
    if size == 11:
        return _SPECVERSION if starts_with(text, begin, _KEY_VERSION) > 0 else UNUSUAL
    if size == 15:
        return _DATACONTENTTYPE if starts_with(text, begin, _KEY_CONTENT) > 0 else UNUSUAL
    return UNUSUAL


@inlined
def _put_place(row, field, begin, end):
    put_long(row, 16 * field, begin)
    put_long(row, 16 * field + 8, end)


@inlined
def _after_attribute(text, at, number, bounds, row, keys):
    """Read one attribute's value; return the place after it, or UNUSUAL."""
    depth_max, data_max, first_us, last_us, _ = bounds
    if number == _DATA:
        end = after_value(text, at, min(depth_max, DEPTH_MAX), keys, _DATA_SLOT)
        if end < 0 or end - at > data_max:
            return UNUSUAL
        is_null = starts_with(text, at, NULL) == end
        _put_place(row, _DATA, at, at if is_null else end)
        return end
    if number == _SPECVERSION:
        return starts_with(text, at, _VERSION)
    if number in (_TIME_SENT, _DATACONTENTTYPE):
        end = starts_with(text, at, NULL)
        if end > 0:
            return end
    if number == _DATACONTENTTYPE:
        return starts_with(text, at, _CONTENT)
    if byte_at(text, at) != QUOTE:
        return UNUSUAL
    end = name_end(text, at + 1)
    if end < 0:
        return UNUSUAL
    if number == _TIME_SENT:
        moment = time_us(text, at + 1, end)
        put_long(row, 8 * TIME, moment)
        put_long(row, 8 * STAMPED, 0)
        return end + 1 if first_us <= moment <= last_us else UNUSUAL
    _put_place(row, number, at + 1, end)
    return end + 1


@inlined
def _attribute_at(text, at, keys, slot):
    """Return the number of the attribute that is named next, and the place of its value."""
    after = after_known_key(text, at, keys, slot)
    if after > 0:
        return long_at(keys, KEY_BYTES * slot + 16), after_space(text, after)
    before = at
    at = after_space(text, at)
    if byte_at(text, at) != QUOTE:
        return UNUSUAL, at
    begin = at + 1
    at = name_end(text, begin)
    number = _attribute(text, begin, at)
    if number < 0:
        return UNUSUAL, at
    at = after_space(text, at + 1)
    if byte_at(text, at) != COLON:
        return UNUSUAL, at
    note_key(keys, slot, before, at + 1, number)
    return number, after_space(text, at + 1)


@compiled
def _after_event(text, at, bounds, row, keys):
    """Read one event; return the place after it, or UNUSUAL."""
    if byte_at(text, at) != OPEN:
        return UNUSUAL
    for field in range(_DATA, len(FIELDS)):
        _put_place(row, field, 0, 0)
    put_long(row, 8 * TIME, bounds[4])
    put_long(row, 8 * STAMPED, 1)
    seen = slot = 0
    while True:
        number, at = _attribute_at(text, at + 1, keys, slot)
        if number < 0 or seen & (1 << number):
            return UNUSUAL
        seen |= 1 << number
        slot += 1
        at = _after_attribute(text, at, number, bounds, row, keys)
        if at < 0:
            return UNUSUAL
        at = after_space(text, at)
        if byte_at(text, at) == CLOSE:
            return at + 1 if seen & _ALL_NAMES == _ALL_NAMES else UNUSUAL
        if byte_at(text, at) != COMMA:
            return UNUSUAL


@compiled
def _after_lines(text, at, newlines):
    """Return the place after white space, and how many line ends are left to come."""
    while (
        byte_at(text, at) == 32
        or byte_at(text, at) == _NEWLINE
        or byte_at(text, at) == 13
        or byte_at(text, at) == 9
    ):
        newlines -= byte_at(text, at) == _NEWLINE
        at += 1
    return at, newlines


@compiled
def _scan_lines(text, begin, end, bounds, rows, first, last, keys):
    """Find the events of lines; an event on two lines is none."""
    newlines = 0
    for at in range(begin, end):
        newlines += byte_at(text, at) == _NEWLINE
    if newlines > 2 * (last - first):
        return UNUSUAL
    row, at = first, begin
    while True:
        at, newlines = _after_lines(text, at, newlines)
        if at == end:
            return row if newlines == 0 else UNUSUAL
        if row == last:
            return UNUSUAL
        at = _after_event(text, at, bounds, rows + row * ROW_BYTES, keys)
        if at < 0:
            return UNUSUAL
        row += 1
        while byte_at(text, at) == 32 or byte_at(text, at) == 13 or byte_at(text, at) == 9:
            at += 1
        if at != end and byte_at(text, at) != _NEWLINE:
            return UNUSUAL


@compiled
def _scan_array(text, begin, end, bounds, rows, first, last, keys):
    """Find the events of an array; `begin` is the place of its bracket."""
    at = after_space(text, begin + 1)
    if byte_at(text, at) == CLOSE_LIST:
        return first if after_space(text, at + 1) == end else UNUSUAL
    row = first
    while row < last:
        at = _after_event(text, after_space(text, at), bounds, rows + row * ROW_BYTES, keys)
        if at < 0:
            return UNUSUAL
        row += 1
        at = after_space(text, at)
        if byte_at(text, at) == CLOSE_LIST:
            return row if after_space(text, at + 1) == end else UNUSUAL
        if byte_at(text, at) != COMMA:
            return UNUSUAL
        at += 1
    return UNUSUAL


@compiled
def _scan(text, begin, end, shape, bounds, rows, first, last, keys):
    """Find the events of a body; return where its rows end, or UNUSUAL."""
    if shape == LINES:
        return _scan_lines(text, begin, end, bounds, rows, first, last, keys)
    at = after_space(text, begin)
    is_array = byte_at(text, at) == OPEN_LIST
    if is_array and shape != ONE:
        return _scan_array(text, at, end, bounds, rows, first, last, keys)
    if shape == MANY or is_array:
        return UNUSUAL
    at = _after_event(text, at, bounds, rows + first * ROW_BYTES, keys)
    if at < 0 or after_space(text, at) != end:
        return UNUSUAL
    return first + 1


@compiled
def _squeeze(text, row):
    """Take the white space out of an event's data; tell whether there may have been some."""
    begin, end = row[2 * _DATA], row[2 * _DATA + 1]
    if not may_have_space(text, begin, end):
        return False
    row[2 * _DATA + 1] = squeezed(text, begin, end)
    return True


@compiled
def scan(text, bodies, limits, done, rows, reached, known):
    """Find the events of bodies, up to the first that is unusual.

    Args:
        text: bytes in which the bodies stand, a 0 behind each, and a chunk of 0 at the end. Data of
            events that are found is changed in place to have no white space.
        bodies: a row per body: see `BODY`.
        limits: deepest nesting of data, its most bytes, most events of a body.
        done: how many bodies were read before.
        rows: filled in; an event each: see `FIELDS`.
        reached: how many rows there are before.
        known: keys that stood in this text; of 0 at first. See `ingest.plain_json.note_key`.

    Returns:
        How many bodies are done, and how many rows there are.
    """
    depth_max, data_max, events_max = limits
    address, rows_address = text.ctypes.data, rows.ctypes.data
    keys = known.ctypes.data
    for number in range(done, len(bodies)):
        body = bodies[number]
        begin, end = body[1], body[2]
        if not body[IS_UTF8] and not is_ascii(address, begin, end):
            return number, reached
        bounds = depth_max, data_max, body[5], body[6], body[7]
        last = min(reached + events_max, len(rows))
        last = _scan(address, begin, end, body[3], bounds, rows_address, reached, last, keys)
        if last < 0:
            return number, reached
        has_changed = False
        for row in range(reached, last):
            rows[row, 0], rows[row, 1] = body[0], begin
            has_changed |= _squeeze(address, rows[row])
        if has_changed:
            forget_keys(keys)
        body[FOUND] = last - reached
        reached = last
    return len(bodies), reached
