"""Batches are sent until their fate is known, and acknowledged in their order."""

import asyncio
import json
from collections.abc import Callable, Coroutine

import httpx
import pytest

from tollbook.sender import (
    BATCH_EVENTS_MAX,
    Batch,
    Receipt,
    Sender,
    SendError,
    in_batches,
    send_batches,
)

Handler = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


def sender(handler: Handler, patience: float = 30.0, pauses: list[float] | None = None) -> Sender:
    client = httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://ingest")

    async def pause(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)

    return Sender(client, patience, sleep=pause)


def answers(*given: httpx.Response | Exception) -> tuple[Handler, list[bytes]]:
    """Return a handler that gives these answers, and the bodies that came."""
    waiting = list(given)
    bodies: list[bytes] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle, bodies


def send(handler: Handler, *, lose_first_answer: bool = False, patience: float = 30.0) -> Receipt:
    batch = Batch([b'{"id":1}', b'{"id":2}', b'{"id":3}'])
    return asyncio.run(sender(handler, patience).send(batch, lose_first_answer=lose_first_answer))


def test_a_batch_is_sent_as_lines() -> None:
    handler, bodies = answers(httpx.Response(204))
    receipt = send(handler)
    assert (receipt.accepted, list(receipt.refused), receipt.retries) == (3, [], 0)
    assert bodies == [b'{"id":1}\n{"id":2}\n{"id":3}']


@pytest.mark.parametrize(
    "failure", [httpx.Response(503), httpx.ReadTimeout("late"), httpx.ConnectError("gone")]
)
def test_an_unknown_outcome_sends_the_very_same_request_again(
    failure: httpx.Response | Exception,
) -> None:
    handler, bodies = answers(failure, httpx.Response(204))
    assert send(handler).retries == 1
    assert bodies[0] == bodies[1]


def test_retry_after_is_honoured_and_pauses_grow() -> None:
    failures = [httpx.Response(503, headers={"Retry-After": "7"}), *[httpx.Response(503)] * 3]
    handler, _ = answers(*failures, httpx.Response(204))
    pauses: list[float] = []
    asyncio.run(sender(handler, pauses=pauses).send(Batch([b"{}"])))
    assert 7 <= pauses[0] < 9
    assert pauses[1:] == sorted(pauses[1:])


def test_a_lost_answer_is_followed_by_the_same_request() -> None:
    handler, bodies = answers(httpx.ReadTimeout("lost"), httpx.Response(204))
    assert send(handler, lose_first_answer=True).retries == 1
    assert bodies[0] == bodies[1]


def test_sending_gives_up_when_patience_ends() -> None:
    handler, bodies = answers(*[httpx.Response(503)] * 9)
    with pytest.raises(SendError, match="503"):
        send(handler, patience=0.3)
    assert len(bodies) < 4


def test_refused_events_come_back_with_every_reason() -> None:
    document = {
        "code": "events-refused",
        "detail": "...",
        "refused": [
            {"index": 2, "field": "id", "reason": "missing"},
            {"index": 2, "field": "time", "reason": "odd"},
            {"index": 0, "field": "", "reason": "not JSON"},
        ],
        "accepted": [1],
    }
    handler, _ = answers(httpx.Response(400, json=document))
    receipt = send(handler)
    assert receipt.accepted == 1
    assert [(one.index, list(one.reasons)) for one in receipt.refused] == [
        (0, ["not JSON"]),
        (2, ["id: missing", "time: odd"]),
    ]


def test_an_event_too_large_for_any_request_is_refused_alone() -> None:
    document = {"code": "body-too-large", "detail": "a body holds at most 5 bytes"}
    handler, _ = answers(httpx.Response(413, json=document))
    receipt = asyncio.run(sender(handler).send(Batch([b"x" * 9])))
    assert [list(one.reasons) for one in receipt.refused] == [["a body holds at most 5 bytes"]]


def test_a_request_refused_as_a_whole_ends_sending_with_the_reason() -> None:
    document = {"code": "unauthorized", "detail": "the key is not known"}
    handler, _ = answers(httpx.Response(401, json=document))
    with pytest.raises(SendError, match="the key is not known"):
        send(handler)


def test_receipts_come_in_the_order_of_batches_whatever_answers_first() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        number = json.loads(request.content)["n"]
        await asyncio.sleep(0.03 if number % 3 == 0 else 0)
        return httpx.Response(204)

    batches = [Batch([b'{"n":%d}' % number], position=number) for number in range(12)]
    order: list[int] = []
    totals = asyncio.run(
        send_batches(sender(handle), batches, lambda receipt: order.append(receipt.batch.position))
    )
    assert order == list(range(12))
    assert (totals.accepted, totals.requests) == (12, 12)


def test_events_are_cut_into_bounded_batches() -> None:
    batches = list(in_batches([{"id": str(number)} for number in range(2500)]))
    assert [len(batch.events) for batch in batches] == [BATCH_EVENTS_MAX, BATCH_EVENTS_MAX, 500]
    assert [len(batch.events) for batch in in_batches([b"x" * 3_000_000] * 3)] == [1, 1, 1]
