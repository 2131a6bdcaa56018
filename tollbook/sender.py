"""Sends events to ingest: in batches, a few requests in flight, again until the answer is known.

A request whose answer is lost, late or 503 is sent again as it is; ids make that harmless. Good
events are taken beside refused ones, and each refused one comes back with its reasons.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

BATCH_EVENTS_MAX = 1000
BATCH_BYTES_MAX = 4 * 1024 * 1024
IN_FLIGHT = 4
_MEDIA_TYPE = "application/x-ndjson"
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0)
_IMPATIENT_SECONDS = 0.001


class SendError(RuntimeError):
    """Sending cannot go on: the key, the address or the server is wrong."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one request, each the bytes of a JSON object on one line."""

    events: Sequence[bytes]
    position: Any = None
    """Whatever the caller wants to know again once the batch is answered."""


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that was not taken, by its index in its batch, with every reason."""

    index: int
    reasons: Sequence[str]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The final answer to one batch."""

    batch: Batch
    accepted: int
    refused: Sequence[RefusedEvent]
    retries: int


@dataclass(slots=True)
class Totals:
    """What has been answered so far."""

    accepted: int = 0
    refused: int = 0
    requests: int = 0
    retries: int = 0

    def add(self, receipt: Receipt) -> None:
        """Count one answered batch."""
        self.accepted += receipt.accepted
        self.refused += len(receipt.refused)
        self.requests += 1
        self.retries += receipt.retries


@dataclass(slots=True)
class Sender:
    """Sends batches over a pool of connections; use `open_sender`."""

    client: httpx.AsyncClient
    patience_seconds: float
    on_retry: Callable[[str], None] | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _random: random.Random = field(default_factory=random.Random)

    async def send(self, batch: Batch, *, lose_first_answer: bool = False) -> Receipt:
        """Send one batch until its fate is known.

        With `lose_first_answer` the first answer is not waited for, as after a timeout: the
        request arrives, its outcome stays unknown, and the very same request follows.

        Raises:
            SendError: refused as a whole, or no answer within the sender's patience.
        """
        body = b"\n".join(batch.events)
        if lose_first_answer:
            await self._post_and_leave(body)
        waited = 0.0
        retries = int(lose_first_answer)
        while True:
            answer, reason, pause = await self._post(body)
            if answer is not None:
                return _receipt(batch, answer, retries)
            pause = max(pause, _BACKOFF_SECONDS[min(retries, len(_BACKOFF_SECONDS) - 1)])
            pause *= 1 + self._random.random() / 4
            waited += pause
            if waited > self.patience_seconds:
                raise SendError(f"gave up after {retries} retries: {reason}")
            retries += 1
            if self.on_retry is not None:
                self.on_retry(reason)
            await self.sleep(pause)

    async def _post(self, body: bytes) -> tuple[httpx.Response | None, str, float]:
        """Return the answer, or None with the reason to try again and how long to wait first."""
        try:
            answer = await self.client.post("/v1/events", params={"partial": "true"}, content=body)
        except httpx.UnsupportedProtocol as error:
            raise SendError(f"not an HTTP address: {error}") from error
        except httpx.TransportError as error:
            reason = f"{type(error).__name__} at {self.client.base_url}: {error}"
            return None, reason, 0.0
        if answer.status_code in _AGAIN:
            after = answer.headers.get("retry-after", "0")
            seconds = float(after) if after.isascii() and after.isdigit() else 0.0
            return None, f"answered {answer.status_code}", seconds
        return answer, "", 0.0

    async def _post_and_leave(self, body: bytes) -> None:
        timeout = httpx.Timeout(10.0, read=_IMPATIENT_SECONDS)
        try:
            await self.client.post(
                "/v1/events", params={"partial": "true"}, content=body, timeout=timeout
            )
        except httpx.TransportError:
            return


