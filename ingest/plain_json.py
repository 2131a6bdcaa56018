"""Reads JSON in place: compiled loops that say where a value ends, or that it is unusual.

The keys of one object mostly stand in the next one, too, in the same order: a key is remembered
by its number in the order, and known again by its bytes.
"""

from compiled.memory import (
    CHUNK_BYTES,
    byte_at,
    compiled,
    differences,
    inlined,
    long_at,
    put_byte,
    put_long,
)
from ingest.plain_text import (
    QUOTE,
    UNUSUAL,
    after_space,
    after_string,
    any_within,
    starts_with,
    word,
)

DEPTH_MAX = 62
KEYS_MAX = 64
KEY_BYTES = 24
"""Of a key that is remembered: the place where it begins, its size, a number."""

COLON, COMMA = 58, 44
OPEN, CLOSE, OPEN_LIST, CLOSE_LIST = 123, 125, 91, 93
NULL, _TRUE, _FALSE = map(word, ("null", "true", "false"))


@compiled
def _after_digits(text, at):
    """Return the place after one or more digits, or UNUSUAL."""
    begin = at
    while 48 <= byte_at(text, at) <= 57:
        at += 1
    return at if at > begin else UNUSUAL


@compiled
def _after_number(text, at):
    if byte_at(text, at) == 45:  # -
        at += 1
    at = at + 1 if byte_at(text, at) == 48 else _after_digits(text, at)
    if at > 0 and byte_at(text, at) == 46:  # .
        at = _after_digits(text, at + 1)
    if at > 0 and byte_at(text, at) | 32 == 101:  # e
        at += 1
        if byte_at(text, at) == 43 or byte_at(text, at) == 45:
            at += 1
        at = _after_digits(text, at)
    return at


@inlined
def _after_plain(text, at):
    """Return the place after a string, a number, true, false or null; or UNUSUAL."""
    byte = byte_at(text, at)
    if byte == QUOTE:
        return after_string(text, at + 1)
    if byte == 116:
        return starts_with(text, at, _TRUE)
    if byte == 102:
        return starts_with(text, at, _FALSE)
    if byte == 110:
        return starts_with(text, at, NULL)
    return _after_number(text, at)


@inlined
def _is_same(text, at, other, size):
    """Tell whether the same bytes stand at two places."""
    for done in range(0, size, CHUNK_BYTES):
        if any_within(differences(text + at + done, text + other + done), size - done):
            return False
    return True


@inlined
def after_known_key(text, at, keys, slot):
    """Return the place after a key and its colon that stood here the last time, or UNUSUAL."""
    if slot >= KEYS_MAX:
        return UNUSUAL
    begin, size = long_at(keys, KEY_BYTES * slot), long_at(keys, KEY_BYTES * slot + 8)
    return at + size if size and _is_same(text, at, begin, size) else UNUSUAL


@inlined
def note_key(keys, slot, begin, end, number):
    """Remember a key, where it begins and ends, and a number for it."""
    if slot < KEYS_MAX:
        put_long(keys, KEY_BYTES * slot, begin)
        put_long(keys, KEY_BYTES * slot + 8, end - begin)
        put_long(keys, KEY_BYTES * slot + 16, number)


@compiled
def forget_keys(keys):
    """Forget all keys: the text that they stood in is not what it was."""
    for slot in range(KEYS_MAX):
        put_long(keys, KEY_BYTES * slot + 8, 0)


@inlined
def _after_key(text, at, keys, slot):
    """Return the place after a member's name and its colon, or UNUSUAL."""
    begin, at = at, after_known_key(text, at, keys, slot)
    if at > 0:
        return at
    at = after_space(text, begin)
    if byte_at(text, at) != QUOTE:
        return UNUSUAL
    at = after_string(text, at + 1)
    if at < 0:
        return UNUSUAL
    at = after_space(text, at)
    if byte_at(text, at) != COLON:
        return UNUSUAL
    note_key(keys, slot, begin, at + 1, 0)
    return at + 1


@compiled
def after_value(text, at, depth_max, keys, slot):
    """Return the place after any JSON value that begins at `at`, or UNUSUAL.

    `slot` is that of the value's first key.
    """
    depth, kinds = 0, 0  # of each open bracket one bit: 1 for a list
    while True:
        at = after_space(text, at)
        byte = byte_at(text, at)
        if byte in (OPEN, OPEN_LIST):
            depth += 1
            if depth > depth_max:
                return UNUSUAL
            is_list = byte == OPEN_LIST
            kinds = 2 * kinds + is_list
            inside = after_space(text, at + 1)
            if byte_at(text, inside) == (CLOSE_LIST if is_list else CLOSE):
                at = inside  # closed below
            else:
                at = at + 1 if is_list else _after_key(text, at + 1, keys, slot)
                if at < 0:
                    return UNUSUAL
                slot += 1
                continue
        else:
            at = _after_plain(text, at)
            if at < 0:
                return UNUSUAL
        while depth:
            at = after_space(text, at)
            is_list = kinds & 1
            if byte_at(text, at) != (CLOSE_LIST if is_list else CLOSE):
                break
            depth -= 1
            kinds >>= 1
            at += 1
        if depth == 0:
            return at
        if byte_at(text, at) != COMMA:
            return UNUSUAL
        at = at + 1 if kinds & 1 else _after_key(text, at + 1, keys, slot)
        if at < 0:
            return UNUSUAL
        slot += 1


@compiled
def squeezed(text, at, end):
    """Take the white space between the tokens of a value out; return its new end."""
    to = at
    while at < end:
        begin = at
        if byte_at(text, at) == QUOTE:
            at = after_string(text, at + 1)
        elif byte_at(text, at) <= 32:
            at += 1
            continue
        else:
            at += 1
        if to == begin:
            to = at
        else:
            for place in range(begin, at):
                put_byte(text, to, byte_at(text, place))
                to += 1
    return to
