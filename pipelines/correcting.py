"""Second thoughts: events that were counted are taken back, changed, or brought back as sent.

A correction is a record of the log, and does what it does there: it adds signed events, the event
as it counted until then with -1 and as it counts from then on with +1. Usage adds them up like any
others, so that what was read before, as of a cut, stays as it was. The event as sent is kept.

A correction that does not win is a conflict, kept as a dead letter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ingest.event import parse_time
from pipelines.correction import Correction, CorrectionRecord, Kind
from pipelines.position import LogPartition, Position
from pipelines.progress import instant_text
from pipelines.record import COUNTED_SCHEMA, DeadLetter, moment_of
from pipelines.replacement import replacement_of

TARGET_SCHEMA = pa.schema(
    [*COUNTED_SCHEMA, pa.field("log", pa.uint16()), pa.field("partition", pa.uint16())]
)
"""An event as it stands in the tables, with its whole position."""
CONTRIBUTION_SCHEMA = pa.schema(
    [
        *TARGET_SCHEMA,
        pa.field("sign", pa.int8()),
        pa.field("revision", pa.uint32()),
        pa.field("at_log", pa.uint16()),
        pa.field("at_partition", pa.uint16()),
        pa.field("at_offset", pa.uint64()),
        pa.field("at_index", pa.uint32()),
    ]
)
"""What the log adds at one place: an event as sent, of revision 0, or a signed event."""
CORRECTED_SCHEMA = pa.schema(
    [
        *TARGET_SCHEMA,
        pa.field("sign", pa.int8()),
        pa.field("revision", pa.uint32()),
        pa.field("kind", pa.string()),
        pa.field("author", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("request", pa.string()),
        pa.field("at_log", pa.uint16()),
        pa.field("at_partition", pa.uint16()),
        pa.field("at_offset", pa.uint64()),
        pa.field("at_index", pa.uint32()),
        pa.field("corrected_at", pa.timestamp("ms", tz="UTC")),
    ]
)
"""Signed events, and which correction they are of."""

Row = dict[str, Any]


@dataclass(slots=True)
class Target:
    """An event as sent, how often it was corrected, and as it counts now: None if it does not."""

    sent: Row
    revision: int
    now: Row | None


class CorrectionTables(Protocol):
    """What corrections need to know of what is stored."""

    def targets(
        self, tenant: str, wanted: Sequence[Correction], at: LogPartition, below: int
    ) -> Mapping[Position, Target]:
        """Return the events that are stored, as left by corrections below `below` of `at`.

        Corrections in other partitions count as they are stored: there are some only where an
        event of an older log was corrected in both.
        """


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record of corrections stands, and when it was appended."""

    at: LogPartition
    offset: int
    append_ms: int


@dataclass(slots=True)
class Applied:
    """What corrections come to: signed events, and those that could not be."""

    rows: list[Row] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)


def apply(record: CorrectionRecord, place: Place, targets: Mapping[Position, Target]) -> Applied:
    """Apply a record's corrections in order; `targets` are brought up to date."""
    applied = Applied()
    for index, wanted in enumerate(record.corrections):
        target = targets.get(Position.from_text(wanted.position))
        fault = _fault(wanted, target)
        if fault is not None:
            kind, reason = fault
            letter = DeadLetter(
                tenant=record.tenant,
                at=place.at,
                offset=place.offset,
                index=index,
                kind=kind,
                reason=reason,
                body=msgspec.json.encode(wanted),
                ingested_at_ms=place.append_ms,
            )
            applied.letters.append(letter)
            continue
        assert target is not None  # noqa: S101 - else it has a fault
        after = _after(wanted, target)
        signed = [(-1, target.now), (1, after)]
        about = {
            "revision": wanted.revision,
            "kind": wanted.kind,
            "author": record.author,
            "reason": record.reason,
            "request": record.request,
            "at_log": place.at.log,
            "at_partition": place.at.partition,
            "at_offset": place.offset,
            "at_index": index,
            "corrected_at": moment_of(place.append_ms),
        }
        applied.rows += [row | about | {"sign": sign} for sign, row in signed if row is not None]
        target.revision, target.now = wanted.revision, after
    return applied


