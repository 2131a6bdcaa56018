"""Reads JSON in place: compiled loops that say where a value ends, or that it is unusual.

What is read is the text at an address. Behind it stands a byte of 0, which JSON has nowhere:
every loop stops there, or within the chunk that begins there.
"""

from typing import Any

import numpy as np

from compiled.memory import (
    CHUNK_BYTES,
    bits_of,
    byte_at,
    byte_below,
    byte_is,
    compiled,
    differences,
    inlined,
    long_at,
    lowest_bit,
    put_byte,
    put_long,
    word_at,
)
from ingest.event import NAME_CHARS_MAX

UNUSUAL = -1
DEPTH_MAX = 62
KEYS_MAX = 64
KEY_BYTES = 24
"""Of a key that is remembered: the place where it begins, its size, a number."""

QUOTE, _BACKSLASH, COLON, COMMA = 34, 92, 58, 44
OPEN, CLOSE, OPEN_LIST, CLOSE_LIST = 123, 125, 91, 93
_DELETE, _LATIN_CONTROLS, _LATIN_TEXT = 0x7F, 0xC2, 0xA0
_HIGH_SURROGATE, _LOW_SURROGATE_END = 0xD800, 0xE000

_Word = tuple[int, tuple[tuple["np.uint64", "np.uint64"], ...]]


def word(text: str) -> _Word:
    """Return a word's size and its bytes, eight at a time, each with a mask of those that are."""
    parts = [text.encode()[at : at + 8] for at in range(0, len(text), 8)]
    masks = [int.from_bytes(b"\xff" * len(part), "little") for part in parts]
    values = [int.from_bytes(part, "little") for part in parts]
    return len(text), tuple(
        (np.uint64(value), np.uint64(mask)) for value, mask in zip(values, masks, strict=True)
    )


NULL, _TRUE, _FALSE = map(word, ("null", "true", "false"))


@inlined
def starts_with(text, at, word):
    """Return where a word ends that stands at a place, or UNUSUAL."""
    size, parts = word
    begin = at
    for value, mask in parts:
        if word_at(text, at) & mask != value:
            return UNUSUAL
        at += 8
    return begin + size


@inlined
def after_space(text, at):
    """Return the place of the next byte that is not white space."""
    while (
        byte_at(text, at) == 32
        or byte_at(text, at) == 10
        or byte_at(text, at) == 13
        or byte_at(text, at) == 9
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
    kind = byte_at(text, at + 1)
    if kind in (34, 92, 47, 98, 102, 110, 114, 116):  # "\/bfnrt
        return at + 2
    if kind != 117:
        return UNUSUAL
    code = 0
    for place in range(at + 2, at + 6):
        digit = _hex(np.int64(byte_at(text, place)))
        if digit < 0:
            return UNUSUAL
        code = 16 * code + digit
    if _HIGH_SURROGATE <= code < _LOW_SURROGATE_END:
        return UNUSUAL
    return at + 6


def _ends_text(builder: Any, chunk: Any) -> Any:
    """Tell which bytes a string does not take as they are."""
    marks = builder.or_(byte_is(builder, chunk, QUOTE), byte_is(builder, chunk, _BACKSLASH))
    return builder.or_(marks, byte_below(builder, chunk, 32))


def _ends_name(builder: Any, chunk: Any) -> Any:
    """Tell which bytes may end a name, or are not ASCII."""
    ascii_only = builder.or_(byte_is(builder, chunk, _DELETE), _is_high(builder, chunk))
    return builder.or_(_ends_text(builder, chunk), ascii_only)


def _is_high(builder: Any, chunk: Any) -> Any:
    """Tell which bytes are not ASCII."""
    return builder.not_(byte_below(builder, chunk, 0x80))


def _is_low(builder: Any, chunk: Any) -> Any:
    """Tell which bytes are white space or control characters."""
    return byte_below(builder, chunk, 33)


_text_ends, _name_ends = bits_of(_ends_text), bits_of(_ends_name)
_highs, _lows = bits_of(_is_high), bits_of(_is_low)


@inlined
def _after_plain_text(text, at):
    """Return the place of the next byte that a string does not take as it is."""
    while True:
        found = _text_ends(text, at)
        if found:
            return at + lowest_bit(found)
        at += CHUNK_BYTES


@compiled
def after_string(text, at):
    """Return the place after a string that opens before `at`, or UNUSUAL."""
    while True:
        at = _after_plain_text(text, at)
        if byte_at(text, at) == QUOTE:
            return at + 1
        if byte_at(text, at) != _BACKSLASH:
            return UNUSUAL
        at = _after_escape(text, at)
        if at < 0:
            return UNUSUAL


@compiled
def name_end(text, at):
    """Return where a name ends that begins at `at`: not empty, no escape, no control character."""
    begin = at
    while True:
        found = _name_ends(text, at)
        if not found:
            at += CHUNK_BYTES
            continue
        at += lowest_bit(found)
        byte = byte_at(text, at)
        if byte < 0x80 or (byte == _LATIN_CONTROLS and byte_at(text, at + 1) < _LATIN_TEXT):
            break
        at += 1
    if byte_at(text, at) != QUOTE or at == begin:
        return UNUSUAL
    characters = at - begin
    if characters > NAME_CHARS_MAX:
        for place in range(begin, at):
            characters -= (byte_at(text, place) & 0xC0) == 0x80
    return at if characters <= NAME_CHARS_MAX else UNUSUAL


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
def _any_within(found, left):
    """Tell whether one of the next bytes was found, of which so many are left to look at."""
    return found != 0 and (left >= CHUNK_BYTES or lowest_bit(found) < left)


@inlined
def _is_same(text, at, other, size):
    """Tell whether the same bytes stand at two places."""
    for done in range(0, size, CHUNK_BYTES):
        if _any_within(differences(text + at + done, text + other + done), size - done):
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


@compiled
def is_ascii(text, begin, end):
    """Tell whether a part of the text is ASCII."""
    for at in range(begin, end, CHUNK_BYTES):
        if _any_within(_highs(text, at), end - at):
            return False
    return True


@compiled
def may_have_space(text, begin, end):
    """Tell whether a part of the text holds white space, in a string or outside of it."""
    for at in range(begin, end, CHUNK_BYTES):
        if _any_within(_lows(text, at), end - at):
            return True
    return False
