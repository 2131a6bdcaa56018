"""Reads the texts of JSON in place: compiled loops that say where one ends, or that it is unusual.

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
    inlined,
    lowest_bit,
    word_at,
)
from ingest.event import NAME_CHARS_MAX

UNUSUAL = -1
QUOTE, _BACKSLASH = 34, 92
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


@inlined
def any_within(found, left):
    """Tell whether one of the next bytes was found, of which so many are left to look at."""
    return found != 0 and (left >= CHUNK_BYTES or lowest_bit(found) < left)


@compiled
def is_ascii(text, begin, end):
    """Tell whether a part of the text is ASCII."""
    for at in range(begin, end, CHUNK_BYTES):
        if any_within(_highs(text, at), end - at):
            return False
    return True


@compiled
def may_have_space(text, begin, end):
    """Tell whether a part of the text holds white space, in a string or outside of it."""
    for at in range(begin, end, CHUNK_BYTES):
        if any_within(_lows(text, at), end - at):
            return True
    return False
