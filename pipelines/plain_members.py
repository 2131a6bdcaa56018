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

from pipelines.decimals import column_of
from pipelines.meter import path_names
from pipelines.text_columns import BYTES, Texts, texts_of
from pipelines.values import MISSING, Codes

_ABSENT, _NULL, _TEXT, _NUMBER, _TRUTH = range(5)
_QUOTE, _BACKSLASH, _OPEN, _CLOSE = ord('"'), ord("\\"), ord("{"), ord("}")
_COLON, _COMMA, _MINUS, _POINT, _ZERO, _NINE = (ord(each) for each in ":,-.09")
_SPACE, _ASCII_MAX = 0x20, 0x7F
_BRACKETS = 2
_TRUE, _FALSE, _NOTHING = (np.frombuffer(word, np.uint8) for word in (b"true", b"false", b"null"))
_WHOLE_DIGITS, _DECIMALS = 18, 12
_HALF = np.uint64(0xFFFFFFFF)
_HALF_BITS = np.uint64(32)
_SCALE = np.uint64(10**_DECIMALS)


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
        starts, texts = _gathered(self.data, self.starts, self.sizes)
        buffers = [pa.py_buffer(starts), pa.py_buffer(texts)]
        encoded = pa.StringArray.from_buffers(len(self.starts), *buffers).dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64)
        return Codes(codes, encoded.dictionary.to_pylist())

    def numbers(self) -> tuple[Any, dict[int, str]] | None:
        """Return the values as numbers; see `pipelines.values.numbers`; None where one is odd."""
        limbs, is_plain = _exact(self.data, self.starts, self.sizes, self.kinds)
        if not is_plain:
            return None
        missing = np.flatnonzero(self.kinds <= _NULL).tolist()
        return column_of(limbs), dict.fromkeys(missing, MISSING)


def plain_members(texts: Any, paths: Collection[str]) -> dict[str, PlainMember]:
    """Return, by path, members of a column of JSON texts; nothing where one is not plain."""
    names = [path_names(path) for path in paths]
    if not names or any(len(each) > 1 for each in names):
        return {}
    starts, data = texts_of(texts)
    wanted = texts_of(pa.array([name for (name,) in names], pa.string()))
    spans, is_plain = _read((starts, data), wanted)
    if not is_plain:
        return {}
    return {
        path: PlainMember(data, *(part[place] for part in spans))
        for place, path in enumerate(paths)
    }


@nb.njit(nogil=True, forceinline=True)
def _byte(data: Any, at: Any) -> Any:
    """Return a byte; a number without a sign spares a look at whether it counts from the end."""
    return data[np.uint64(at)]


@nb.njit(nogil=True, forceinline=True)
def _text_end(data: Any, at: int, end: int) -> int:
    """Return where a text ends, behind its quote; -1 where it is not plain."""
    while at < end:
        byte = _byte(data, at)
        if byte == _QUOTE:
            return at + 1
        if byte < _SPACE or byte == _BACKSLASH or byte > _ASCII_MAX:
            return -1
        at += 1
    return -1


@nb.njit(nogil=True, forceinline=True)
def _digits_end(data: Any, at: int, end: int) -> int:
    while at < end and _ZERO <= _byte(data, at) <= _NINE:
        at += 1
    return at


@nb.njit(nogil=True, forceinline=True)
def _number_end(data: Any, at: int, end: int) -> int:
    """Return where a number without an exponent ends; -1 where there is none."""
    first = at + 1 if _byte(data, at) == _MINUS else at
    last = _digits_end(data, first, end)
    if last == first or (last > first + 1 and _byte(data, first) == _ZERO):
        return -1
    if last == end or _byte(data, last) != _POINT:
        return last
    first = last + 1
    last = _digits_end(data, first, end)
    return -1 if last == first else last


@nb.njit(nogil=True, forceinline=True)
def _word_end(data: Any, at: int, end: int, word: Any) -> int:
    """Return where a word ends that must stand there; -1 where it does not."""
    if end - at < len(word):
        return -1
    for offset in range(len(word)):
        if _byte(data, at + offset) != word[offset]:
            return -1
    return at + len(word)


@nb.njit(nogil=True, forceinline=True)
def _value(data: Any, at: int, end: int) -> Any:
    """Return what value begins there, and where it ends: -1 where it is not plain."""
    byte = _byte(data, at)
    if byte == _QUOTE:
        return _TEXT, _text_end(data, at + 1, end)
    if byte == _TRUE[0]:
        return _TRUTH, _word_end(data, at, end, _TRUE)
    if byte == _FALSE[0]:
        return _TRUTH, _word_end(data, at, end, _FALSE)
    if byte == _NOTHING[0]:
        return _NULL, _word_end(data, at, end, _NOTHING)
    return _NUMBER, _number_end(data, at, end)


@nb.njit(nogil=True, forceinline=True)
def _place_of(data: Any, first: int, size: int, starts: Any, names: Any) -> int:
    """Return which of the names this is, or -1."""
    for place in range(len(starts) - 1):
        start = starts[place]
        if starts[place + 1] - start != size:
            continue
        offset = 0
        while offset < size and _byte(data, first + offset) == _byte(names, start + offset):
            offset += 1
        if offset == size:
            return place
    return -1


