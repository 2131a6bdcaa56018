"""The truth of a drill: every event that will be sent, written down before any of it is.

Nothing here knows how Tollbook counts: an event is the bytes that a sender puts on the wire, and
what must become of it.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

Key = tuple[str, str, str]
"""Who an event is: tenant, source and id."""


class Fate(StrEnum):
    """What must become of a planned event."""

    COUNTED = "counted"
    COPY = "copy"
    """Repeats a counted event: it may also arrive first, and then the other is the copy."""
    CONFLICT = "conflict"
    """Has the identity of an event that was acknowledged before, and another body."""
    REFUSED = "refused"
    """Ingest must say no, and why."""
    DEAD = "dead"
    """A record written past ingest that must end as a dead letter."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One event, or record, as it will be sent."""

    tenant: str
    body: bytes
    fate: Fate
    late: str = "in time"
    """The class of its event time, for who reads the truth."""

    @property
    def key(self) -> Key:
        """Who the event is."""
        content = parsed(self.body)
        return self.tenant, content["source"], content["id"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent in one piece: a request to ingest, or, past it, one record each."""

    tenant: str
    events: tuple[Planned, ...]
    headers: tuple[tuple[str, bytes], ...] = ()
    """Headers of records; an empty tuple is a request to ingest."""
    partition: int = 0
    append_ms: int = 0
    """What a broker whose clock is wrong would stamp records with; 0 is its own time."""


@dataclass(slots=True)
class Truth:
    """What will be sent, in phases: a phase begins when all of the one before is acknowledged."""

    seed: int
    event_type: str
    now: datetime
    phases: list[list[Parcel]] = field(default_factory=list)

    def planned(self) -> Iterator[Planned]:
        """Yield everything that will be sent."""
        for phase in self.phases:
            for parcel in phase:
                yield from parcel.events

    def of(self, fate: Fate) -> list[Planned]:
        """Return what must meet a fate."""
        return [each for each in self.planned() if each.fate is fate]

    def tenants(self) -> list[str]:
        """Return the tenants that send."""
        return sorted({each.tenant for each in self.planned()})

    def write(self, path: Path) -> None:
        """Write it down: one line per planned event."""
        with path.open("w", encoding="utf-8") as file:
            for number, phase in enumerate(self.phases):
                for place, parcel in enumerate(phase):
                    for each in parcel.events:
                        file.write(_line(number, place, each))


def _line(phase: int, parcel: int, planned: Planned) -> str:
    content = {
        "phase": phase,
        "parcel": parcel,
        "tenant": planned.tenant,
        "fate": planned.fate,
        "late": planned.late,
        "body": planned.body.decode("latin-1"),
    }
    return json.dumps(content) + "\n"


def parsed(body: bytes) -> dict[str, Any]:
    """Return an event as any JSON parser reads it, with exact numbers."""
    content: dict[str, Any] = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    return content


def event_body(
    *,
    event_id: str,
    event_type: str,
    subject: str,
    time: datetime,
    data: str,
    source: str = "drill",
) -> bytes:
    """Return the bytes of an event whose `data` is JSON text, sent exactly so."""
    head = json.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": source,
            "type": event_type,
            "subject": subject,
            "time": time.isoformat(),
        },
        ensure_ascii=False,
    )
    return f'{head[:-1]},"data":{data}}}'.encode()


def in_parcels(events: Iterable[Planned], size: int) -> list[Parcel]:
    """Return events as requests of at most `size` events of one tenant each, in order."""
    parcels: list[Parcel] = []
    waiting: dict[str, list[Planned]] = {}
    for event in events:
        of_tenant = waiting.setdefault(event.tenant, [])
        of_tenant.append(event)
        if len(of_tenant) == size:
            parcels.append(Parcel(event.tenant, tuple(of_tenant)))
            of_tenant.clear()
    parcels += [Parcel(tenant, tuple(events)) for tenant, events in waiting.items() if events]
    return parcels
