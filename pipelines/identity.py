"""Who an event is, and whether two events with one identity are copies of each other.

The identity is (tenant, source, id), hashed under a secret seed, which keeps senders from choosing
collisions. No time is in it: a resend without a time is still the same event.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

IDENTITY_BYTES = 16
BODY_HASH_BYTES = 8


def identities(events: Any, seed: int) -> Any:
    """Return the identity hash of each event, as an array of 16 bytes a row.

    `events` is an Arrow table with the columns of `ingest.topic.EVENT_SCHEMA`.
    """
    # Loading what is compiled takes a second: commands that hash no events do without.
    from pipelines.siphash import row_hashes  # noqa: PLC0415

    columns = _texts(events, ("tenant", "source", "id"))
    return row_hashes(columns, np.uint64(seed), np.uint64(0)).view(np.uint8)


def identity_of(tenant: str, source: str, event_id: str, seed: int) -> bytes:
    """Return the identity hash of one event."""
    table = pa.table({"tenant": [tenant], "source": [source], "id": [event_id]})
    hashed: bytes = identities(table, seed)[0].tobytes()
    return hashed


def body_hashes(events: Any, seed: int) -> Any:
    """Return a hash of what the client sent of each event, as an array of 8 bytes a row.

    Stamped times are left out. The canonical form is the JSON text without insignificant white
    space; the order of members counts.
    """
    from pipelines.body_hash import hashes  # noqa: PLC0415 - see `identities`
    from pipelines.siphash import siphash  # noqa: PLC0415

    times = events.column("time").cast(pa.int64()).to_numpy()
    sent = np.where(events.column("time_stamped").to_numpy(), -1, times)
    columns = _texts(events, ("type", "subject", "data", "extensions"))
    secret, other = siphash(np.zeros(1, np.uint64), BODY_HASH_BYTES, np.uint64(seed), np.uint64(0))
    return hashes(columns, sent, np.uint64(secret), np.uint64(other)).view(np.uint8).reshape(-1, 8)


def _texts(events: Any, names: Iterable[str]) -> tuple[Any, ...]:
    from pipelines.text_columns import texts_of  # noqa: PLC0415 - see `identities`

    return tuple(texts_of(events.column(name)) for name in names)
