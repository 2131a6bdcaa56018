"""The form of a correction: what is asked of events that were counted, as a record of the log.

A correction's identity is (target, revision): revision n needs n - 1 before it, and the first in
the log wins.
"""

from typing import Literal

import msgspec

from ingest.event import parse_time
from pipelines.position import Position

Kind = Literal["void", "amend", "restore"]
REASON_CHARS_MAX = 1_000
CORRECTIONS_MAX = 1000
"""A record holds so many at most."""


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to do with one event; `source` and `id` say again which, so that it is found fast."""

    kind: Kind
    position: str
    source: str
    id: str
    revision: int
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """For amend: the new data, where it changes."""
    time: str | None = None
    """For amend: the new event time, where it changes."""


class CorrectionRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Corrections of one tenant that were asked for together."""

    tenant: str
    request: str
    author: str
    reason: str
    corrections: list[Correction]

    def to_value(self) -> bytes:
        """Return the record's value."""
        return msgspec.json.encode(self)

    @classmethod
    def from_value(cls, value: bytes) -> "CorrectionRecord":
        """Read a record's value; anything else raises ValueError."""
        try:
            record = msgspec.json.decode(value, type=cls)
            for each in record.corrections:
                Position.from_text(each.position)
                if isinstance(each.data, msgspec.Raw):
                    str(memoryview(each.data), "utf-8")
                if each.time is not None and parse_time(each.time) is None:
                    raise ValueError(f"{each.time!r} is no time")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"not a correction: {error}") from error
        return record
