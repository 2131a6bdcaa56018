"""Reads members of plain JSON objects out of a column of texts, in one compiled pass.

Plain is what nearly all senders send: an object in ASCII, without white space, escapes or anything
nested, whose numbers have no exponents. A column with anything else in it, or with a wanted member
twice in one object, is left to `pipelines.extract` and `pipelines.values`, which say what a value
is; what is read here is what they would read.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
import pyarrow as pa

from compiled.memory import (
    WORD_BYTES,
    byte_at,
    inlined,
    lowest_bit,
    number_at,
    word_before,
    word_within,
)
from pipelines.code_by_text import CodeByText
from pipelines.decimals import column_of
from pipelines.meter import path_names
from pipelines.plain_numbers import exact_limbs
from pipelines.text_columns import Texts, placed, texts_of
from pipelines.values import MISSING, Codes

_ABSENT, _NULL, _TEXT, _NUMBER, _TRUTH = range(5)
_QUOTE, _BACKSLASH, _OPEN, _CLOSE = ord('"'), ord("\\"), ord("{"), ord("}")
_COLON, _COMMA, _MINUS, _POINT, _ZERO, _NINE = (ord(each) for each in ":,-.09")
_SPACE = 0x20
_BRACKETS = 2
_TRUE, _FALSE, _NOTHING = (
    (len(word), np.uint64(int.from_bytes(word, "little"))) for word in (b"true", b"false", b"null")
)
_TRUE_BYTE, _FALSE_BYTE, _NULL_BYTE = b"tfn"
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_NAMES_MAX = 60
_BEHIND_NAMES = WORD_BYTES * " "
"""So that names can be read a word at a time."""


@dataclass(frozen=True, slots=True)
class PlainMember:
    """One member of each object of a column: where its value stands, and what it is."""

    data: Any
    starts: Any
    sizes: Any
    """Nothing where the member is absent or null; a text without its quotes."""
    kinds: Any

    def texts(self) -> Codes:
        """Return the values as texts; see `pipelines.values.texts`."""
        known = CodeByText()
        codes = known.codes_at(self.data, self.starts, self.sizes)
        return Codes(codes, known.texts.to_pylist())

    def numbers(self) -> tuple[Any, dict[int, str]] | None:
        """Return the values as numbers; see `pipelines.values.numbers`; None where one is odd."""
        has_value = self.kinds > _NULL
        limbs, is_plain = exact_limbs(self.data, self.starts, self.sizes, has_value)
        if not is_plain or (self.kinds == _TRUTH).any():
            return None
        missing = np.flatnonzero(~has_value).tolist()
        return column_of(limbs), dict.fromkeys(missing, MISSING)


def plain_members(texts: Any, paths: Collection[str]) -> dict[str, PlainMember]:
    """Return, by path, members of a column of JSON texts; nothing where one is not plain."""
    names = [path_names(path) for path in paths]
    if not 0 < len(names) <= _NAMES_MAX or any(len(each) > 1 for each in names):
        return {}
    starts, data = texts_of(texts)
    wanted = texts_of(pa.array([*(name for (name,) in names), _BEHIND_NAMES], pa.string()))
    spans, is_plain = _read((starts, data), wanted)
    if not is_plain:
        return {}
    return {
        path: PlainMember(data, *(part[place] for part in spans))
        for place, path in enumerate(paths)
    }


@inlined
def _ends_in(word: Any) -> Any:
    """Return the high bits of the bytes of a word that no plain text has in it."""
    quotes, slashes = word ^ (_ONES * np.uint64(_QUOTE)), word ^ (_ONES * np.uint64(_BACKSLASH))
    controls = (word - _ONES * np.uint64(_SPACE)) & ~word
    return (
        ((quotes - _ONES) & ~quotes) | ((slashes - _ONES) & ~slashes) | controls | word
    ) & _HIGHS


@inlined
def _text_end(text: Any, at: int, end: int, limit: int) -> int:
    """Return where a text ends, behind its quote; -1 where it is not plain."""
    while at < end:
        word = word_within(text, at, limit)
        found = _ends_in(word)
        if found:
            bit = lowest_bit(found)
            byte = (word >> np.uint64(bit - 7)) & np.uint64(0xFF)
            after = at + (bit >> 3) + 1
            return after if byte == _QUOTE and after <= end else -1
        at += WORD_BYTES
    return -1


@inlined
def _digits_end(text: Any, at: int) -> int:
    while _ZERO <= byte_at(text, at) <= _NINE:
        at += 1
    return at


@inlined
def _number_end(text: Any, at: int) -> int:
    """Return where a number without an exponent ends; -1 where there is none."""
    first = at + 1 if byte_at(text, at) == _MINUS else at
    last = _digits_end(text, first)
    if last == first or (last > first + 1 and byte_at(text, first) == _ZERO):
        return -1
    if byte_at(text, last) != _POINT:
        return last
    first = last + 1
    last = _digits_end(text, first)
    return -1 if last == first else last


@inlined
def _word_end(text: Any, at: int, end: int, limit: int, word: Any) -> int:
    """Return where a word ends that must stand there; -1 where it does not."""
    size, letters = word
    return at + size if word_before(text, at, min(end, at + size), limit) == letters else -1


@inlined
def _value(text: Any, at: int, end: int, limit: int) -> Any:
    """Return what value begins there, and where it ends: -1 where it is not plain."""
    byte = byte_at(text, at)
    if byte == _QUOTE:
        return _TEXT, _text_end(text, at + 1, end, limit)
    if byte == _TRUE_BYTE:
        return _TRUTH, _word_end(text, at, end, limit, _TRUE)
    if byte == _FALSE_BYTE:
        return _TRUTH, _word_end(text, at, end, limit, _FALSE)
    if byte == _NULL_BYTE:
        return _NULL, _word_end(text, at, end, limit, _NOTHING)
    return _NUMBER, _number_end(text, at)


@inlined
def _is_same(text: Any, at: int, limit: int, other: Any, first: int, size: int, end: int) -> bool:
    """Tell whether so many bytes, beyond a word, are the same in two texts."""
    for done in range(WORD_BYTES, size, WORD_BYTES):
        left = word_before(text, at + done, at + size, limit)
        if left != word_before(other, first + done, first + size, end):
            return False
    return True


@inlined
def _place_of(text: Any, at: int, size: int, limit: int, names: Any, count: int) -> int:
    """Return which of the names this is, or -1."""
    starts, letters, end = names
    word = word_before(text, at, at + size, limit)
    for place in range(count):
        first, last = number_at(starts, place), number_at(starts, place + 1)
        if (
            last - first == size
            and word_before(letters, first, last, end) == word
            and _is_same(text, at, limit, letters, first, size, end)
        ):
            return place
    return -1


@inlined
def _member(text: Any, at: int, end: int, limit: int, names: Any, count: int) -> Any:
    """Return which of the names a member has; where its value begins, its size and kind; its end.

    The end is -1 where it is not plain. The last byte before `end` is a bracket: nothing plain
    goes over it.
    """
    colon = _text_end(text, at + 1, end, limit) if byte_at(text, at) == _QUOTE else -1
    if colon < 0 or byte_at(text, colon) != _COLON:
        return -1, (at, 0, _ABSENT), -1
    place = _place_of(text, at + 1, colon - at - 2, limit, names, count)
    kind, after = _value(text, colon + 1, end, limit)
    quote = 1 if kind == _TEXT else 0
    size = 0 if kind == _NULL else after - colon - 1 - 2 * quote
    return place, (colon + 1 + quote, size, kind), after


@inlined
def _is_bracketed(text: Any, at: int, end: int) -> bool:
    is_long_enough = end - at >= _BRACKETS
    return is_long_enough and byte_at(text, at) == _OPEN and byte_at(text, end - 1) == _CLOSE


@nb.njit(
    nb.types.Tuple((nb.int32[:, :, ::1], nb.boolean))(Texts, Texts),  # type: ignore[no-untyped-call]
    cache=True,
    nogil=True,
)
def _read(texts: Any, names: Any) -> Any:
    """Return start, size and kind of the wanted members, and whether all texts are plain.

    An empty text is an object without members.
    """
    rows, count = len(texts[0]) - 1, len(names[0]) - 2
    spans = np.zeros((3, count, rows), np.int32)
    wanted = placed(names)
    starts, text, limit = placed(texts)
    for row in range(rows):
        at, end, seen = number_at(starts, row), number_at(starts, row + 1), 0
        if at == end:
            continue
        if not _is_bracketed(text, at, end):
            return spans, False
        if end - at == _BRACKETS:
            continue
        while True:
            place, value, at = _member(text, at + 1, end, limit, wanted, count)
            if at < 0 or (place >= 0 and seen >> place & 1):
                return spans, False
            if place >= 0:
                seen |= 1 << place
                spans[0, place, row], spans[1, place, row], spans[2, place, row] = value
            if byte_at(text, at) != _COMMA:
                break
        if at != end - 1:
            return spans, False
    return spans, True
