"""Decides the events of a body one by one, where `ingest.scanning` finds it unusual.

That is a body with a fault, an extension attribute, an odd spelling of a time.
"""

import msgspec
import numpy as np

from ingest import event as rules
from ingest.crowd import is_crowded
from ingest.event import Event, Reception, Refusal
from ingest.scanning import ANY, FIELDS, LINES, MANY, ONE, ROW_ITEMS, STAMPED, TIME

_raw_one = msgspec.json.Decoder(msgspec.Raw)
_raw_many = msgspec.json.Decoder(list[msgspec.Raw])


class MalformedBodyError(ValueError):
    """The body as a whole cannot be read, so that no event of it has an index."""


class TooManyEventsError(ValueError):
    """The body holds more events than one request may."""


def decide(
    body: bytes, shape: int, reception: Reception, events_max: int
) -> tuple[list[tuple[int, Event]], list[Refusal]]:
    """Return the good events with their indexes, and every refusal of the others.

    `shape` is one of those of `ingest.scanning`.

    Raises:
        MalformedBodyError: the body is not JSON of that shape.
        TooManyEventsError: more than `events_max` events.
    """
    if shape == ANY:
        shape = MANY if body.lstrip(b" \t\r\n")[:1] == b"[" else ONE
    try:
        if is_crowded(body, shape, events_max):
            raise TooManyEventsError
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedBodyError(f"not an array of events: {error}") from error
    raws = _raw_events(body, shape)
    if len(raws) > events_max:
        raise TooManyEventsError
    good: list[tuple[int, Event]] = []
    refusals: list[Refusal] = []
    for index, raw in enumerate(raws):
        verdict = rules.parse_event(raw, reception, index)
        if isinstance(verdict, Event):
            good.append((index, verdict))
        else:
            refusals.extend(verdict)
    return good, refusals


def _raw_events(body: bytes, shape: int) -> list[bytes | msgspec.Raw]:
    """Return each event's bytes, unread."""
    if shape == LINES:
        return [line for line in body.split(b"\n") if line.strip()]
    try:
        if shape == ONE:
            return [_raw_one.decode(body)]
        return list(_raw_many.decode(body))
    except msgspec.ValidationError as error:
        raise MalformedBodyError("a batch is a JSON array of events") from error
    except msgspec.DecodeError as error:
        raise MalformedBodyError(str(error)) from error
    except RecursionError as error:
        raise MalformedBodyError("nested too deeply") from error


def text_and_rows(
    tenant: bytes, events: list[Event]
) -> tuple[bytes, "np.ndarray[tuple[int, int], np.dtype[np.int64]]"]:
    """Return the values of events as one text, and where each stands in it: see `FIELDS`."""
    values = [
        value
        for event in events
        for value in (
            tenant,
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
    return b"".join(values), rows
