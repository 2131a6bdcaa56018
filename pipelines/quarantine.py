"""Which streams are quarantined: a function of a partition's log.

A stream is what one source of one tenant sends into one partition. Once a thousand of its events
were bad, and most of them, all that it sends is set aside with its bytes, rather than filling the
dead letters, until somebody releases it; the partition goes on. The set holds for a whole segment.
What is wrong with a record alone decides at the record; conflicts, and events for a replacement
that takes none, are known only once a segment was judged, and decide where it ends. So a replay, a
zombie and a second worker agree.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.event import name_fault
from pipelines.position import LogPartition
from pipelines.record import POSITIONED_SCHEMA, DeadLetter, ReleaseRecord, moment_of

Stream = tuple[str, str]
"""Tenant and source. The source is empty for what cannot be read so far, and for all that cannot be
read of a tenant with too many sources; the tenant is empty for what names none."""

BAD_EVENTS_MAX = 1_000
"""So many bad events of a stream become dead letters."""
STREAMS_MAX = 100
"""So many streams of a partition are watched; what is held of them stands in each segment."""

QUARANTINED_SCHEMA = pa.schema(
    [
        *(pa.field(each.name, each.type) for each in POSITIONED_SCHEMA),
        pa.field("kind", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("body", pa.binary()),
    ]
)
"""What was set aside: events by column, and the bytes of records that hold none."""

_REASON = "most of what its source sent was bad"


class _Sourced(msgspec.Struct):
    """What is asked of a record that is otherwise unreadable."""

    source: str


_sourced = msgspec.json.Decoder(_Sourced)


@dataclass(frozen=True, slots=True)
class Streams:
    """What a segment starts with, in order."""

    quarantined: tuple[Stream, ...] = ()
    suspected: tuple[tuple[Stream, tuple[int, int]], ...] = ()
    """Streams that are mostly bad so far: their bad events, and all since the first of them."""

    def to_content(self) -> dict[str, Any]:
        """Return it as JSON content."""
        return {"quarantined": self.quarantined, "suspected": self.suspected}

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "Streams":
        """Read `to_content`."""
        return cls(
            tuple((tenant, source) for tenant, source in content["quarantined"]),
            tuple(((t, s), (bad, seen)) for (t, s), (bad, seen) in content["suspected"]),
        )


@dataclass(slots=True)
class Tally:
    """Bad events of a stream, and all of it since the first of them."""

    bad: int = 0
    seen: int = 0

    @property
    def is_mostly_bad(self) -> bool:
        """True where more is bad than good."""
        return 2 * self.bad > self.seen


@dataclass(slots=True)
class StreamCounts:
    """What the current segment has shown of streams, so far as any of it was bad."""

    start: Streams = field(default_factory=Streams)
    bad_max: int = BAD_EVENTS_MAX
    has_turned: bool = False
    """True where the next record starts a segment, since a stream is to be quarantined."""
    _read: dict[Stream, Tally] = field(default_factory=dict)
    """By records alone."""
    _judged: dict[Stream, Tally] = field(default_factory=dict)
    """By verdicts: looked at where the segment ends, since runs of records are judged at once."""

    def __post_init__(self) -> None:
        for stream, tally in self.start.suspected:
            self._read[stream] = Tally(*tally)

    def add_unreadable(self, letter: DeadLetter) -> None:
        """Count a record that cannot be read."""
        stream = stream_of(letter)
        if self._place_of(stream) is not None:
            return
        if stream not in self._read and self._is_full:
            stream = (stream[0], "")
        tally = self._read.setdefault(stream, Tally())
        tally.bad += 1
        tally.seen += 1
        self.has_turned = self.has_turned or self._overwhelms(tally)

    def add_readable(self, events: Any) -> None:
        """Count a batch of events where anything is being counted: seldom."""
        if not self._read:
            return
        for stream, rows in _rows_by_stream(events, self._read).items():
            self._read[stream].seen += len(rows)

    def add_judged(self, events: Any, letters: Sequence[DeadLetter]) -> None:
        """Count a run of events in order, of which some became dead letters."""
        if not letters and not self._judged:
            return
        bad: dict[Stream, list[tuple[int, int]]] = {}
        for letter in sorted(letters, key=lambda each: (each.offset, each.index)):
            stream = stream_of(letter)
            bad.setdefault(stream, []).append((letter.offset, letter.index))
            if len(self._judged) < STREAMS_MAX:
                self._judged.setdefault(stream, Tally())
        offsets, indexes = (events.column(name).to_numpy() for name in ("offset", "index"))
        for stream, found in _rows_by_stream(events, self._judged).items():
            rows = found
            tally, places = self._judged[stream], bad.get(stream, [])
            if not tally.bad:
                offset, index = places[0]
                is_since = (offsets[found] > offset) | (
                    (offsets[found] == offset) & (indexes[found] >= index)
                )
                rows = found[is_since]
            tally.bad += len(places)
            tally.seen += len(rows)

    def next_streams(self, release: ReleaseRecord | None) -> Streams:
        """Return what the next segment starts with; a release that starts it ends a quarantine."""
        tallies = {stream: self._tally_of(stream) for stream in {*self._read, *self._judged}}
        quarantined = set(self.start.quarantined)
        if release is not None:
            tallies.pop((release.tenant, release.source), None)
            quarantined.discard((release.tenant, release.source))
        # Those that turned by their records alone come first: for them there is always room.
        for stream in sorted(tallies, key=lambda each: (each not in self._read, each)):
            has_room = stream in self._read or len(quarantined) < STREAMS_MAX
            if self._overwhelms(tallies[stream]) and has_room:
                quarantined.add(stream)
        left = [s for s, tally in tallies.items() if s not in quarantined and tally.is_mostly_bad]
        left.sort(key=lambda stream: (-tallies[stream].bad, stream))
        kept = sorted(left[: max(0, STREAMS_MAX - len(quarantined))])
        suspected = tuple((each, (tallies[each].bad, tallies[each].seen)) for each in kept)
        return Streams(tuple(sorted(quarantined)), suspected)

    def sorted_out(self, letters: Iterable[DeadLetter]) -> tuple[list[DeadLetter], list[Any]]:
        """Return the dead letters of unreadable records, and a table of those set aside."""
        dead, aside = [], []
        for letter in letters:
            stream = self._place_of(stream_of(letter))
            if stream is None:
                dead.append(letter)
            else:
                aside.append(_row(letter, stream))
        return dead, [pa.Table.from_pylist(aside, QUARANTINED_SCHEMA)] if aside else []

    def let_in(self, events: Any) -> tuple[Any, list[Any]]:
        """Return the events to be counted, and a table of those set aside; see `sorted_out`."""
        if not self.start.quarantined or not events.num_rows:
            return events, []
        found = _rows_by_stream(events, self.start.quarantined)
        if not found:
            return events, []
        is_aside = np.zeros(events.num_rows, bool)
        is_aside[np.concatenate(list(found.values()))] = True
        aside = events.filter(pa.array(is_aside))
        for name, value in (("kind", "event"), ("reason", _REASON), ("body", b"")):
            each = QUARANTINED_SCHEMA.field(name)
            aside = aside.append_column(
                each, pa.repeat(pa.scalar(value, each.type), aside.num_rows)
            )
        return events.filter(pa.array(~is_aside)), [aside.cast(QUARANTINED_SCHEMA)]

    @property
    def _is_full(self) -> bool:
        return len(self._read) + len(self.start.quarantined) >= STREAMS_MAX

    def _place_of(self, stream: Stream) -> Stream | None:
        """Return the quarantined stream that an unreadable record belongs to."""
        for each in (stream, (stream[0], "")):
            if each in self.start.quarantined:
                return each
        return None

    def _tally_of(self, stream: Stream) -> Tally:
        """Return both tallies together; events that verdicts were bad for were readable."""
        read, judged = self._read.get(stream, Tally()), self._judged.get(stream, Tally())
        events = max(read.seen - read.bad, judged.seen)
        return Tally(read.bad + judged.bad, read.bad + events)

    def _overwhelms(self, tally: Tally) -> bool:
        return tally.bad >= self.bad_max and tally.is_mostly_bad


def alarms_of(quarantined: Mapping[LogPartition, Streams]) -> list[str]:
    """Return what is to be told of the streams that are quarantined in some partitions."""
    places: dict[Stream, list[str]] = {}
    for at, streams in sorted(quarantined.items()):
        for stream in streams.quarantined:
            places.setdefault(stream, []).append(str(at))
    told = []
    for (tenant, source), partitions in sorted(places.items()):
        whose = f"of tenant {tenant}" if tenant else "that name no tenant"
        what = f"events of source {source!r}" if source else "records that cannot be read"
        told.append(
            f"most {what} {whose} are bad in {', '.join(partitions)}: they are set aside;"
            " see `tollbook quarantine list`"
        )
    return told


def stream_of(letter: DeadLetter) -> Stream:
    """Return the stream of a dead letter: of an event, or of a record that names so much."""
    if name_fault(letter.tenant):
        return ("", "")
    if letter.kind != "malformed":
        return (letter.tenant, letter.source)
    try:
        source = _sourced.decode(letter.body).source
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return (letter.tenant, "")
    return (letter.tenant, "" if name_fault(source) else source)


def _rows_by_stream(events: Any, streams: Collection[Stream]) -> dict[Stream, Any]:
    """Return the rows of a batch or table that are of one of some streams."""
    sources = pa.array(sorted({source for _, source in streams}), pa.string())
    rows = np.flatnonzero(np.asarray(pc.is_in(events.column("source"), value_set=sources)))
    if not len(rows):
        return {}
    named = events.select(["tenant", "source"]).take(pa.array(rows)).to_pylist()
    found: dict[Stream, list[int]] = {}
    for row, event in zip(rows.tolist(), named, strict=True):
        stream = (event["tenant"], event["source"])
        if stream in streams:
            found.setdefault(stream, []).append(row)
    return {stream: np.array(of_stream) for stream, of_stream in found.items()}


def _row(letter: DeadLetter, stream: Stream) -> dict[str, Any]:
    tenant, source = stream
    return {
        "tenant": tenant,
        "source": source,
        "id": "",
        "type": "",
        "subject": "",
        "time": moment_of(0),
        "time_stamped": False,
        "data": b"",
        "extensions": b"",
        "ingested_at": moment_of(letter.ingested_at_ms),
        "offset": letter.offset,
        "index": letter.index,
        "kind": letter.kind,
        "reason": letter.reason,
        "body": letter.body,
    }
