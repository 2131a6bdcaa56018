"""Bytes and words by address, for compiled loops.

An array that a compiled function hands to another is counted as a reference each time, which
costs more than finding an event: such loops hand on the address instead. Nothing is checked here;
the caller has the array, and says how far it goes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

compiled = njit(cache=True, nogil=True)
inlined = njit(nogil=True, forceinline=True)

WORD_BYTES = 8
_BYTE, _HALF, _WORD, _TWO_WORDS = map(ir.IntType, (8, 32, 64, 128))
_ONE = np.uint64(1)


def intrinsic(function: Callable[..., Any]) -> Any:
    """Make an intrinsic; its own type would ask callers for the typing context."""
    return extending.intrinsic(function)


def _place(builder: Any, arguments: Any, kind: Any) -> Any:
    """Return the pointer to what lies behind an address by so many bytes."""
    return builder.inttoptr(builder.add(arguments[0], arguments[1]), kind.as_pointer())


@intrinsic
def byte_at(typing_context: Any, text: Any, at: Any) -> Any:
    """Return a byte of the text at an address."""
    del typing_context, text, at

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.zext(builder.load(_place(builder, arguments, _BYTE)), _WORD)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def word_at(typing_context: Any, text: Any, at: Any) -> Any:
    """Return eight bytes of the text at an address, the first one lowest."""
    del typing_context, text, at

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.load(_place(builder, arguments, _WORD), align=1)

    return types.uint64(types.int64, types.int64), generate


@intrinsic
def number_at(typing_context: Any, numbers: Any, place: Any) -> Any:
    """Return a number of four bytes among those at an address, with its sign."""
    del typing_context, numbers, place

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        numbers, place = arguments
        pointer = builder.gep(builder.inttoptr(numbers, _HALF.as_pointer()), [place])
        return builder.sext(builder.load(pointer), _WORD)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def put_byte(typing_context: Any, text: Any, at: Any, byte: Any) -> Any:
    """Write a byte into the text at an address."""
    del typing_context, text, at, byte

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        builder.store(builder.trunc(arguments[2], _BYTE), _place(builder, arguments, _BYTE))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def put_number(typing_context: Any, numbers: Any, at: Any, number: Any) -> Any:
    """Write a number of eight bytes, so many bytes behind an address."""
    del typing_context, numbers, at, number

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        builder.store(arguments[2], _place(builder, arguments, _WORD), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def lowest_bit(typing_context: Any, word: Any) -> Any:
    """Return the number of the lowest bit that is set in a word that is not 0."""
    del typing_context, word

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
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
