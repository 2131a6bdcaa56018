"""A request's events as columns: decoded and checked together, without an object per check.

`decode_events` takes the fast way when the whole request is plain: it then decides exactly as
`ingest.event.parse_event` would for each event. Anything unusual - a fault, an extension
attribute, an odd spelling of a time - sends the request the exact way, event by event.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from ingest import event as rules
from ingest.crowd import is_crowded
from ingest.event import Event, Reception, Refusal
from ingest.limits import EventLimits

SMALL = 256
"""Up to so many times a loop costs less than column operations."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=rules.NAME_CHARS_MAX)]
_NO_DATA = msgspec.Raw(b"")
_NULL_SIZE = len(b"null")
_MICROSECONDS = pa.timestamp("us", tz="UTC")


class _Envelope(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The attributes of an event on the fast way."""

    id: _Name
    source: _Name
    type: _Name
    subject: _Name
    specversion: Literal["1.0"] = "1.0"
    time: Annotated[str, msgspec.Meta(min_length=20, max_length=40)] | None = None
    datacontenttype: Literal["application/json"] | None = None
    data: msgspec.Raw = _NO_DATA


_one = msgspec.json.Decoder(_Envelope)
_many = msgspec.json.Decoder(list[_Envelope])
_raw_one = msgspec.json.Decoder(msgspec.Raw)
_raw_many = msgspec.json.Decoder(list[msgspec.Raw])


class Columns(msgspec.Struct, gc=False):
    """The accepted events of one request, column by column."""

    tenant: str
    ids: list[str]
    sources: list[str]
    types: list[str]
    subjects: list[str]
    times: bytes
    """Microseconds since 1970, 64 bits each."""
    stamped: bytes
    """1 where ingest stamped the time, else 0."""
    data: Sequence[bytes | msgspec.Raw]
    extensions: list[bytes]
    size: int
    """Bytes that the request held, for what may wait in memory."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tenants(self) -> list[str]:
        """The tenant, once for each event."""
        return [self.tenant] * len(self.ids)


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
    try:
        if is_crowded(body, shape, events_max):
            raise TooManyEventsError
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedBodyError(f"not an array of events: {error}") from error
    envelopes = _plain_envelopes(body, shape)
    if envelopes is not None:
        if len(envelopes) > events_max:
            raise TooManyEventsError
        columns = _plain_columns(envelopes, body, tenant, reception)
        if columns is not None:
            return Decoded(columns, [], [])
    return _decode_exactly(body, shape, tenant, reception, events_max)


def _plain_envelopes(body: bytes, shape: str) -> list[_Envelope] | None:
    """Return the events as structs with compact data, or None where one of them is unusual."""
    try:
        if not body.isascii():
            str(body, "utf-8")
        if shape == "lines":
            # A line that holds two objects, or half of one, is left to the exact way.
            envelopes = [_one.decode(line) for line in body.split(b"\n") if line.strip()]
            if b" " in body or b"\t" in body or b"\r" in body:
                for envelope in envelopes:
                    if envelope.data:
                        envelope.data = msgspec.Raw(
                            msgspec.json.format(bytes(envelope.data), indent=-1)
                        )
            return envelopes
        if b" " in body or b"\n" in body or b"\t" in body or b"\r" in body:
            body = msgspec.json.format(body, indent=-1)
        return [_one.decode(body)] if shape == "one" else _many.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _plain_columns(
    envelopes: list[_Envelope], body: bytes, tenant: str, reception: Reception
) -> Columns | None:
    """Return the columns of decoded events, or None where a check needs the exact way."""
    ids = [envelope.id for envelope in envelopes]
    sources = [envelope.source for envelope in envelopes]
    types = [envelope.type for envelope in envelopes]
    subjects = [envelope.subject for envelope in envelopes]
    # A control character comes as an escape, as DEL, or as UTF-8 that begins with C2.
    suspicious = b"\\" in body or b"\x7f" in body or b"\xc2" in body
    if suspicious and not all(
        "".join(names).isprintable() for names in (ids, sources, types, subjects)
    ):
        return None
    data = _plain_data([envelope.data for envelope in envelopes], reception.limits)
    if data is None:
        return None
    times = [envelope.time for envelope in envelopes]
    stamped = bytes(len(times))
    if None in times[:1] or not _are_texts(times):
        now = reception.received_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        stamped = bytes([time is None for time in times])
        times = [now if time is None else time for time in times]
    packed = _packed_times(times, reception)  # type: ignore[arg-type]  # None was replaced above
    if packed is None:
        return None
    extensions = [b""] * len(ids)
    return Columns(
        tenant, ids, sources, types, subjects, packed, stamped, data, extensions, len(body)
    )


def _are_texts(values: list[str | None]) -> bool:
    """Tell whether none is missing; joining is quicker than looking for None."""
    try:
        "".join(values)  # type: ignore[arg-type]  # a None among them is what is asked
    except TypeError:
        return False
    return True


def _plain_data(
    data: list[msgspec.Raw], limits: EventLimits
) -> Sequence[bytes | msgspec.Raw] | None:
    """Return data with `null` as no data, or None where size or nesting may be out of bounds."""
    sizes = list(map(len, data))
    if max(sizes, default=0) > limits.event_bytes_max:
        return None
    joined = b"\n".join([b"", *data])
    # Objects without anything inside open one bracket each: one has at most what is left over.
    spare = joined.count(b"{") + joined.count(b"[") - joined.count(b"\n{")
    if spare >= limits.nesting_max and _brackets_max(data, sizes) > limits.nesting_max:
        return None
    if _NULL_SIZE in sizes:
        return [b"" if bytes(text) == b"null" else text for text in data]
    return data


def _brackets_max(data: list[msgspec.Raw], sizes: list[int]) -> int:
    """Return how many brackets open in one of the texts: it cannot nest more deeply."""
    text = np.frombuffer(b"".join(data), dtype=np.uint8)
    # The brackets that open differ in one bit.
    opening = np.flatnonzero((text | 0x20) == ord("{"))
    opened_before = np.searchsorted(opening, np.cumsum(sizes))
    return int(np.diff(opened_before, prepend=0).max())


def _packed_times(times: list[str], reception: Reception) -> bytes | None:
    """Return the times in microseconds since 1970, or None where one of them is unusual."""
    first_us, last_us = reception.time_range_us()
    if len(times) <= SMALL:
        few_us = _few_times_us(times)
        if few_us is None or not all(first_us <= time_us <= last_us for time_us in few_us):
            return None
        return array("q", few_us).tobytes()
    times_us = _many_times_us(times)
    if times_us is None or times_us.min() < first_us or times_us.max() > last_us:
        return None
    return bytes(times_us.tobytes())


def _few_times_us(times: list[str]) -> list[int] | None:
    """Return the times, or None where one of them is unusual."""
    moments: list[datetime]
    if "|".join([*times, ""]).count("Z|") == len(times):
        # With Z, the decoder takes what the rule does.
        try:
            moments = msgspec.convert(times, list[datetime])
        except msgspec.ValidationError:
            return None
    else:
        parsed = [rules.parse_time(time) for time in times]
        moments = [moment for moment in parsed if moment is not None]
        if len(moments) < len(times):
            return None
    return [(moment - rules.EPOCH) // rules.MICROSECOND for moment in moments]


def _many_times_us(times: list[str]) -> Any:
    """Return the times as an array, or None."""
    column = pa.array(times, pa.string())
    if not _has_seconds_and_offset(column):
        return None
    try:
        parsed = column.cast(_MICROSECONDS)
    except pa.ArrowInvalid:
        return None
    return np.frombuffer(parsed.buffers()[1], dtype=np.int64, count=len(times))


def _has_seconds_and_offset(times: pa.StringArray) -> bool:
    """Tell whether all texts have the punctuation of RFC 3339 where Arrow's parser is laxer."""
    _, offsets_buffer, text_buffer = times.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int32, count=len(times) + 1)
    text = np.frombuffer(text_buffer, dtype=np.uint8)
    ends = offsets[1:]
    zulu = text[ends - 1] == ord("Z")
    offset = (text[ends - 3] == ord(":")) & (
        (text[ends - 6] == ord("+")) | (text[ends - 6] == ord("-"))
    )
    return bool(((text[offsets[:-1] + 16] == ord(":")) & (zulu | offset)).all())


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
    times = [rules.microseconds(event.time) for event in events]
    return Columns(
        tenant=tenant,
        ids=[event.id for event in events],
        sources=[event.source for event in events],
        types=[event.type for event in events],
        subjects=[event.subject for event in events],
        times=np.array(times, dtype=np.int64).tobytes(),
        stamped=bytes([event.time_stamped for event in events]),
        data=[event.data for event in events],
        extensions=[event.extensions for event in events],
        size=size,
    )