def _fault(wanted: Correction, target: Target | None) -> tuple[str, str] | None:
    """Return kind and reason of the dead letter that a correction is, or None."""
    if target is None:
        return "refused", f"no event {wanted.source}/{wanted.id} is stored at {wanted.position}"
    if not target.revision and target.now is None:
        name = replacement_of(target.sent["extensions"])
        return "refused", f"the event is held for replacement {name}, which is not closed"
    if wanted.revision != target.revision + 1:
        return "conflict", (
            f"revision {wanted.revision} of the event at {wanted.position} was asked for, but it"
            f" is at revision {target.revision}; another correction came first"
        )
    if wanted.kind == "void" and target.now is None:
        return "conflict", f"the event at {wanted.position} is void already"
    return None


def row_after(kind: Kind, target: Target, data: bytes | None, time: datetime | None) -> Row | None:
    """Return the event as it counts after a correction; None where it does not."""
    if kind == "void":
        return None
    if kind == "restore":
        return target.sent
    row = dict(target.now or target.sent)
    if data is not None:
        compact: bytes = msgspec.json.format(data, indent=-1)
        row["data"] = b"" if compact == b"null" else compact
    if time is not None:
        row["time"], row["time_stamped"] = time, False
    return row


def _after(wanted: Correction, target: Target) -> Row | None:
    data = bytes(wanted.data) if isinstance(wanted.data, msgspec.Raw) else None
    return row_after(
        wanted.kind, target, data, None if wanted.time is None else parse_time(wanted.time)
    )


def target_of(sent: Row, corrections: Sequence[Row]) -> Target:
    """Return an event as its corrections left it; they are rows of `CORRECTED_SCHEMA`.

    What was sent for a replacement counts only when that is closed.
    """
    revision = max((row["revision"] for row in corrections), default=0)
    if not revision:
        return Target(sent, 0, None if replacement_of(sent["extensions"]) else sent)
    now = [row for row in corrections if row["revision"] == revision and row["sign"] > 0]
    return Target(sent, revision, {name: now[0][name] for name in sent} if now else None)


@dataclass(frozen=True, slots=True)
class Done:
    """A correction that was carried out: which event, how it counted before, and how it does now.

    `before` and `after` are rows of `CORRECTED_SCHEMA`; None where the event did not count.
    """

    at: Position
    about: Row
    before: Row | None
    after: Row | None

    def to_content(self) -> dict[str, Any]:
        """Return it as content for msgspec's JSON, in which data stands as it was sent."""
        row = self.about
        return {
            "position": str(self.at),
            "kind": row["kind"],
            "revision": row["revision"],
            "source": row["source"],
            "id": row["id"],
            "subject": row["subject"],
            "event_position": str(position_of(row)),
            "before": _form(self.before),
            "after": _form(self.after),
            "author": row["author"],
            "reason": row["reason"],
            "request": row["request"],
            "corrected_at": instant_text(row["corrected_at"]),
        }


def _form(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    data = msgspec.Raw(row["data"]) if row["data"] else None
    return {"time": instant_text(row["time"]), "data": data}


def summed_up(rows: Sequence[Row]) -> list[Done]:
    """Return the corrections that signed events are of, in their order."""
    found: dict[Position, dict[int, Row]] = {}
    for row in rows:
        place = LogPartition(row["at_log"], row["at_partition"])
        at = Position(place, row["at_offset"], row["at_index"])
        found.setdefault(at, {})[row["sign"]] = row
    return [
        Done(at, next(iter(signed.values())), signed.get(-1), signed.get(1))
        for at, signed in found.items()
    ]


def position_of(row: Row) -> Position:
    """Return where an event stands."""
    return Position(LogPartition(row["log"], row["partition"]), row["offset"], row["index"])


def counted(rows: Any, sign: int) -> Any:
    """Return signed events of one sign as what a fold reads, at the corrections' positions."""
    chosen = rows.filter(pc.equal(rows.column("sign"), sign))
    for name in ("offset", "index"):
        column = chosen.column(f"at_{name}")
        chosen = chosen.set_column(chosen.schema.get_field_index(name), name, column)
    return chosen.select(COUNTED_SCHEMA.names)
