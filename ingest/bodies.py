"""The bodies that wait for a flush, in one text, read together when it is due.

What `ingest.scanning` finds in place decides as `ingest.event.parse_event` would for each event;
a body that it finds unusual is decided event by event, in its turn.
"""

import logging
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from compiled.memory import CHUNK_BYTES
from ingest.crowd import EVENT_BYTES_MIN
from ingest.event import Reception, Refusal
from ingest.exact import MalformedBodyError, TooManyEventsError, decide, text_and_rows
from ingest.limits import EventLimits
from ingest.plain_json import KEY_BYTES, KEYS_MAX
from ingest.scanning import BODY, FOUND, IS_UTF8, ROW_ITEMS, TIME, scan

log = logging.getLogger(__name__)

MALFORMED, TOO_MANY, INTERNAL = "malformed-body", "too-many-events", "internal"

_ZERO = b"\0"
_PADDING = bytes(CHUNK_BYTES)


class Body(msgspec.Struct, gc=False):
    """The events of one request, unread."""

    pieces: list[bytes | memoryview]
    size: int
    shape: int
    """See `ingest.scanning`."""
    tenant: bytes
    reception: Reception
    is_partial: bool = False
    """Whether good events are taken beside refused ones."""


class Verdict(msgspec.Struct, gc=False):
    """What was decided about a body."""

    accepted: int
    """Events that go into the log; the others are in `refusals`, or there is a `fault`."""
    refusals: list[Refusal] = []
    indexes: list[int] = []
    """Where the good events stood in the request; empty where all of them were."""
    fault: str = ""
    """MALFORMED, TOO_MANY or INTERNAL where the body as a whole was refused. Not the exception: its
    traceback would keep the body in memory."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Events:
    """The accepted events of bodies, and a verdict for each body."""

    text: Any
    """An array of bytes."""
    rows: Any
    """Where in the text the values of each event stand: see `ingest.scanning`."""
    verdicts: list[Verdict]


class Bodies:
    """What waits for the next flush."""

    def __init__(self, limits: EventLimits, events_max: int) -> None:
        self._limits = limits.nesting_max, limits.event_bytes_max, events_max
        self._events_max = events_max
        self._start()

    def _start(self) -> None:
        self._bodies: list[Body] = []
        self._pieces: list[bytes | memoryview] = []
        self._places: list[tuple[int, ...]] = []
        self._end = 0
        self._events_most = 0
        self.size = 0

    def add(self, body: Body) -> None:
        """Take one request's events."""
        tenant, size = self._end, body.size
        begin = tenant + len(body.tenant)
        end = begin + size
        _, _, first_us, last_us, stamp_us = body.reception.bounds()
        self._bodies.append(body)
        self._pieces += (body.tenant, *body.pieces, _ZERO)
        self._places.append((tenant, begin, end, body.shape, 0, first_us, last_us, stamp_us, 0))
        self._end = end + 1
        self._events_most += min(self._events_max, size // EVENT_BYTES_MIN + 1)
        self.size += size

    def read(self) -> Events:
        """Decide about all that waits, in its order, and wait for others."""
        bodies = self._bodies
        text = np.frombuffer(bytearray().join([*self._pieces, _PADDING]), np.uint8)
        places = np.array(self._places, np.int64).reshape(-1, len(BODY))
        rows = np.empty((self._events_most, ROW_ITEMS), np.int64)
        known = np.zeros(KEYS_MAX * KEY_BYTES, np.uint8)
        self._start()
        unusual: dict[int, Verdict] = {}
        appended: list[bytes] = []
        end = len(text)
        done = reached = 0
        while True:
            done, reached = scan(text, places, self._limits, done, rows, reached, known)
            if done == len(bodies):
                break
            raw = text.data[places[done, 1] : places[done, 2]]
            if not places[done, IS_UTF8] and _is_utf8(raw):
                places[done, IS_UTF8] = 1
                continue
            verdict, values, found = self._decide(bodies[done], bytes(raw))
            unusual[done] = verdict
            if len(found):
                found[:, :TIME] += end
                rows[reached : reached + len(found)] = found
                appended.append(values)
                end += len(values)
                reached += len(found)
            done += 1
        if appended:
            text = np.frombuffer(b"".join([text.data, *appended]), np.uint8)
        verdicts = [
            unusual.get(number) or Verdict(found)
            for number, found in enumerate(places[:, FOUND].tolist())
        ]
        return Events(text, rows[:reached], verdicts)

    def _decide(self, body: Body, raw: bytes) -> tuple[Verdict, bytes, Any]:
        """Return the verdict on an unusual body, and what is taken of it as text and rows."""
        verdict = Verdict(0)
        events = []
        try:
            good, verdict.refusals = decide(raw, body.shape, body.reception, self._events_max)
            if not verdict.refusals or body.is_partial:
                events = [event for _, event in good]
            if verdict.refusals:
                verdict.indexes = [index for index, _ in good]
        except MalformedBodyError as error:
            verdict.fault, verdict.detail = MALFORMED, str(error)
        except TooManyEventsError:
            verdict.fault = TOO_MANY
        except Exception:
            log.exception("ingest failed on a request")
            verdict.fault = INTERNAL
        verdict.accepted = len(events)
        return verdict, *text_and_rows(body.tenant, events)


def _is_utf8(raw: memoryview) -> bool:
    try:
        str(raw, "utf-8")
    except UnicodeDecodeError:
        return False
    return True