@nb.njit(nogil=True, forceinline=True)
def _read_member(data: Any, at: int, end: int, starts: Any, names: Any, found: Any) -> Any:
    """Note a member's value if it is wanted; return where it ends, or -1 where it is not plain.

    The last byte before `end` is a bracket: nothing plain goes over it.
    """
    if _byte(data, at) != _QUOTE:
        return -1
    colon = _text_end(data, at + 1, end)
    if colon < 0 or _byte(data, colon) != _COLON:
        return -1
    first = colon + 1
    kind, after = _value(data, first, end)
    if after < 0 or after == end:
        return -1
    place = _place_of(data, at + 1, colon - at - 2, starts, names)
    if place < 0:
        return after
    if found[place, 2] != _ABSENT:
        return -1
    found[place, 2] = kind
    if kind != _NULL:
        quote = 1 if kind == _TEXT else 0
        found[place, 0], found[place, 1] = first + quote, after - first - 2 * quote
    return after


@nb.njit(nogil=True, forceinline=True)
def _read_object(data: Any, at: int, end: int, starts: Any, names: Any, found: Any) -> bool:
    """Note where the wanted members of an object are; tell whether all of it is plain."""
    if end - at < _BRACKETS or _byte(data, at) != _OPEN or _byte(data, end - 1) != _CLOSE:
        return False
    if end - at == _BRACKETS:
        return True
    while True:
        at = _read_member(data, at + 1, end, starts, names, found)
        if at < 0:
            return False
        if _byte(data, at) != _COMMA:
            return at == end - 1


@nb.njit(
    nb.types.Tuple((nb.int32[:, :, ::1], nb.boolean))(Texts, Texts),  # type: ignore[no-untyped-call]
    cache=True,
    nogil=True,
)
def _read(texts: Any, names: Any) -> Any:
    """Return start, size and kind of the wanted members, and whether all texts are plain.

    An empty text is an object without members.
    """
    starts, data = texts
    rows, count = len(starts) - 1, len(names[0]) - 1
    spans = np.zeros((3, count, rows), np.int32)
    found = np.zeros((count, 3), np.int32)
    for row in range(rows):
        at, end = starts[row], starts[row + 1]
        found[:] = 0
        if at < end and not _read_object(data, at, end, names[0], names[1], found):
            return spans, False
        for place in range(count):
            for part in range(3):
                spans[part, place, row] = found[place, part]
    return spans, True


@nb.njit(
    nb.types.Tuple((nb.int32[::1], nb.uint8[::1]))(BYTES, nb.int32[::1], nb.int32[::1]),  # type: ignore[no-untyped-call]
    cache=True,
    nogil=True,
)
def _gathered(data: Any, starts: Any, sizes: Any) -> Any:
    """Return so many bytes from each of some places, one after the other, and where each starts."""
    ends = np.zeros(len(starts) + 1, np.int32)
    for row in range(len(starts)):
        ends[row + 1] = ends[row] + sizes[row]
    texts = np.empty(ends[-1], np.uint8)
    for row in range(len(starts)):
        for offset in range(sizes[row]):
            texts[np.uint64(ends[row] + offset)] = _byte(data, starts[row] + offset)
    return ends, texts


@nb.njit(nogil=True, forceinline=True)
def _natural(data: Any, at: int, end: int, digits_max: int) -> Any:
    """Return the number that digits are, and where they end; -1 for none or more than so many."""
    number, first = np.uint64(0), at
    while at < end and _ZERO <= _byte(data, at) <= _NINE:
        if at - first == digits_max:
            return number, -1
        number = number * np.uint64(10) + np.uint64(_byte(data, at) - _ZERO)
        at += 1
    return number, at if at > first else -1


@nb.njit(nogil=True, forceinline=True)
def _parsed(data: Any, at: int, end: int) -> Any:
    """Return a number's digits before the point and behind it, and whether it is plain."""
    behind, decimals = np.uint64(0), 0
    whole, at = _natural(data, at, end, _WHOLE_DIGITS)
    if 0 <= at < end and _byte(data, at) == _POINT:
        first = at + 1
        behind, at = _natural(data, first, end, _DECIMALS)
        decimals = at - first
    if at != end:
        return whole, behind, False
    for _ in range(_DECIMALS - decimals):
        behind *= np.uint64(10)
    return whole, behind, True


@nb.njit(
    nb.types.Tuple((nb.uint64[:, ::1], nb.boolean))(  # type: ignore[no-untyped-call]
        BYTES, nb.int32[::1], nb.int32[::1], nb.int32[::1]
    ),
    cache=True,
    nogil=True,
)
def _exact(data: Any, starts: Any, sizes: Any, kinds: Any) -> Any:
    """Return values as limbs of 12 decimals, zero where there is none; and whether all are plain.

    A number that stands in quotes counts as one.
    """
    limbs = np.zeros((len(starts), 2), np.uint64)
    for row in range(len(starts)):
        if kinds[row] <= _NULL:
            continue
        at, end = starts[row], starts[row] + sizes[row]
        is_negative = at < end and _byte(data, at) == _MINUS
        whole, behind, is_plain = _parsed(data, at + 1 if is_negative else at, end)
        if not is_plain or kinds[row] == _TRUTH:
            return limbs, False
        # Times ten to the twelfth, in halves of a word.
        first = (whole & _HALF) * (_SCALE & _HALF)
        middle = (whole & _HALF) * (_SCALE >> _HALF_BITS) + (whole >> _HALF_BITS) * (_SCALE & _HALF)
        middle += first >> _HALF_BITS
        low = (middle << _HALF_BITS) | (first & _HALF)
        high = (whole >> _HALF_BITS) * (_SCALE >> _HALF_BITS) + (middle >> _HALF_BITS)
        low += behind
        high += np.uint64(low < behind)
        if is_negative:
            low = ~low + np.uint64(1)
            high = ~high + np.uint64(low == np.uint64(0))
        limbs[row, 0], limbs[row, 1] = low, high
    return limbs, True
