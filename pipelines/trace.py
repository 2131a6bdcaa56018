"""Where an event is: counted, on its way, set aside, refused, or never seen.

What it counts for is folded from the stored event by the workers' own fold.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

import msgspec
import pyarrow as pa

from pipelines.correcting import Row, summed_up, target_of
from pipelines.cut import EffectiveMeter
from pipelines.dead_letter import KeptLetter
from pipelines.fold import ActiveMeter, Fold, fold_all
from pipelines.identity import identity_of
from pipelines.position import LogPartition, Position
from pipelines.progress import PartitionProgress, instant_text, to_content
from pipelines.values import plain_text

COPIES_MAX = 100
LETTERS_MAX = 100
"""An answer names so many copies, and so many dead letters, at most."""

State = Literal["counted", "held", "voided", "pending", "quarantined", "refused", "unknown"]
"""Held is what was sent for a replacement that is not closed."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EventTables(Protocol):
    """What is stored of one event."""

    def positions(self, identity: bytes) -> Sequence[Position]:
        """Return where an identity was first seen: more than once for other subjects' events."""

    def event(self, tenant: str, identity: bytes, position: Position) -> Any:
        """Return a table of `COUNTED_SCHEMA` with the event, or none where it is not stored."""

    def corrections(self, tenant: str, identity: bytes, position: Position) -> Sequence[Row]:
        """Return the signed events of an event's corrections, in the order of revisions."""

    def survivors(self, tenant: str, identity: bytes) -> Mapping[Position, Position]:
        """Return, for the copies that audits voided, which event counts instead."""

    def copies(
        self, tenant: str, source: str, event_id: str, first: Position, limit: int
    ) -> tuple[int, Sequence[Position]]:
        """Return how many copies an event has, and where the first of them stand."""

    def letters(self, tenant: str, source: str, event_id: str, limit: int) -> Sequence[KeptLetter]:
        """Return dead letters whose JSON names a source and id."""

    def set_aside(
        self, tenant: str, source: str, event_id: str, limit: int
    ) -> Sequence[KeptLetter]:
        """Return where an event was set aside, with its source, and is not released yet."""


class Definitions(Protocol):
    """What events count for."""

    def of_tenant(self, tenant: str) -> list[ActiveMeter]:
        """Return all versions of a tenant's meters."""


@dataclass(frozen=True, slots=True)
class CountedEvent:
    """One stored event, what it counts for, and its copies."""

    position: Position
    event: Row
    corrections: Sequence[Row]
    now: Row | None
    """As it counts: None where it was taken back, by corrections or as a copy, or is held."""
    folds: Sequence[Fold]
    """What it adds to each meter, or why the meter cannot use it, as it counts now."""
    copy_count: int
    copies: Sequence[Position]
    survivor: Position | None = None
    """The event that counts instead, where an audit found this one to be a copy."""

    @property
    def is_held(self) -> bool:
        """True where it was sent for a replacement that is not closed."""
        return self.now is None and self.survivor is None and not self.corrections


@dataclass(frozen=True, slots=True)
class Traced:
    """What is known of one source and id."""

    source: str
    id: str
    state: State
    events: Sequence[CountedEvent]
    letters: Sequence[KeptLetter]
    lagging: Sequence[PartitionProgress] = ()
    set_aside: Sequence[KeptLetter] = ()


