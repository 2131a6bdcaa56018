"""Second thoughts as people write them: wishes by name, outcomes, and the list of what was done."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ingest.event import (
    DEFAULT_LIMITS,
    NAME_CHARS_MAX,
    microseconds,
    nesting_of,
)
from pipelines.correction import CORRECTIONS_MAX, REASON_CHARS_MAX
from pipelines.cut import CutChain, Ranges
from pipelines.position import Position
from pipelines.second_thoughts import Outcome, Wish
from tollbook.usage_question import read_instant

STATUS: Mapping[str, int] = {"conflict": 409, "pending": 202, "applied": 200, "already": 200}
"""Of several outcomes, the first of these says the status."""


class EventCorrection(BaseModel):
    """What to do with one event."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["void", "amend", "restore"]
    source: str = Field(min_length=1, max_length=NAME_CHARS_MAX)
    id: str = Field(min_length=1, max_length=NAME_CHARS_MAX)
    position: str | None = Field(default=None, description="Which, where several are stored.")
    data: Any = Field(default=None, description="For amend: what takes the place of the data.")
    time: str | None = Field(default=None, description="For amend: the new event time.")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        changes = {"data", "time"} & self.model_fields_set
        if self.kind == "amend" and not changes:
            raise ValueError("amend says what changes: data, time or both")
        if self.kind != "amend" and changes:
            raise ValueError(f"{self.kind} takes neither data nor time")
        if self.position is not None:
            Position.from_text(self.position)
        return self


class EventCorrections(BaseModel):
    """What to do with several events, and why."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=REASON_CHARS_MAX, examples=["sent by a test"])
    corrections: list[EventCorrection] = Field(min_length=1, max_length=CORRECTIONS_MAX)


def wishes_of(asked: EventCorrections, body: bytes) -> list[Wish]:
    """Return what is asked for; `body` is its JSON text, whose data stays digit for digit.

    Raises:
        ValueError: data is larger, or nested more deeply, than that of an event may be.
    """
    raw = msgspec.json.decode(body, type=_Corrections)
    return [
        Wish(
            kind=each.kind,
            source=each.source,
            id=each.id,
            position=None if each.position is None else Position.from_text(each.position),
            data=_data(part.data) if "data" in each.model_fields_set else None,
            time=each.time,
        )
        for each, part in zip(asked.corrections, raw.corrections, strict=True)
    ]


class _Correction(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Corrections(msgspec.Struct):
    corrections: list[_Correction]


def _data(raw: msgspec.Raw) -> bytes:
    data: bytes = msgspec.json.format(bytes(raw), indent=-1)
    if len(data) > DEFAULT_LIMITS.event_bytes_max:
        raise ValueError(f"data is larger than {DEFAULT_LIMITS.event_bytes_max} bytes")
    if nesting_of(data) > DEFAULT_LIMITS.nesting_max:
        raise ValueError(f"data is nested more than {DEFAULT_LIMITS.nesting_max} deep")
    return data


def outcomes_content(wishes: Sequence[Wish], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what became of wishes as JSON content."""
    return {
        "corrections": [
            {
                "kind": wish.kind,
                "source": wish.source,
                "id": wish.id,
                "event_position": str(outcome.position),
                "revision": outcome.revision,
                "state": outcome.state,
                "position": None if outcome.at is None else str(outcome.at),
            }
            for wish, outcome in zip(wishes, outcomes, strict=True)
        ]
    }


def worst_status(outcomes: Sequence[Outcome]) -> int:
    """Return the HTTP status that says what became of all."""
    states = {outcome.state for outcome in outcomes}
    return next(status for state, status in STATUS.items() if state in states)


def between(cuts: CutChain, tenant: str, since: int | None, until: int | None) -> Ranges | None:
    """Return the part of the log between two cuts of a chain, by their numbers.

    Raises:
        LookupError: the chain has no such cut.
    """
    if since is None and until is None:
        return None
    bounds = []
    for number in (since, until):
        cut = None if number is None else cuts.by_number(tenant, number)
        if number is not None and cut is None:
            raise LookupError(f"there is no cut {number}")
        bounds.append({} if cut is None else cuts.offsets(cut))
    starts, ends = bounds
    return {at: (starts.get(at, 0), ends.get(at, 1 << 62)) for at in {*starts, *ends}}


def interval_us(start: str | None, end: str | None) -> tuple[int, int] | None:
    """Return an interval of event times, as people write it, in microseconds since 1970.

    Raises:
        BadParameterError: a bound is neither an instant nor a date, which is its midnight in UTC.
    """
    first, last = read_instant("from", start), read_instant("to", end)
    if first is None and last is None:
        return None
    return (
        0 if first is None else max(0, microseconds(first)),
        1 << 62 if last is None else max(0, microseconds(last)),
    )
