"""Bytes and words by address, for compiled loops.

An array that a compiled function hands to another is counted as a reference each time, which
costs more than finding an event: such loops hand on the address instead. Nothing is checked here;
the caller has the array, and says how far it goes.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, njit, types

compiled = njit(cache=True, nogil=True)

WORD_BYTES = 8
_BYTE, _WORD = ir.IntType(8), ir.IntType(64)


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
