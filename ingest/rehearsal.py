"""Runs every step of a request once before the first one comes.

What is compiled, the decoders and Arrow set themselves up at their first use: time that belongs
into the start, not into somebody's request.
"""

from datetime import datetime

import msgspec

from ingest.bodies import Bodies, Body
from ingest.event import Reception
from ingest.limits import EventLimits
from ingest.packing import pack
from ingest.scanning import MANY


def rehearse(now: datetime) -> int:
    """Decide and pack a small and a larger request; returns the bytes of their records."""
    event = {"id": "1", "source": "s", "type": "t", "subject": "x", "time": now.isoformat()}
    bodies = Bodies(EventLimits(), 2)
    for count in (1, 2):
        body = msgspec.json.encode(
            [{**event, "subject": f"{number}", "data": {"n": number}} for number in range(count)]
        )
        bodies.add(Body([body], len(body), MANY, b"rehearsal", Reception(now)))
    events = bodies.read()
    return sum(len(value) for _, value in pack(events.text, events.rows, 2, 1_000_000))
