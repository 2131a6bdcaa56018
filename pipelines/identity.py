"""Who an event is, and whether two events with one identity are copies of each other.

The identity is (tenant, source, id): lengths are part of what is hashed, so that no two triples
collide by shifting characters, and a secret seed keeps senders from choosing collisions. No time
is in it: a resend without a time is still the same event.
"""

from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

IDENTITY_BYTES = 16
BODY_HASH_BYTES = 8

_WORD = np.uint64((1 << 64) - 1)
_ODD = (np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F))
"""Odd, so that multiplying by them loses nothing; large, so that it spreads every bit."""


def identities(events: Any, seed: int) -> Any:
    """Return the identity hash of each event, as an array of 16 bytes a row.

    `events` is an Arrow table with the columns of `ingest.topic.EVENT_SCHEMA`. An id is hashed
    alone, under a seed of its (tenant, source); the pair's own hash is then laid over it.
    """
    digest = xxhash.xxh3_128_digest
    ids = events.column("id").cast(pa.binary()).to_pylist()
    codes, pairs = _pairs(events, "tenant", "source")
    owners = [digest(f"{len(a)}:{a}{b}".encode(), seed) for a, b in pairs]
    seeds = [int.from_bytes(owner[:8], "big") for owner in owners]
    if len(owners) == 1:
        hashes = map(digest, ids, repeat(seeds[0]))
    else:
        hashes = map(digest, ids, np.array(seeds, np.uint64)[codes].tolist())
    words = np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, 2)
    own = np.frombuffer(b"".join(owners), np.uint64).reshape(-1, 2)
    return (words ^ own[codes]).view(np.uint8)


def identity_of(tenant: str, source: str, event_id: str, seed: int) -> bytes:
    """Return the identity hash of one event."""
    table = pa.table({"tenant": [tenant], "source": [source], "id": [event_id]})
    hashed: bytes = identities(table, seed)[0].tobytes()
    return hashed


def body_hashes(events: Any) -> Any:
    """Return a hash of what the client sent of each event, as an array of 8 bytes a row.

    Stamped times are left out. The canonical form is the JSON text without insignificant white
    space; the order of members counts.
    """
    data = events.column("data").to_pylist()
    extensions = events.column("extensions")
    if pc.max(pc.binary_length(extensions)).as_py():
        data = [
            b"%d:%b%b" % (len(d), d, e) if e else d
            for d, e in zip(data, extensions.to_pylist(), strict=True)
        ]
    hashes = np.frombuffer(b"".join(map(xxhash.xxh3_64_digest, data)), np.uint64)
    codes, pairs = _pairs(events, "type", "subject")
    heads = [xxhash.xxh3_64_intdigest(f"{len(a)}:{a}{b}".encode()) for a, b in pairs]
    times = events.column("time").cast(pa.int64()).to_numpy().astype(np.uint64)
    sent = np.where(events.column("time_stamped").to_numpy(), _WORD, times)
    for part, odd in zip((np.array(heads, np.uint64)[codes], sent), _ODD, strict=True):
        hashes = (hashes ^ part) * odd
        hashes ^= hashes >> np.uint64(32)
    return hashes.view(np.uint8).reshape(-1, BODY_HASH_BYTES)


def _pairs(events: Any, first: str, second: str) -> tuple[Any, list[tuple[str, str]]]:
    """Return each row's code, and the distinct pairs of two columns that the codes stand for."""
    codes, values = [], []
    for name in (first, second):
        encoded = events.column(name).combine_chunks().dictionary_encode()
        codes.append(encoded.indices.to_numpy().astype(np.int64))
        values.append(encoded.dictionary.to_pylist())
    if len(values[0]) == 1:
        return codes[1], [(values[0][0], value) for value in values[1]]
    size = len(values[1])
    distinct, places = np.unique(codes[0] * size + codes[1], return_inverse=True)
    pairs = [(values[0][pair // size], values[1][pair % size]) for pair in distinct.tolist()]
    return places, pairs
