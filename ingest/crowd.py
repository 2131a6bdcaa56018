"""Tells, before a body is decoded, whether it holds more events than a request may.

A body of tiny elements would become millions of objects before anyone could count them.
"""

from typing import ClassVar

import msgspec

from ingest.scanning import LINES, ONE

EVENT_BYTES_MIN = 40
"""No event is shorter, with its four names and their values."""
_EVENT_COMMAS_MIN = 4
"""Three inside an event, one after it."""


class _EnoughError(Exception):
    """Stops the decoder."""


class _Element(msgspec.Struct, gc=False):
    """An object of which nothing is kept."""

    left: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _Element.left -= 1
        if _Element.left < 0:
            raise _EnoughError


_elements = msgspec.json.Decoder(list[_Element])


def is_crowded(body: bytes, shape: int, events_max: int) -> bool:
    """Tell whether there are too many events; line ends may be twice as many, for blank lines.

    Raises:
        msgspec.DecodeError: so large a body is not an array of objects.
        RecursionError: nor is it JSON that anyone would nest so deeply.
    """
    if shape == LINES:
        return body.count(b"\n") > 2 * events_max
    if shape == ONE or len(body) <= EVENT_BYTES_MIN * events_max:
        return False
    if body.count(b",") <= _EVENT_COMMAS_MIN * events_max:
        return False
    _Element.left = events_max
    try:
        _elements.decode(body)
    except _EnoughError:
        return True
    return False
