"""A body of very many very small things costs neither memory nor time before it is refused."""

import gc
import tracemalloc

import msgspec
import pytest

from ingest.bodies import MALFORMED, TOO_MANY, Bodies, Body, Verdict
from ingest.event import Refusal
from ingest.limits import EventLimits
from tests.unit.ingest.test_bodies import RECEPTION, SHAPES, plain

SIZE = 8_000_000
EVENTS_MAX = 2_000
SMALLEST = b'{"id":"a","type":"b","source":"c","subject":"d"}'
HOSTILE = {
    "numbers": (b"[" + b"1," * (SIZE // 2) + b"1]", "many", MALFORMED),
    "empty objects": (b"[" + b"{}," * (SIZE // 3) + b"{}]", "any", TOO_MANY),
    "smallest events": (
        b"[" + (SMALLEST + b",") * (SIZE // 50) + SMALLEST + b"]",
        "many",
        TOO_MANY,
    ),
    "lines of one byte": (b"1\n" * (SIZE // 2), "lines", TOO_MANY),
    "blank lines": (b"\n" * SIZE, "lines", TOO_MANY),
}


def verdict_of(body: bytes, shape: str, events_max: int = EVENTS_MAX) -> Verdict:
    waiting = Bodies(EventLimits(), events_max)
    waiting.add(Body([body], len(body), SHAPES[shape], b"acme", RECEPTION))
    return waiting.read().verdicts[0]


def peak_of(body: bytes, shape: str) -> tuple[int, object]:
    """Return the bytes taken at the most, and what came of the body."""
    verdict_of(b"[", shape)  # what is loaded at the first use is not the body's
    tracemalloc.start()
    try:
        verdict = verdict_of(body, shape)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, verdict.refusals or verdict.fault


@pytest.mark.parametrize("name", HOSTILE)
def test_tiny_things_are_refused_without_becoming_objects(name: str) -> None:
    body, shape, expected = HOSTILE[name]
    peak, outcome = peak_of(body, shape)
    assert outcome == expected
    assert peak < 3 * SIZE


def test_one_event_of_very_many_attributes_is_refused_unread() -> None:
    members = b",".join(b'"a%d":1' % number for number in range(SIZE // 12))
    peak, outcome = peak_of(b"{" + members + b"}", "one")
    assert outcome == [Refusal(0, "data", "larger than 1048576 bytes")]
    assert peak < 5 * SIZE


def test_white_space_does_not_make_an_event_too_large() -> None:
    body = b"{" + b" " * 2_000_000 + msgspec.json.encode({**plain(1), "ext": 1})[1:]
    assert verdict_of(body, "one").accepted == 1


def test_as_many_events_as_a_request_may_hold_are_taken_whatever_their_commas() -> None:
    events = [plain(number, data={"list": [1] * 50}) for number in range(EVENTS_MAX)]
    body = msgspec.json.encode(events)
    assert body.count(b",") > 20 * EVENTS_MAX
    assert verdict_of(body, "many").accepted == EVENTS_MAX
    assert verdict_of(body, "many", EVENTS_MAX - 1).fault == TOO_MANY


@pytest.mark.parametrize("body", [b"[" + b"x" * SIZE, b"1\n" * (SIZE // 2), b'[{"id":7}]'], ids=len)
def test_a_refused_body_leaves_nothing_in_memory(body: bytes) -> None:
    shape = "lines" if body.startswith(b"1") else "many"
    for _ in range(2):
        verdict_of(body, shape)
    gc.collect()
    tracemalloc.start()
    try:
        kept = [verdict_of(body, shape) for _ in range(5)]
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(kept) == 5
    assert size < 100_000
