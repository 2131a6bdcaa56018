"""The contract of the usage topic: what a record holds, and which partition an event goes to.

A record is one Arrow IPC stream with one batch of `EVENT_SCHEMA`; its content type stands in the
record's header. A tick is a record without events: pipelines sends it into a partition when
something waits there for the log to move. A correction is a record of pipelines' too: it takes back
or changes events that were counted.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

TOPIC = "usage.events"
CONTENT_TYPE_HEADER = "content-type"
TENANT_HEADER = "tollbook-tenant"
"""Names the tenant of a record written by a producer that does not go through ingest."""
ARROW_CONTENT_TYPE = b"application/vnd.apache.arrow.stream"
TICK_CONTENT_TYPE = b"application/vnd.tollbook.tick+json"
CORRECTION_CONTENT_TYPE = b"application/vnd.tollbook.correction+json"
REPLACEMENT_CONTENT_TYPE = b"application/vnd.tollbook.replacement+json"
RELEASE_CONTENT_TYPE = b"application/vnd.tollbook.release+json"
CLOUDEVENT_CONTENT_TYPE = b"application/cloudevents+json"

RECORD_BYTES_MAX = 8 * 1024 * 1024
"""The largest record that the producer writes and the topic takes."""

TOPIC_SETTINGS = {
    "message.timestamp.type": "LogAppendTime",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "max.message.bytes": str(RECORD_BYTES_MAX),
}
"""Verified at start: a topic that drops old records, or trusts producers' clocks, loses events."""

EVENT_SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        # True where ingest stamped the time because the client sent none.
        pa.field("time_stamped", pa.bool_(), nullable=False),
        # JSON text without insignificant white space; empty where the event has no data.
        pa.field("data", pa.binary(), nullable=False),
        # JSON object of the remaining CloudEvents attributes; empty where there are none.
        pa.field("extensions", pa.binary(), nullable=False),
    ]
)


SPREAD_START = 0x811C9DC5


def partition_of(tenant: str, subject: str, partitions: int) -> int:
    """Return the partition of a subject: honest copies of an event meet in one partition."""
    return spread(tenant.encode(), subject.encode()) % partitions


def spread(tenant: Iterable[int], subject: Iterable[int]) -> int:
    """Return the 32-bit FNV-1a hash of two names in UTF-8 and a byte of 255 between, bits mixed."""
    hashed = SPREAD_START
    for byte in (*tenant, 0xFF, *subject):
        hashed = spread_on(hashed, byte)
    return spread_mixed(hashed)


def spread_on(hashed: int, byte: int) -> int:
    """Return what hashed bytes and one more are; 63 bits suffice, so that it can be compiled."""
    return ((hashed ^ byte) * 0x01000193) & 0xFFFFFFFF


def spread_mixed(hashed: int) -> int:
    """Return a hash with the bits mixed, of which FNV's lowest see few of a byte's bits."""
    hashed = ((hashed ^ (hashed >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    return hashed ^ (hashed >> 13)


def encode_record(batch: Any) -> bytes:
    """Return a record's value for one `pa.RecordBatch` of `EVENT_SCHEMA`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, EVENT_SCHEMA) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def decode_record(value: bytes) -> Any:
    """Return the `pa.RecordBatch` of a record's value.

    Raises:
        ValueError: the value is not one batch of `EVENT_SCHEMA`.
    """
    try:
        with pa.ipc.open_stream(value) as reader:
            if not reader.schema.equals(EVENT_SCHEMA):
                raise ValueError(f"schema differs from the contract: {reader.schema}")
            batches = list(reader)
        if len(batches) != 1:
            raise ValueError(f"one batch expected, {len(batches)} found")
        batches[0].validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError(f"not an Arrow IPC stream: {error}") from error
    return batches[0]


@dataclass(frozen=True, slots=True)
class Tick:
    """A record without events; with `start`, the next segment starts at it."""

    reason: str
    start: bool

    def to_value(self) -> bytes:
        """Return the record's value."""
        return json.dumps({"reason": self.reason, "start": self.start}).encode()

    @classmethod
    def from_value(cls, value: bytes) -> "Tick":
        """Read a record's value; anything else raises ValueError."""
        fields = json.loads(value)
        if not isinstance(fields, dict):
            raise ValueError("a tick is a JSON object")
        return cls(reason=str(fields.get("reason", "")), start=fields.get("start") is True)
