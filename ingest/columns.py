"""A request's events as columns: found and checked in its bytes, without an object per event.

`decode_events` takes the fast way when the whole request is plain: `ingest.scanning` then decides
exactly as `ingest.event.parse_event` would for each event. Anything unusual - a fault, an
extension attribute, an odd spelling of a time - sends the request the exact way, event by event.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from ingest import event as rules
from ingest.crowd import EVENT_BYTES_MIN, is_crowded
from ingest.event import Event, Reception, Refusal
from ingest.scanning import (
    FIELDS,
    LINES,
    MANY,
    ONE,
    ROW_ITEMS,
    STAMPED,
    TIME,
    UNUSUAL,
    scan,
)

_SHAPES = {"one": ONE, "many": MANY, "lines": LINES}

_raw_one = msgspec.json.Decoder(msgspec.Raw)
_raw_many = msgspec.json.Decoder(list[msgspec.Raw])


class Columns(msgspec.Struct, gc=False):
    """The accepted events of one request: where in a text their values stand."""

    tenant: str
    text: bytes | bytearray
    rows: Any
    """Whole numbers; a row per event: see `ingest.scanning`. The tenant is in no text yet."""
    size: int
    """Bytes that the request held, for what may wait in memory."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a request's body holds: good events as columns, and every refusal of the others."""

    columns: Columns
    refusals: list[Refusal]
    indexes: list[int]
    """Where the accepted events stood in the request; empty where all of them were accepted."""


class MalformedBodyError(ValueError):
    """The body as a whole cannot be read, so that no event of it has an index."""


class TooManyEventsError(ValueError):
    """The body holds more events than one request may."""


def decode_events(
    body: bytes, shape: str, tenant: str, reception: Reception, events_max: int
) -> Decoded:
    """Return the events of a body whose shape is `one`, `many`, `any` or `lines`.

    Raises:
        MalformedBodyError: the body is not JSON of that shape.
        TooManyEventsError: more than `events_max` events.
    """
    if shape == "any":
        shape = "many" if body.lstrip(b" \t\r\n")[:1] == b"[" else "one"
    columns = _plain_columns(body, shape, tenant, reception, events_max)
    if columns is not None:
        return Decoded(columns, [], [])
    try:
        if is_crowded(body, shape, events_max):
            raise TooManyEventsError
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedBodyError(f"not an array of events: {error}") from error
    return _decode_exactly(body, shape, tenant, reception, events_max)


def _plain_columns(
    body: bytes, shape: str, tenant: str, reception: Reception, events_max: int
) -> Columns | None:
    """Return the events of a body, or None where one of them is unusual."""
    if not body.isascii():
        try:
            str(body, "utf-8")
        except UnicodeDecodeError:
            return None
    newlines = body.count(b"\n") if shape == "lines" else 0
    if newlines > 2 * events_max:
        return None
    text = bytearray(body)
    text.append(0)
    rows = np.empty((min(events_max, len(body) // EVENT_BYTES_MIN + 1), ROW_ITEMS), np.int64)
    count = scan(np.frombuffer(text, np.uint8), _SHAPES[shape], newlines, reception.bounds(), rows)
    return None if count == UNUSUAL else Columns(tenant, text, rows[:count], len(body))


def _decode_exactly(
    body: bytes, shape: str, tenant: str, reception: Reception, events_max: int
) -> Decoded:
    """Return the events judged one by one, with every refusal."""
    events: list[Event] = []
    indexes: list[int] = []
    refusals: list[Refusal] = []
    raws = _raw_events(body, shape)
    if len(raws) > events_max:
        raise TooManyEventsError
    for index, raw in enumerate(raws):
        verdict = rules.parse_event(raw, reception, index)
        if isinstance(verdict, Event):
            events.append(verdict)
            indexes.append(index)
        else:
            refusals.extend(verdict)
    return Decoded(_columns_of(events, tenant, len(body)), refusals, indexes if refusals else [])


def _raw_events(body: bytes, shape: str) -> list[bytes | msgspec.Raw]:
    """Return each event's bytes, unread."""
    if shape == "lines":
        return [line for line in body.split(b"\n") if line.strip()]
    try:
        if shape == "one":
            return [_raw_one.decode(body)]
        return list(_raw_many.decode(body))
    except msgspec.ValidationError as error:
        raise MalformedBodyError("a batch is a JSON array of events") from error
    except msgspec.DecodeError as error:
        raise MalformedBodyError(str(error)) from error
    except RecursionError as error:
        raise MalformedBodyError("nested too deeply") from error


def _columns_of(events: list[Event], tenant: str, size: int) -> Columns:
    """Return events as columns."""
    values = [
        value
        for event in events
        for value in (
            b"",
            event.id.encode(),
            event.source.encode(),
            event.type.encode(),
            event.subject.encode(),
            event.data,
            event.extensions,
        )
    ]
    rows = np.zeros((len(events), ROW_ITEMS), np.int64)
    sizes = np.array(list(map(len, values)), np.int64)
    ends = np.cumsum(sizes)
    rows[:, 0:TIME:2] = (ends - sizes).reshape(-1, len(FIELDS))
    rows[:, 1:TIME:2] = ends.reshape(-1, len(FIELDS))
    rows[:, TIME] = [rules.microseconds(event.time) for event in events]
    rows[:, STAMPED] = [event.time_stamped for event in events]
    return Columns(tenant, b"".join(values), rows, size)
