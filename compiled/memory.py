"""Bytes, numbers and chunks of sixteen bytes by address, for compiled loops.

An array that a compiled function hands to another is counted as a reference each time, which
costs more than finding an event: such loops hand on the address instead. Nothing is checked here;
the caller says how far the array goes, and keeps it: compiled code lets go of an array of its own
as soon as only its address is in use.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

compiled = njit(cache=True, nogil=True)
inlined = njit(nogil=True, forceinline=True)
"""For what is short and called for each value: the call would cost more than what it does."""

WORD_BYTES, CHUNK_BYTES = 8, 16
_BYTE, _HALF, _WORD, _TWO_WORDS = map(ir.IntType, (8, 32, 64, 128))
_CHUNK, _BITS = ir.VectorType(_BYTE, CHUNK_BYTES), ir.IntType(CHUNK_BYTES)
_ONE = np.uint64(1)


def _intrinsic(function: Callable[..., Any]) -> Any:
    """Make an intrinsic; its own type would ask callers for the typing context."""
    return extending.intrinsic(function)


def _place(builder: Any, base: Any, at: Any, kind: Any) -> Any:
    """Return the pointer to what lies behind an address by so many bytes."""
    return builder.inttoptr(builder.add(base, at), kind.as_pointer())


def _reader(kind: Any, found: Any) -> Any:
    """Make an intrinsic that reads what lies behind an address by so many bytes."""

    def read(typing_context: Any, base: Any, at: Any) -> Any:
        del typing_context, base, at

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del context, signature
            base, at = arguments
            return builder.zext(builder.load(_place(builder, base, at, kind), align=1), _WORD)

        return found(types.int64, types.int64), generate

    return _intrinsic(read)


def _writer(kind: Any) -> Any:
    """Make an intrinsic that writes a number behind an address by so many bytes."""

    def write(typing_context: Any, base: Any, at: Any, number: Any) -> Any:
        del typing_context, base, at, number

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            base, at, number = arguments
            place = _place(builder, base, at, kind)
            builder.store(builder.trunc(number, kind), place, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    return _intrinsic(write)


def _copier(kind: Any) -> Any:
    """Make an intrinsic that copies one of a kind from the second address to the first."""

    def copy(typing_context: Any, to: Any, at: Any) -> Any:
        del typing_context, to, at

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            to, at = (builder.inttoptr(each, kind.as_pointer()) for each in arguments)
            builder.store(builder.load(at, align=1), to, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return _intrinsic(copy)


byte_at, put_byte = _reader(_BYTE, types.int64), _writer(_BYTE)
put_int = _writer(_HALF)
"""Of four bytes."""
long_at, put_long = _reader(_WORD, types.int64), _writer(_WORD)
"""Of eight bytes, with a sign."""
word_at = _reader(_WORD, types.uint64)
"""Eight bytes of text, the first one lowest."""
copy_byte, copy_half, copy_word, copy_chunk = map(_copier, (_BYTE, _HALF, _WORD, _CHUNK))
"""To the first address from the second."""


def bits_of(test: Callable[[Any, Any], Any]) -> Any:
    """Make an intrinsic that looks at a chunk of the text at an address.

    It returns a number with a bit for each byte that passes `test`, the first one lowest. A test
    takes a builder and the chunk; see `byte_is` and `byte_below`.
    """

    def bits(typing_context: Any, text: Any, at: Any) -> Any:
        del typing_context, text, at

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del context, signature
            text, at = arguments
            chunk = builder.load(_place(builder, text, at, _CHUNK), align=1)
            return builder.zext(builder.bitcast(test(builder, chunk), _BITS), _WORD)

        return types.uint64(types.int64, types.int64), generate

    return _intrinsic(bits)


def _all(byte: int) -> Any:
    return ir.Constant(_CHUNK, [ir.Constant(_BYTE, byte)] * CHUNK_BYTES)


def byte_is(builder: Any, chunk: Any, byte: int) -> Any:
    """Return which bytes of a chunk are a certain one."""
    return builder.icmp_unsigned("==", chunk, _all(byte))


def byte_below(builder: Any, chunk: Any, bound: int) -> Any:
    """Return which bytes of a chunk are less than a bound."""
    return builder.icmp_unsigned("<", chunk, _all(bound))


@_intrinsic
def number_at(typing_context: Any, numbers: Any, place: Any) -> Any:
    """Return a number of four bytes among those at an address, with its sign."""
    del typing_context, numbers, place

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        numbers, place = arguments
        pointer = builder.gep(builder.inttoptr(numbers, _HALF.as_pointer()), [place])
        return builder.sext(builder.load(pointer), _WORD)

    return types.int64(types.int64, types.int64), generate


@_intrinsic
def differences(typing_context: Any, one: Any, other: Any) -> Any:
    """Return a bit for each byte in which chunks at two addresses differ, the first one lowest."""
    del typing_context, one, other

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        places = (builder.inttoptr(each, _CHUNK.as_pointer()) for each in arguments)
        one, other = (builder.load(place, align=1) for place in places)
        differ = builder.icmp_unsigned("!=", one, other)
        return builder.zext(builder.bitcast(differ, _BITS), _WORD)

    return types.uint64(types.int64, types.int64), generate


@_intrinsic
def lowest_bit(typing_context: Any, word: Any) -> Any:
    """Return the number of the lowest bit that is set in a word that is not 0."""
    del typing_context, word

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@_intrinsic
def folded_product(typing_context: Any, left: Any, right: Any) -> Any:
    """Return the product of two words, its high half laid over its low one."""
    del typing_context, left, right

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        whole = builder.mul(*(builder.zext(each, _TWO_WORDS) for each in arguments))
        high = builder.trunc(builder.lshr(whole, ir.Constant(_TWO_WORDS, 64)), _WORD)
        return builder.xor(builder.trunc(whole, _WORD), high)

    return types.uint64(types.uint64, types.uint64), generate


@njit(nogil=True)
def _last_word(text: Any, at: Any, limit: Any) -> Any:
    word = np.uint64(0)
    for place in range(limit - at):
        word |= np.uint64(byte_at(text, at + place)) << np.uint64(8 * place)
    return word


@inlined
def word_within(text: Any, at: Any, limit: Any) -> Any:
    """Return eight bytes of the text at an address, 0 in place of those from `limit` on.

    Those are not touched.
    """
    return word_at(text, at) if at + WORD_BYTES <= limit else _last_word(text, at, limit)


@inlined
def word_before(text: Any, at: Any, end: Any, limit: Any) -> Any:
    """Return the same, 0 in place of those from `end` on, too."""
    word, size = word_within(text, at, limit), end - at
    return word if size >= WORD_BYTES else word & ((_ONE << np.uint64(8 * size)) - _ONE)
