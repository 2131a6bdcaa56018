"""Turns records of the log into events with positions, ticks, corrections, and dead letters.

Nothing here knows Kafka: a record is its coordinates, its headers and its bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ingest import topic
from ingest.event import EPOCH, Event, Reception, parse_event, to_batch
from ingest.topic import EVENT_SCHEMA, Tick, decode_record
from pipelines.correction import CorrectionRecord
from pipelines.position import LogPartition
from pipelines.replacement import ReplacementRecord

POSITIONED_SCHEMA = pa.schema(
    [
        *EVENT_SCHEMA,
        pa.field("ingested_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("offset", pa.uint64(), nullable=False),
        pa.field("index", pa.uint32(), nullable=False),
    ]
)
"""Events with their position in a partition and the broker's append time."""

COUNTED_SCHEMA = pa.schema([*POSITIONED_SCHEMA, pa.field("identity", pa.binary(16))])
"""What a fold reads of new events."""
SIGNED_SCHEMA = pa.schema([*COUNTED_SCHEMA, pa.field("sign", pa.int8())])
"""Events as they are read again: 1 counts, -1 takes back; see `pipelines.correcting`."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the broker gave it."""

    at: LogPartition
    offset: int
    append_ms: int
    content_type: bytes
    tenant: str
    value: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Bytes that could not be taken, with where they stand and why."""

    tenant: str
    at: LogPartition
    offset: int
    index: int
    kind: str
    reason: str
    body: bytes
    ingested_at_ms: int
    source: str = ""
    """Of an event: its source."""


class ReleaseRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ends the quarantine of a stream in the partition that it stands in; starts a segment."""

    tenant: str
    source: str

    def to_value(self) -> bytes:
        """Return the record's value."""
        return msgspec.json.encode(self)

    @classmethod
    def from_value(cls, value: bytes) -> "ReleaseRecord":
        """Read a record's value; anything else raises ValueError."""
        try:
            return msgspec.json.decode(value, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"not a release: {error}") from error


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a record holds: exactly one of these."""

    record: Record
    batch: Any = None
    tick: Tick | None = None
    second_thought: CorrectionRecord | ReplacementRecord | None = None
    release: ReleaseRecord | None = None
    dead_letter: DeadLetter | None = None

    @property
    def is_awaited(self) -> bool:
        """True where somebody waits for the record to be counted."""
        return self.starts_segment or self.tick is not None or self.second_thought is not None

    @property
    def starts_segment(self) -> bool:
        """True where the record is the first of a segment by itself."""
        return self.release is not None or (self.tick is not None and self.tick.start)

    @property
    def event_count(self) -> int:
        """Events in the record, copies included."""
        return 0 if self.batch is None else int(self.batch.num_rows)


def decode(record: Record) -> Decoded:
    """Read a record; whatever is wrong with it becomes a dead letter."""
    try:
        match record.content_type:
            case topic.ARROW_CONTENT_TYPE:
                held: dict[str, Any] = {"batch": decode_record(record.value)}
            case topic.TICK_CONTENT_TYPE:
                held = {"tick": Tick.from_value(record.value)}
            case topic.CORRECTION_CONTENT_TYPE:
                held = {"second_thought": CorrectionRecord.from_value(record.value)}
            case topic.REPLACEMENT_CONTENT_TYPE:
                held = {"second_thought": ReplacementRecord.from_value(record.value)}
            case topic.RELEASE_CONTENT_TYPE:
                held = {"release": ReleaseRecord.from_value(record.value)}
            case topic.CLOUDEVENT_CONTENT_TYPE:
                held = {"batch": _cloudevent(record)}
            case other:
                raise ValueError(f"unknown content type {other!r}")  # noqa: TRY301 - as the others
    except ValueError as error:
        held = {"dead_letter": refused_record(record, str(error), "malformed")}
    return Decoded(record, **held)


def refused_record(record: Record, reason: str, kind: str = "refused") -> DeadLetter:
    """Return the dead letter of a whole record."""
    return DeadLetter(
        tenant=record.tenant,
        at=record.at,
        offset=record.offset,
        index=0,
        kind=kind,
        reason=reason,
        body=record.value,
        ingested_at_ms=record.append_ms,
    )


def event_letter(at: LogPartition, event: dict[str, Any], kind: str, reason: str) -> DeadLetter:
    """Return the dead letter of one event of a record, with the event as a CloudEvent."""
    body: dict[str, Any] = {"specversion": "1.0"}
    body |= {name: event[name] for name in ("id", "source", "type", "subject", "time")}
    if event["data"]:
        body["data"] = msgspec.Raw(event["data"])
    if event["extensions"]:
        body |= msgspec.json.decode(event["extensions"], type=dict[str, msgspec.Raw])
    return DeadLetter(
        tenant=event["tenant"],
        at=at,
        offset=event["offset"],
        index=event["index"],
        kind=kind,
        reason=reason,
        body=msgspec.json.encode(body),
        ingested_at_ms=int(event["ingested_at"].timestamp() * 1000),
        source=event["source"],
    )


def moment_of(append_ms: int) -> datetime:
    """Return an append time in UTC."""
    return EPOCH + timedelta(milliseconds=append_ms)


def _cloudevent(record: Record) -> Any:
    """Judge one structured JSON CloudEvent by the record alone; its tenant counts as trusted.

    Whether a tenant is open for history is a setting that may change; a verdict must not.
    """
    if not record.tenant:
        raise ValueError("a CloudEvent record needs its tenant in the header tollbook-tenant")
    received_at = moment_of(record.append_ms)
    event = parse_event(record.value, Reception(received_at, open_for_history=True))
    if not isinstance(event, Event):
        # A fault of the event as a whole names no field.
        faults = (f"{fault.field}: {fault.reason}".removeprefix(": ") for fault in event)
        raise ValueError("; ".join(faults))
    return to_batch(record.tenant, [event])


def positioned(decoded: Sequence[Decoded]) -> Any:
    """Return one Arrow table of `POSITIONED_SCHEMA` with the events of records, in order."""
    with_events = [d for d in decoded if d.batch is not None and d.batch.num_rows]
    if not with_events:
        return POSITIONED_SCHEMA.empty_table()
    events = pa.Table.from_batches([d.batch for d in with_events], schema=EVENT_SCHEMA)
    # One chunk a column: each later step, and the insert, would else pay per record.
    events = events.combine_chunks()
    counts = np.array([d.batch.num_rows for d in with_events])
    offsets = np.repeat(np.array([d.record.offset for d in with_events], np.uint64), counts)
    times = np.repeat(np.array([d.record.append_ms for d in with_events], np.int64), counts)
    indexes = np.concatenate([np.arange(n, dtype=np.uint32) for n in counts])
    columns = [
        *events.columns,
        pa.array(times).cast(pa.timestamp("ms", tz="UTC")),
        pa.array(offsets),
        pa.array(indexes),
    ]
    return pa.table(columns, schema=POSITIONED_SCHEMA)
