"""Sends the demo's requests over HTTP, several in flight, as a product service would."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tollbook.demo.failure import DemoError
from tollbook.demo.requests import Request
from tollbook.sender import IN_FLIGHT, Batch, Sender, SendError, open_sender
from tollbook.stack_file import Stack


@dataclass(slots=True)
class Sent:
    """What became of events: acknowledged, or sent before and never answered."""

    requests: int = 0
    acknowledged: int = 0
    unknown: int = 0


def send_all(
    stack: Stack, requests: Sequence[Request], sent: Sent, on_sent: Callable[[int], None]
) -> None:
    """Send requests in order, a few at a time; adds to `sent`, and tells `on_sent` of each.

    Raises:
        DemoError: ingest refuses an event, or stays away.
    """
    try:
        asyncio.run(_send_all(stack, requests, sent, on_sent))
    except ExceptionGroup as errors:
        stopped = errors.subgroup(SendError)
        if stopped is None:
            raise
        raise DemoError(f"the feed stopped: {stopped.exceptions[0]}") from errors


async def _send_all(
    stack: Stack, requests: Sequence[Request], sent: Sent, on_sent: Callable[[int], None]
) -> None:
    waiting = iter(requests)

    async def lane(sender: Sender) -> None:
        for request in waiting:
            await _send(sender, request, sent)
            on_sent(len(request.events))

    async with (
        open_sender(stack.ingest_url, stack.api_key) as sender,
        asyncio.TaskGroup() as lanes,
    ):
        for _ in range(IN_FLIGHT):
            lanes.create_task(lane(sender))


async def _send(sender: Sender, request: Request, sent: Sent) -> None:
    receipt = await sender.send(Batch(request.events), lose_first_answer=request.loses_answer)
    if receipt.refused:
        first = receipt.refused[0]
        raise SendError(f"{len(receipt.refused)} events refused, first: {first.reasons}")
    sent.requests += 1 + receipt.retries
    sent.acknowledged += receipt.accepted
    sent.unknown += receipt.retries * len(request.events)
