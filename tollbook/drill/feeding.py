"""Sends what a truth has planned, and keeps account: sent = acknowledged + refused + unknown."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

import httpx
import pyarrow as pa
from confluent_kafka import KafkaException, Producer

from ingest.topic import ARROW_CONTENT_TYPE, CONTENT_TYPE_HEADER, EVENT_SCHEMA, encode_record
from tollbook.drill.truth import Parcel, Planned, Truth, parsed

_ANSWER_SECONDS = 20.0
_GIVE_UP_SECONDS = 180.0
_PAUSE_SECONDS = 0.1
_TOGETHER = 4
_LAST_PART = 6
"""One of so many requests waits until the fault is over, so that something comes after it."""
_DELIVERY_SECONDS = 200


class FeedError(RuntimeError):
    """Sending met what must not happen, such as an honest event that is refused."""


@dataclass(slots=True)
class Account:
    """What became of every event that was put on the wire, resends included."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    given_up: list[Planned] = field(default_factory=list)
    """Events whose fate the sender never learned: each may be stored, or not."""
    settled: list[Planned] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def adds_up(self) -> bool:
        """True where every event that was sent is accounted for."""
        return self.sent == self.acknowledged + self.refused + self.unknown


@dataclass(slots=True)
class Feed:
    """A sender for one truth."""

    truth: Truth
    ingest_url: str
    kafka_bootstrap: str
    key_by_tenant: Mapping[str, str]
    topic: str
    """Where records go that are written past ingest."""
    give_up_every: int = 0
    """Leaves every n-th request whose outcome is unknown as it is; 0 sends each again."""
    pause_s: float = 0.0
    """Stretches the feed: waits so long between requests."""
    between: Callable[[], None] | None = None
    """Called between two phases."""
    account: Account = field(default_factory=Account)
    mostly_sent: threading.Event = field(default_factory=threading.Event)
    """Set when only the last part waits to be sent."""
    _unknown_requests: int = 0

    def send(self, before_the_last: Callable[[], None]) -> None:
        """Send everything, phase by phase, several requests at a time.

        The last part is sent once `before_the_last` has returned.
        """
        *phases, last = self.truth.phases
        kept = -(-len(last) // _LAST_PART)
        with httpx.Client(timeout=_ANSWER_SECONDS, trust_env=False) as client:
            for number, phase in enumerate([*phases, last[:-kept]]):
                if number and self.between is not None:
                    self.between()
                self._send_phase(client, phase)
            self.mostly_sent.set()
            before_the_last()
            self._send_phase(client, last[-kept:])

    def _send_phase(self, client: httpx.Client, phase: list[Parcel]) -> None:
        records = [parcel for parcel in phase if parcel.headers]
        requests = [parcel for parcel in phase if not parcel.headers]
        with ThreadPoolExecutor(_TOGETHER) as pool:
            waiting = [pool.submit(self._request, client, parcel) for parcel in requests]
            if records:
                waiting.append(pool.submit(self._produce, records))
            for each in waiting:
                each.result()

    def _request(self, client: httpx.Client, parcel: Parcel) -> None:
        body = b"\n".join(each.body for each in parcel.events)
        headers = {
            "Authorization": f"Bearer {self.key_by_tenant[parcel.tenant]}",
            "Content-Type": "application/x-ndjson",
        }
        if self.pause_s:
            time.sleep(self.pause_s)
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            was_sent = True
            try:
                answer = client.post(
                    f"{self.ingest_url}/v1/events",
                    params={"partial": "true"},
                    content=body,
                    headers=headers,
                )
            except httpx.TransportError as error:
                status, content, was_sent = 0, b"", not isinstance(error, httpx.ConnectError)
            else:
                status, content = answer.status_code, answer.content
                if status == 503 and "retry-after" not in answer.headers:
                    raise FeedError("ingest answered 503 without saying when to come back")
            if self._settle(parcel, status, content, was_sent=was_sent):
                return
            time.sleep(_PAUSE_SECONDS)
        raise FeedError("ingest did not come back")

    def _settle(self, parcel: Parcel, status: int, content: bytes, *, was_sent: bool) -> bool:
        """Account for one answer; tell whether the request is done with.

        One that nobody took is sent again however long that takes, and is not given up.
        """
        account, events = self.account, parcel.events
        with account.lock:
            account.sent += len(events)
            account.statuses[status] += 1
            if status in {0, 503}:
                account.unknown += len(events)
                self._unknown_requests += was_sent
                if (
                    was_sent
                    and self.give_up_every
                    and self._unknown_requests % self.give_up_every == 0
                ):
                    account.given_up += events
                    return True
                return False
            refused = _refused(status, content)
            for number, each in enumerate(events):
                if (number in refused) != (each.fate == "refused"):
                    reason = refused.get(number, "accepted")
                    raise FeedError(f"{each.fate} expected, but {reason}: {each.body[:300]!r}")
            account.refused += len(refused)
            account.acknowledged += len(events) - len(refused)
            account.reasons.update(refused.values())
            account.settled += events
        return True

    def _produce(self, parcels: list[Parcel]) -> None:
        """Write records past ingest; the idempotent producer writes each exactly once."""
        producer = Producer(
            {
                "bootstrap.servers": self.kafka_bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": _DELIVERY_SECONDS * 1000,
                "log_level": 0,
            }
        )
        failed: list[str] = []

        def delivered(error: object, _: object) -> None:
            if error is not None:
                failed.append(str(error))

        count = 0
        for parcel in parcels:
            for each in parcel.events:
                headers: list[tuple[str, str | bytes | None]] = list(parcel.headers)
                producer.produce(
                    self.topic,
                    _value(parcel, each),
                    partition=parcel.partition,
                    headers=headers,
                    on_delivery=delivered,
                    timestamp=parcel.append_ms,
                )
                producer.poll(0)
                count += 1
        left = producer.flush(_DELIVERY_SECONDS)
        if failed or left:
            raise FeedError(f"Kafka took not every record: {failed[:1]}") from KafkaException()
        with self.account.lock:
            self.account.sent += count
            self.account.acknowledged += count
            for parcel in parcels:
                self.account.settled += parcel.events


def _value(parcel: Parcel, planned: Planned) -> bytes:
    """Return a record's value: the event as it is, or as ingest writes it."""
    if dict(parcel.headers)[CONTENT_TYPE_HEADER] != ARROW_CONTENT_TYPE:
        return planned.body
    content = parsed(planned.body)
    row = {name: content[name] for name in ("id", "source", "type", "subject")}
    row |= {
        "tenant": planned.tenant,
        "time": datetime.fromisoformat(content["time"]),
        "time_stamped": False,
        "data": planned.body.partition(b'"data":')[2][:-1],
        "extensions": b"",
    }
    return encode_record(pa.RecordBatch.from_pylist([row], schema=EVENT_SCHEMA))


def _refused(status: int, content: bytes) -> dict[int, str]:
    """Return the reason per refused event of an answered request."""
    if status in {200, 204}:
        return {}
    document = json.loads(content)
    if document.get("code") != "events-refused":
        raise FeedError(f"ingest answered {status}: {document.get('detail')}")
    found: dict[int, str] = {}
    for one in document["refused"]:
        found[one["index"]] = f"{one['field']}: {one['reason']}"
    return found