@asynccontextmanager
async def open_sender(
    url: str,
    key: str,
    *,
    in_flight: int = IN_FLIGHT,
    timeout_seconds: float = 30.0,
    patience_seconds: float = 120.0,
    on_retry: Callable[[str], None] | None = None,
) -> AsyncIterator[Sender]:
    """Open connections to an ingest URL; `patience_seconds` bounds the waiting between retries."""
    async with httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {key}", "Content-Type": _MEDIA_TYPE},
        timeout=timeout_seconds,
        limits=httpx.Limits(max_connections=in_flight + 1, max_keepalive_connections=in_flight),
        trust_env=False,
    ) as client:
        yield Sender(client, patience_seconds, on_retry)


async def send_batches(
    sender: Sender,
    batches: Iterable[Batch],
    on_receipt: Callable[[Receipt], None],
    *,
    in_flight: int = IN_FLIGHT,
) -> Totals:
    """Send batches, some at a time; `on_receipt` is called in the order of the batches."""
    totals = Totals()
    under_way: list[asyncio.Task[Receipt]] = []

    async def settle_first() -> None:
        receipt = await under_way.pop(0)
        totals.add(receipt)
        on_receipt(receipt)

    try:
        for batch in batches:
            if len(under_way) >= in_flight:
                await settle_first()
            under_way.append(asyncio.create_task(sender.send(batch)))
            # Lets the request leave before the next batch is made.
            await asyncio.sleep(0)
        while under_way:
            await settle_first()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    return totals


async def send_events(
    url: str,
    key: str,
    events: Iterable[bytes | dict[str, Any]],
    on_progress: Callable[[Totals], None] | None = None,
    *,
    in_flight: int = IN_FLIGHT,
) -> tuple[Totals, list[tuple[bytes, RefusedEvent]]]:
    """Send events, as dicts or as the bytes of JSON objects; returns totals and refused events."""
    refused: list[tuple[bytes, RefusedEvent]] = []
    so_far = Totals()

    def note(receipt: Receipt) -> None:
        so_far.add(receipt)
        refused.extend((receipt.batch.events[one.index], one) for one in receipt.refused)
        if on_progress is not None:
            on_progress(so_far)

    async with open_sender(url, key, in_flight=in_flight) as sender:
        totals = await send_batches(sender, in_batches(events), note, in_flight=in_flight)
    return totals, refused


def in_batches(events: Iterable[bytes | dict[str, Any]]) -> Iterator[Batch]:
    """Yield events in batches, bounded in number and bytes."""
    waiting: list[bytes] = []
    size = 0
    for event in events:
        line = event if isinstance(event, bytes) else msgspec.json.encode(event)
        if waiting and (len(waiting) == BATCH_EVENTS_MAX or size + len(line) > BATCH_BYTES_MAX):
            yield Batch(waiting)
            waiting, size = [], 0
        waiting.append(line)
        size += len(line) + 1
    if waiting:
        yield Batch(waiting)


def _receipt(batch: Batch, answer: httpx.Response, retries: int) -> Receipt:
    """Read a final answer.

    Raises:
        SendError: the request was refused for what it is, not for its events.
    """
    if answer.status_code in {200, 204}:
        return Receipt(batch, len(batch.events), [], retries)
    try:
        document = answer.json()
        code, detail = document["code"], document["detail"]
    except (ValueError, KeyError, TypeError) as error:
        raise SendError(f"{answer.url} answered {answer.status_code}") from error
    if code == "body-too-large" and len(batch.events) == 1:
        return Receipt(batch, 0, [RefusedEvent(0, [detail])], retries)
    if code != "events-refused":
        raise SendError(f"{answer.url} answered {answer.status_code}: {detail}")
    reasons: dict[int, list[str]] = {}
    for one in document["refused"]:
        reasons.setdefault(one["index"], []).append(f"{one['field']}: {one['reason']}".lstrip(": "))
    refused = [RefusedEvent(index, lines) for index, lines in sorted(reasons.items())]
    return Receipt(batch, len(batch.events) - len(refused), refused, retries)
