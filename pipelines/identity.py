"""Who an event is, and whether two events with one identity are copies of each other.

The identity is (tenant, source, id): lengths are part of what is hashed, so that no two triples
collide by shifting characters, and a secret seed keeps senders from choosing collisions. No time
is in it: a resend without a time is still the same event.
"""

from collections.abc import Sequence
from typing import Any

import xxhash

BODY_HASH_BYTES = 8


def identities(
    tenants: Sequence[str], sources: Sequence[str], ids: Sequence[str], seed: int
) -> list[bytes]:
    """Return the 16-byte identity hash of each event."""
    digest = xxhash.xxh3_128_digest
    prefixes: dict[tuple[str, str], str] = {}
    hashes = []
    for tenant, source, event_id in zip(tenants, sources, ids, strict=True):
        prefix = prefixes.get((tenant, source))
        if prefix is None:
            prefix = f"{len(tenant)}:{tenant}{len(source)}:{source}"
            prefixes[tenant, source] = prefix
        hashes.append(digest((prefix + event_id).encode(), seed))
    return hashes


def body_hashes(events: Any) -> list[bytes]:
    """Return an 8-byte hash of what the client sent of each event, stamped times left out.

    `events` is an Arrow table with the columns of `ingest.topic.EVENT_SCHEMA`. The canonical form
    is the JSON text without insignificant white space; the order of members counts.
    """
    digest = xxhash.xxh3_64_digest
    times = events.column("time").cast("int64").to_pylist()
    hashes = []
    for kind, subject, time, stamped, data, extensions in zip(
        events.column("type").to_pylist(),
        events.column("subject").to_pylist(),
        times,
        events.column("time_stamped").to_pylist(),
        events.column("data").to_pylist(),
        events.column("extensions").to_pylist(),
        strict=True,
    ):
        sent_time = "" if stamped else time
        head = f"{len(kind)}:{kind}{len(subject)}:{subject}{sent_time}:{len(data)}:"
        hashes.append(digest(head.encode() + data + extensions))
    return hashes
