"""A body of very many very small things costs neither memory nor time before it is refused."""

import tracemalloc

import msgspec
import pytest

from ingest.columns import MalformedBodyError, TooManyEventsError, decode_events
from ingest.event import Refusal
from tests.unit.ingest.test_columns import RECEPTION, plain

SIZE = 8_000_000
EVENTS_MAX = 2_000
SMALLEST = b'{"id":"a","type":"b","source":"c","subject":"d"}'
HOSTILE = {
    "numbers": (b"[" + b"1," * (SIZE // 2) + b"1]", "many", MalformedBodyError),
    "empty objects": (b"[" + b"{}," * (SIZE // 3) + b"{}]", "any", TooManyEventsError),
    "smallest events": (
        b"[" + (SMALLEST + b",") * (SIZE // 50) + SMALLEST + b"]",
        "many",
        TooManyEventsError,
    ),
    "lines of one byte": (b"1\n" * (SIZE // 2), "lines", TooManyEventsError),
    "blank lines": (b"\n" * SIZE, "lines", TooManyEventsError),
}


def peak_of(body: bytes, shape: str) -> tuple[int, object]:
    """Return the bytes taken at the most, and what came of the body."""
    tracemalloc.start()
    try:
        outcome: object = decode_events(body, shape, "acme", RECEPTION, EVENTS_MAX).refusals
    except ValueError as error:
        outcome = type(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, outcome


@pytest.mark.parametrize("name", HOSTILE)
def test_tiny_things_are_refused_without_becoming_objects(name: str) -> None:
    body, shape, expected = HOSTILE[name]
    peak, outcome = peak_of(body, shape)
    assert outcome is expected
    assert peak < 2 * SIZE


def test_one_event_of_very_many_attributes_is_refused_unread() -> None:
    members = b",".join(b'"a%d":1' % number for number in range(SIZE // 12))
    peak, outcome = peak_of(b"{" + members + b"}", "one")
    assert outcome == [Refusal(0, "data", "larger than 1048576 bytes")]
    assert peak < 3 * SIZE


def test_white_space_does_not_make_an_event_too_large() -> None:
    body = b"{" + b" " * 2_000_000 + msgspec.json.encode({**plain(1), "ext": 1})[1:]
    assert len(decode_events(body, "one", "acme", RECEPTION, 1).columns) == 1


def test_as_many_events_as_a_request_may_hold_are_taken_whatever_their_commas() -> None:
    events = [plain(number, data={"list": [1] * 50}) for number in range(EVENTS_MAX)]
    body = msgspec.json.encode(events)
    assert body.count(b",") > 20 * EVENTS_MAX
    assert len(decode_events(body, "many", "acme", RECEPTION, EVENTS_MAX).columns) == EVENTS_MAX
    with pytest.raises(TooManyEventsError):
        decode_events(body, "many", "acme", RECEPTION, EVENTS_MAX - 1)
