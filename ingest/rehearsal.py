"""Runs every step of a request once before the first one comes.

What is compiled, the decoders and Arrow set themselves up at their first use: time that belongs
into the start, not into somebody's request.
"""

from datetime import datetime

import msgspec

from ingest.batches import Batches
from ingest.columns import decode_events
from ingest.event import Reception


def rehearse(now: datetime) -> int:
    """Decode and pack a small and a larger request; returns the bytes of their records."""
    event = {"id": "1", "source": "s", "type": "t", "subject": "x", "time": now.isoformat()}
    batches = Batches(partitions=2, record_bytes_max=1_000_000)
    for count in (1, 2):
        body = msgspec.json.encode(
            [{**event, "subject": f"{number}", "data": {"n": number}} for number in range(count)]
        )
        decoded = decode_events(body, "many", "rehearsal", Reception(now), count)
        batches.add(decoded.columns)
    return sum(len(value) for _, value in batches.take_records())
