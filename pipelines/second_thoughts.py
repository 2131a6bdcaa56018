"""Asks for corrections: finds the events, puts what is to be done into the log, and sees it done.

Asking twice does nothing twice: what an event already is needs no correction, and of two who ask
at the same time for the same event the first in the log wins.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

import msgspec

from ingest.event import DEFAULT_LIMITS, EPOCH, parse_time
from ingest.topic import partition_of
from pipelines.correcting import Target, row_after
from pipelines.correction import CORRECTIONS_MAX, Correction, CorrectionRecord, Kind
from pipelines.outage import TransientError
from pipelines.position import Log, LogPartition, Position

State = Literal["applied", "already", "pending", "conflict"]

_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of one event; `position` says which where several are stored."""

    kind: Kind
    source: str
    id: str
    position: Position | None = None
    data: bytes | None = None
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a wish; `at` is where the correction stands in the log."""

    position: Position
    revision: int
    state: State
    at: Position | None = None


class RefusedWishError(ValueError):
    """A wish that cannot be granted: its number among those asked, a stable code, and why."""

    def __init__(self, index: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.code = code
        self.reason = reason


class StoredEvents(Protocol):
    """What is stored of events and corrections."""

    def of_events(
        self, tenant: str, names: Sequence[tuple[str, str]]
    ) -> Sequence[Mapping[Position, Target]]:
        """Return, per (source, id), the events stored under it as corrections left them."""

    def done(self, tenant: str, record: Position) -> set[int]:
        """Return which corrections of a record were carried out, by their index."""


@dataclass(slots=True)
class Corrector:
    """Grants wishes of one deployment."""

    events: StoredEvents
    log: Callable[[], Log]
    send: Callable[[Log, Sequence[tuple[int, CorrectionRecord]]], list[int]]
    progress: Callable[[], Mapping[LogPartition, int]]
    lag: Callable[[], int]
    pause: Callable[[float], None]
    now: Callable[[], datetime]
    patience_s: float = 15.0

    def correct(
        self, tenant: str, wishes: Sequence[Wish], *, author: str, reason: str, request: str
    ) -> list[Outcome]:
        """Correct events and wait until that is counted; a wish that is refused stops all.

        Of two who correct an event at the same time, one finds a conflict and may ask again.

        Raises:
            RefusedWishError: an event is not stored, or there are several under one id.
            TransientError: a server does not answer.
            TimeoutError: the broker has not acknowledged; ask again.
        """
        log = self.log()
        found = self.events.of_events(tenant, [(wish.source, wish.id) for wish in wishes])
        outcomes: list[Outcome | None] = []
        by_partition: dict[int, list[tuple[int, Correction]]] = {}
        for index, (wish, stored) in enumerate(zip(wishes, found, strict=True)):
            place = self._chosen(index, wish, stored)
            target = stored[place]
            after = row_after(wish.kind, target, wish.data, _moment(index, wish, self.now()))
            if after == target.now:
                outcomes.append(Outcome(place, target.revision, "already"))
                continue
            outcomes.append(None)
            target.revision, target.now = target.revision + 1, after
            correction = _correction(wish, place, target.revision)
            partition = _partition(tenant, target, place, log)
            by_partition.setdefault(partition, []).append((index, correction))
        about = CorrectionRecord(tenant, request, author, reason, [])
        for index, outcome in self._carried_out(log, about, by_partition):
            outcomes[index] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def _chosen(self, index: int, wish: Wish, stored: Mapping[Position, Target]) -> Position:
        """Return which of the events under one source and id is meant."""
        if not stored:
            if self.lag():
                raise RefusedWishError(
                    index,
                    "not-counted-yet",
                    f"{wish.source}/{wish.id} may be on its way; ask again",
                )
            raise RefusedWishError(
                index, "unknown-event", f"no event {wish.source}/{wish.id} is stored"
            )
        if wish.position is None and len(stored) == 1:
            return next(iter(stored))
        if wish.position is not None and wish.position in stored:
            return wish.position
        places = ", ".join(str(place) for place in sorted(stored))
        raise RefusedWishError(
            index, "which-event", f"{wish.source}/{wish.id} is stored at {places}; say which"
        )

    def _carried_out(
        self,
        log: Log,
        about: CorrectionRecord,
        by_partition: Mapping[int, Sequence[tuple[int, Correction]]],
    ) -> Iterator[tuple[int, Outcome]]:
        parts = [
            (partition, asked[first : first + CORRECTIONS_MAX])
            for partition, asked in by_partition.items()
            for first in range(0, len(asked), CORRECTIONS_MAX)
        ]
        records = [
            (partition, msgspec.structs.replace(about, corrections=[each for _, each in part]))
            for partition, part in parts
        ]
        offsets = self.send(log, records) if records else []
        places = [
            Position(LogPartition(log.log, partition), offset, 0)
            for (partition, _), offset in zip(parts, offsets, strict=True)
        ]
        counted = self._await_counted(places)
        for (_, part), place in zip(parts, places, strict=True):
            done = self.events.done(about.tenant, place) if place in counted else set()
            for number, (index, each) in enumerate(part):
                at = Position(place.at, place.offset, number)
                state: State = "applied" if number in done else "conflict"
                if place not in counted:
                    state = "pending"
                yield index, Outcome(Position.from_text(each.position), each.revision, state, at)

    def _await_counted(self, places: Sequence[Position]) -> set[Position]:
        """Return the records that are counted when patience ends, or all as soon as they are."""
        counted: set[Position] = set()
        for _ in range(int(self.patience_s / _PAUSE_SECONDS)):
            try:
                progress = self.progress()
            except TransientError:
                progress = {}
            counted = {each for each in places if progress.get(each.at, 0) > each.offset}
            if len(counted) == len(places):
                break
            self.pause(_PAUSE_SECONDS)
        return counted


def _moment(index: int, wish: Wish, now: datetime) -> datetime | None:
    if wish.time is None:
        return None
    moment = parse_time(wish.time)
    if moment is None or moment < EPOCH:
        raise RefusedWishError(index, "bad-time", f"not an RFC 3339 time since 1970: {wish.time}")
    # As ingest has it for what is sent; how old an event may be is not asked of one that is stored.
    if moment > now + timedelta(seconds=DEFAULT_LIMITS.future_seconds_max):
        raise RefusedWishError(index, "bad-time", f"its time lies in the future: {wish.time}")
    return moment


def _correction(wish: Wish, place: Position, revision: int) -> Correction:
    data = msgspec.UNSET if wish.data is None else msgspec.Raw(wish.data)
    return Correction(wish.kind, str(place), wish.source, wish.id, revision, data, wish.time)


def _partition(tenant: str, target: Target, place: Position, log: Log) -> int:
    """Return where corrections of an event meet: its partition, or its subject's in a new log."""
    if place.at.log == log.log:
        return place.at.partition
    return partition_of(tenant, target.sent["subject"], log.partitions)
