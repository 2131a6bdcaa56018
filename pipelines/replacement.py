"""A range replacement: what was sent for a range of time is replaced as a whole.

It is opened; events are sent for it, with its name in their attribute `replacement`, and held: they
do not count. At its close, in each partition at one record of the log, what counted in the range
is taken back and what was held counts. Reverting does the opposite.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from ingest.event import microseconds
from pipelines.progress import instant_text

ATTRIBUTE = "replacement"
Action = Literal["close", "revert"]
State = Literal["open", "closing", "closed", "reverting", "reverted"]


class ReplacementRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Closes or reverts a replacement in the partition that it stands in."""

    tenant: str
    replacement: str
    action: Action

    def to_value(self) -> bytes:
        """Return the record's value."""
        return msgspec.json.encode(self)

    @classmethod
    def from_value(cls, value: bytes) -> "ReplacementRecord":
        """Read a record's value; anything else raises ValueError."""
        try:
            return msgspec.json.decode(value, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"not a replacement: {error}") from error


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is replaced: events of `[start, end)`, of all that is named, and only of that."""

    tenant: str
    name: str
    start: datetime
    end: datetime
    subject: str | None
    source: str | None
    type: str | None
    author: str
    reason: str
    state: State

    @property
    def interval_us(self) -> tuple[int, int]:
        """The interval in microseconds since 1970."""
        return microseconds(self.start), microseconds(self.end)

    def fault(self, event: dict[str, Any]) -> str | None:
        """Return why an event cannot be sent for this replacement, or None."""
        if not self.start <= event["time"] < self.end:
            return f"its time lies outside of what replacement {self.name} replaces"
        for name in ("subject", "source", "type"):
            wanted = getattr(self, name)
            if wanted is not None and event[name] != wanted:
                return f"its {name} is not {wanted}, which replacement {self.name} replaces"
        return None

    def to_content(self) -> dict[str, Any]:
        """Return it as JSON content."""
        return {
            "name": self.name,
            "state": self.state,
            "from": instant_text(self.start),
            "to": instant_text(self.end),
            "subject": self.subject,
            "source": self.source,
            "type": self.type,
            "author": self.author,
            "reason": self.reason,
        }

    def covers(self, event: dict[str, Any]) -> bool:
        """Tell whether an event lies in what is replaced."""
        return self.fault(event) is None


def replacement_of(extensions: bytes) -> str:
    """Return the replacement that an event was sent for, by its extensions; empty for none."""
    if b'"replacement"' not in extensions:
        return ""
    found = msgspec.json.decode(extensions).get(ATTRIBUTE, "")
    return found if isinstance(found, str) else ""