@dataclass(frozen=True, slots=True)
class Tracer:
    """Finds events by source and id."""

    tables: EventTables
    definitions: Definitions
    next_offsets: Callable[[], Mapping[LogPartition, int]]
    progress: Callable[[], Sequence[PartitionProgress]]
    versions: Callable[[str, str], Sequence[EffectiveMeter]]
    seed: int

    def trace(self, tenant: str, source: str, event_id: str) -> Traced:
        """Return where an event is.

        It is unknown only where every record that was in the log before this call is counted:
        the log's ends are read before the tables are looked at again.
        """
        found = self._look(tenant, source, event_id)
        if found.state != "unknown":
            return found
        lagging = [each for each in self.progress() if each.lag]
        found = self._look(tenant, source, event_id)
        if found.state != "unknown" or not lagging:
            return found
        return Traced(source, event_id, "pending", (), (), lagging)

    def _look(self, tenant: str, source: str, event_id: str) -> Traced:
        identity = identity_of(tenant, source, event_id, self.seed)
        # Before the rows: what lies below these offsets is in every table.
        ends = self.next_offsets()
        survivors = self.tables.survivors(tenant, identity)
        counted = [
            found
            for position in self.tables.positions(identity)
            if position.offset < ends.get(position.at, 0)
            and (found := self._event(tenant, identity, position, survivors)) is not None
        ]
        letters = self.tables.letters(tenant, source, event_id, LETTERS_MAX)
        aside = self.tables.set_aside(tenant, source, event_id, LETTERS_MAX)
        state: State = "refused" if letters else "unknown"
        if aside:
            state = "quarantined"
        if counted:
            state = "held" if any(each.is_held for each in counted) else "voided"
            state = "counted" if any(each.now is not None for each in counted) else state
        return Traced(source, event_id, state, counted, letters, set_aside=aside)

    def _event(
        self,
        tenant: str,
        identity: bytes,
        position: Position,
        survivors: Mapping[Position, Position],
    ) -> CountedEvent | None:
        table = self.tables.event(tenant, identity, position)
        if not table.num_rows:
            return None
        (event,) = table.to_pylist()
        corrections = self.tables.corrections(tenant, identity, position)
        survivor = survivors.get(position)
        now = target_of(event, corrections).now if survivor is None else None
        live = pa.Table.from_pylist([] if now is None else [now], schema=table.schema)
        meters = self.definitions.of_tenant(tenant)
        count, copies = self.tables.copies(
            tenant, event["source"], event["id"], position, COPIES_MAX
        )
        return CountedEvent(
            position=position,
            event=event,
            corrections=corrections,
            now=now,
            folds=fold_all(live, meters),
            copy_count=count,
            copies=copies,
            survivor=survivor,
        )

    def to_content(self, tenant: str, traced: Traced) -> dict[str, Any]:
        """Return it as content for msgspec's JSON, in which stored JSON stands as it was sent."""
        brief = [_brief(letter) for letter in traced.letters]
        content: dict[str, Any] = {
            "source": traced.source,
            "id": traced.id,
            "state": traced.state,
            "events": [self._event_content(tenant, event) for event in traced.events],
            "conflicts": [letter for letter in brief if letter["kind"] == "conflict"],
            "refusals": [letter for letter in brief if letter["kind"] != "conflict"],
            "quarantined": [_brief(letter) for letter in traced.set_aside],
        }
        if traced.lagging:
            content["lag"] = sum(each.lag for each in traced.lagging)
            content["lagging"] = [to_content(each) for each in traced.lagging]
        return content

    def _event_content(self, tenant: str, counted: CountedEvent) -> dict[str, Any]:
        versions = {
            key: self.versions(tenant, key)
            for key in {fold.meter.definition.key for fold in counted.folds}
        }
        return {
            "position": str(counted.position),
            "ingested_at": instant_text(counted.event["ingested_at"]),
            "time_stamped": counted.event["time_stamped"],
            "event": cloudevent(counted.event),
            "is_live": counted.now is not None,
            "duplicate_of": None if counted.survivor is None else str(counted.survivor),
            "corrections": [each.to_content() for each in summed_up(counted.corrections)],
            "counts": [
                each
                for fold in counted.folds
                for each in counts_of(fold, versions[fold.meter.definition.key])
            ],
            "rejections": [
                each
                for fold in counted.folds
                for each in rejections_of(fold, versions[fold.meter.definition.key], counted.now)
            ],
            "duplicate_count": counted.copy_count,
            "duplicates": [str(position) for position in counted.copies],
        }


def _brief(letter: KeptLetter) -> dict[str, Any]:
    content = letter.to_content()
    return {name: content[name] for name in ("position", "kind", "reason", "ingested_at")}


def counts_of(fold: Fold, versions: Sequence[EffectiveMeter]) -> list[dict[str, Any]]:
    """Return what one event adds to one meter: the window, and the value or counted item.

    Every version of a meter counts; only the one in force at the start of the window is read.
    """
    definition = fold.meter.definition
    is_item = definition.keeps_items and not definition.keeps_samples
    found = []
    for (subject, dimensions, item, start_us), worth in fold.worth_by_key().items():
        start = _EPOCH + timedelta(microseconds=start_us)
        value = "1" if definition.value is None else plain_text(worth[1])
        found.append(
            {
                "meter": definition.key,
                "version": fold.meter.version,
                "aggregation": definition.rule,
                "in_force": _is_in_force(fold.meter, versions, start_us),
                "subject": subject,
                "dimensions": json.loads(dimensions) if dimensions else {},
                "window_start": instant_text(start),
                "window_end": instant_text(start + definition.window_size),
                "value": item if is_item else value,
            }
        )
    return found


def rejections_of(
    fold: Fold, versions: Sequence[EffectiveMeter], now: Row | None
) -> list[dict[str, Any]]:
    """Return why one event, as it counts now, adds nothing to one meter."""
    if now is None or not fold.rejections:
        return []
    size = fold.meter.definition.window_size
    start_us = (now["time"] - _EPOCH) // size * size // timedelta(microseconds=1)
    return [
        {
            "meter": fold.meter.definition.key,
            "version": fold.meter.version,
            "in_force": _is_in_force(fold.meter, versions, start_us),
            "reason": each.reason,
        }
        for each in fold.rejections
    ]


def _is_in_force(meter: ActiveMeter, versions: Sequence[EffectiveMeter], start_us: int) -> bool:
    return any(
        each.meter.version == meter.version and each.start_us <= start_us < each.end_us
        for each in versions
    )


def cloudevent(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored event as a CloudEvent; its JSON stays as it was sent."""
    content: dict[str, Any] = {"specversion": "1.0"}
    content |= {name: event[name] for name in ("id", "source", "type", "subject")}
    content["time"] = instant_text(event["time"])
    if event["data"]:
        content["data"] = msgspec.Raw(event["data"])
    if event["extensions"]:
        content |= msgspec.json.decode(event["extensions"], type=dict[str, msgspec.Raw])
    return content
