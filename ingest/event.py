"""One usage event: a structured JSON CloudEvent, checked in full, with every fault named.

This is the rule of what an event is. `ingest.bodies` decides whole flushes at once and comes
here whenever anything looks unusual; producers that write to the log directly are judged here
too. A JSON key that occurs twice in one object counts with its last value, as JSON parsers do.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ingest.limits import EventLimits
from ingest.topic import EVENT_SCHEMA

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DEFAULT_LIMITS = EventLimits()
NAMES = ("id", "source", "type", "subject")
NAME_CHARS_MAX = 256
_ENVELOPE_BYTES_MAX = 64 * 1024
"""What an event may hold beside data and extensions, so that none is read that is too large."""
ENVELOPE = frozenset((*NAMES, "specversion", "time", "data", "datacontenttype"))

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_EXTENSION_NAME = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_JSON_MEDIA_TYPE = re.compile(r"\s*[a-z]+/(?:json|[\w.+-]+\+json)\s*(?:;.*)?", re.IGNORECASE)
_NESTING = np.zeros(256, dtype=np.int8)
_NESTING[list(b"[{")] = 1
_NESTING[list(b"]}")] = -1

_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw])
_scalar = msgspec.json.Decoder(str | bool | int | None)
_text = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event was not taken: its index in the request, the attribute, the reason."""

    index: int
    field: str
    reason: str

    def to_document(self) -> dict[str, Any]:
        """Return the refusal as it stands in a problem document."""
        return {"index": self.index, "field": self.field, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Event:
    """A valid event; `data` and `extensions` are compact JSON, empty where there is none."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    time_stamped: bool
    data: bytes
    extensions: bytes


@dataclass(frozen=True, slots=True)
class Reception:
    """What an event is judged by beside its bytes: when it came, and what its tenant may send."""

    received_at: datetime
    open_for_history: bool = False
    limits: EventLimits = DEFAULT_LIMITS
    _bounds: list[tuple[int, int, int, int, int]] = field(
        default_factory=list, repr=False, compare=False
    )

    def time_range_us(self) -> tuple[int, int]:
        """Return the first and the last acceptable event time, in microseconds since 1970."""
        return self.bounds()[2:4]

    def bounds(self) -> tuple[int, int, int, int, int]:
        """Return all that bounds an event, as `ingest.scanning` takes it; times in microseconds.

        That is: how deep data may be, its most bytes, the first and the last acceptable time, and
        the time that an event without one has.
        """
        if not self._bounds:
            self._bounds.append(self._worked_out_bounds())
        return self._bounds[0]

    def _worked_out_bounds(self) -> tuple[int, int, int, int, int]:
        limits, received = self.limits, microseconds(self.received_at)
        first = 0
        if not self.open_for_history:
            first = max(0, received - limits.past_seconds_max * 1_000_000)
        last = received + limits.future_seconds_max * 1_000_000
        return limits.nesting_max, limits.event_bytes_max, first, last, received


def microseconds(moment: datetime) -> int:
    """Return an aware datetime as whole microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def parse_event(
    value: bytes | msgspec.Raw, reception: Reception, index: int = 0
) -> Event | list[Refusal]:
    """Return the event that one JSON object holds, or every reason why it holds none."""
    try:
        # Raw attributes are not checked for their encoding by the decoder.
        str(memoryview(value), "utf-8")
        size_max = reception.limits.event_bytes_max
        if len(value) > size_max + _ENVELOPE_BYTES_MAX:
            value = msgspec.json.format(bytes(value), indent=-1)
            if len(value) > size_max + _ENVELOPE_BYTES_MAX:
                return [Refusal(index, "data", f"larger than {size_max} bytes")]
        attributes = _attributes.decode(value)
    except UnicodeDecodeError as error:
        return [Refusal(index, "", f"not UTF-8: byte {error.start} of the event")]
    except RecursionError:
        return [Refusal(index, "", "nested too deeply")]
    except msgspec.ValidationError:
        return [Refusal(index, "", "an event is a JSON object")]
    except msgspec.DecodeError as error:
        return [Refusal(index, "", str(error))]
    return _Reading(attributes, reception, index).result()


class _Reading:
    """Reads one event's attributes and gathers what is wrong with them."""

    def __init__(
        self, attributes: dict[str, msgspec.Raw], reception: Reception, index: int
    ) -> None:
        self._attributes = attributes
        self._reception = reception
        self._index = index
        self._refusals: list[Refusal] = []

    def result(self) -> Event | list[Refusal]:
        event_id, source, kind, subject = (self._name(name) for name in NAMES)
        if self._optional_text("specversion") not in {None, "1.0"}:
            self._refuse("specversion", 'must be "1.0"')
        time = self._time()
        data = self._data()
        extensions = self._extensions()
        size_max = self._reception.limits.event_bytes_max
        if len(data) + len(extensions) > size_max:
            self._refuse("data", f"larger than {size_max} bytes")
        if self._refusals:
            return self._refusals
        return Event(
            id=event_id,
            source=source,
            type=kind,
            subject=subject,
            time=time or self._reception.received_at,
            time_stamped=time is None,
            data=data,
            extensions=extensions,
        )

    def _refuse(self, field: str, reason: str) -> None:
        self._refusals.append(Refusal(self._index, field, reason))

    def _name(self, field: str) -> str:
        raw = self._attributes.get(field)
        if raw is None:
            self._refuse(field, "missing")
            return ""
        try:
            text = _text.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._refuse(field, "must be a string of valid Unicode")
            return ""
        fault = name_fault(text)
        if fault is not None:
            self._refuse(field, fault)
        return text

    def _optional_text(self, field: str) -> str | None:
        raw = self._attributes.get(field)
        if raw is None or bytes(raw) == b"null":
            return None
        try:
            return _text.decode(raw)
        except msgspec.DecodeError:
            self._refuse(field, "must be a string")
            return None

    def _time(self) -> datetime | None:
        text = self._optional_text("time")
        if text is None:
            return None
        moment = parse_time(text)
        if moment is None:
            self._refuse("time", "must be an RFC 3339 time with its offset from UTC")
            return None
        fault = time_fault(microseconds(moment), self._reception)
        if fault is not None:
            self._refuse("time", fault)
        return moment

    def _data(self) -> bytes:
        if "data_base64" in self._attributes:
            self._refuse("data_base64", "data must be JSON; binary data cannot be metered")
        content_type = self._optional_text("datacontenttype")
        if content_type is not None and not is_json_media_type(content_type):
            self._refuse("datacontenttype", "must be JSON: application/json or a +json type")
        raw = self._attributes.get("data")
        if raw is None:
            return b""
        data: bytes = msgspec.json.format(bytes(raw), indent=-1)
        if data == b"null":
            return b""
        nesting_max = self._reception.limits.nesting_max
        if nesting_of(data) > nesting_max:
            self._refuse("data", f"nested more than {nesting_max} deep")
        return data

    def _extensions(self) -> bytes:
        found: dict[str, str | bool | int] = {}
        for name, raw in self._attributes.items():
            if (name in ENVELOPE and name != "datacontenttype") or name == "data_base64":
                continue
            if not _EXTENSION_NAME.fullmatch(name):
                self._refuse(name[:64], "attribute names are 1 to 64 lower-case letters or digits")
                continue
            try:
                scalar = _scalar.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._refuse(name, "an extension is a string, a boolean or a whole number")
                continue
            if scalar is not None and not (name == "datacontenttype" and is_plain_json(scalar)):
                found[name] = scalar
        return msgspec.json.encode(found, order="sorted") if found else b""


def name_fault(text: str) -> str | None:
    """Return what is wrong with an id, source, type or subject, or None."""
    if not text:
        return "must not be empty"
    if len(text) > NAME_CHARS_MAX:
        return f"longer than {NAME_CHARS_MAX} characters"
    if _CONTROL.search(text):
        return "must not contain control characters"
    return None


def parse_time(text: str) -> datetime | None:
    """Return the moment of an RFC 3339 text in UTC, rounded to microseconds, or None."""
    try:
        moment = msgspec.convert(text, datetime)
        # The decoder also takes times without an offset, and offsets without a colon.
        if moment.tzinfo is None or not (text[-1] in "Zz" or text[-3] == ":"):
            return None
        return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError, ValueError):
        return None


def time_fault(time_us: int, reception: Reception) -> str | None:
    """Return why an event time is not acceptable now, or None."""
    first_us, last_us = reception.time_range_us()
    if time_us > last_us:
        return f"more than {_duration(reception.limits.future_seconds_max)} in the future"
    if time_us >= first_us:
        return None
    if first_us == 0:
        return "before 1970"
    return f"more than {_duration(reception.limits.past_seconds_max)} in the past"


def _duration(seconds: int) -> str:
    """Return a duration in the largest unit that it is a whole number of."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = seconds // size
            return f"{count} {unit}{'s' * (count != 1)}"
    return f"{seconds} seconds"


def is_json_media_type(text: str) -> bool:
    """Tell whether a datacontenttype says JSON."""
    return _JSON_MEDIA_TYPE.fullmatch(text) is not None


def is_plain_json(value: object) -> bool:
    """Tell whether a datacontenttype says no more than its absence would."""
    return value == "application/json"


def nesting_of(data: bytes) -> int:
    """Return how deep the arrays and objects of valid JSON are nested."""
    if data.count(b"{") + data.count(b"[") <= 1:
        return data.count(b"{") + data.count(b"[")
    # Without escapes, every second quote ends a string, and what lies between opens nothing.
    bare = data.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    text = np.frombuffer(bare, dtype=np.uint8)
    is_text = np.cumsum(text == ord('"'), dtype=np.uint8) & 1
    steps = _NESTING[text]
    steps[is_text == 1] = 0
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def to_batch(tenant: str, events: Sequence[Event]) -> Any:
    """Return one `pa.RecordBatch` of `EVENT_SCHEMA` for events of one tenant."""
    columns = [
        [tenant] * len(events),
        *([getattr(event, name) for event in events] for name in EVENT_SCHEMA.names[1:]),
    ]
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns, EVENT_SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA)
