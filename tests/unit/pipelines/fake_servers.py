"""In-memory stand-ins for Redis, Postgres and ClickHouse that keep the same promises, no more."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.clickhouse_archive import ClickHouseArchive
from pipelines.correcting import TARGET_SCHEMA, Target, position_of, target_of
from pipelines.correction import Correction
from pipelines.fold import ActiveMeter
from pipelines.partition import Flush, SegmentMismatchError
from pipelines.position import LogPartition, Position
from pipelines.quarantine import QUARANTINED_SCHEMA
from pipelines.replacement import Replacement, replacement_of
from pipelines.replacing import Scope
from pipelines.segment import Segment, SliceStart
from pipelines.verdict import Claims, Seen
from pipelines.window_rows import window_table

Row = dict[str, Any]


def claims(
    identities: Sequence[bytes],
    body_hashes: Sequence[bytes],
    offsets: Sequence[int],
    indexes: Sequence[int],
) -> Claims:
    """Return claims by column from claims one by one."""
    return Claims(
        np.frombuffer(b"".join(identities), np.uint8).reshape(-1, 16),
        np.frombuffer(b"".join(body_hashes), np.uint8).reshape(-1, 8),
        np.array(offsets, np.uint64),
        np.array(indexes, np.uint32),
    )


@dataclass
class FakeBook:
    """Segments agreed by whoever comes first."""

    known: list[ActiveMeter]
    segments: dict[tuple[LogPartition, int], Segment] = field(default_factory=dict)

    def agree(self, segment: Segment) -> Segment:
        ids = tuple(meter.definition_id for meter in self.known)
        key = (segment.at, segment.sequence)
        stored = self.segments.setdefault(key, replace(segment, definitions=ids))
        if replace(stored, definitions=()) != segment:
            raise SegmentMismatchError(segment.at, f"{stored} {segment}")
        return stored

    def meters(self, definitions: Sequence[int]) -> list[ActiveMeter]:
        return [meter for meter in self.known if meter.definition_id in definitions]

    def resume(
        self, at: LogPartition, next_offset: int
    ) -> tuple[Segment | None, dict[int, SliceStart]]:
        own = sorted(
            (s for (p, _), s in self.segments.items() if p == at and s.start_offset <= next_offset),
            key=lambda s: s.sequence,
        )
        if not own:
            return None, {}
        starts: dict[int, SliceStart] = {}
        for segment in own:
            start = SliceStart(segment.start_offset, segment.started_at_ms, segment.events_before)
            starts.setdefault(segment.slice, start)
        oldest = own[-1].horizon_slice
        return own[-1], {number: start for number, start in starts.items() if number >= oldest}


@dataclass
class FakeMemory:
    """Redis: the same checks as the scripts, and it forgets when told to."""

    slices: dict[tuple[LogPartition, int], dict[bytes, Seen]] = field(default_factory=dict)
    marker: dict[LogPartition, tuple[int, int]] = field(default_factory=dict)
    checks_marker: bool = True

    def claim(
        self, segment: Segment, start: int, end: int, claims: Claims
    ) -> Mapping[int, Seen] | None:
        low, filled = self.marker.get(segment.at, (0, -1))
        if self.checks_marker and (low > segment.horizon_slice or start > filled):
            return None
        hits: dict[int, Seen] = {}
        own = self.slices.setdefault((segment.at, segment.slice), {})
        for row, (identity, mine) in enumerate(claims.seen()):
            old = None
            for number in range(segment.horizon_slice, segment.slice):
                old = old or self.slices.get((segment.at, number), {}).get(identity)
            old = old or own.setdefault(identity, mine)
            if old != mine:
                hits[row] = old
        self.marker[segment.at] = (low, max(filled, end))
        return hits

    def refill(
        self, segment: Segment, end: int, slices: Iterable[tuple[int, Iterable[Claims]]]
    ) -> None:
        for number, parts in slices:
            own = self.slices.setdefault((segment.at, number), {})
            for part in parts:
                own.update(part.seen())
        self.marker[segment.at] = (segment.horizon_slice, end)

    def drop_before(self, segment: Segment) -> None:
        low, filled = self.marker.get(segment.at, (segment.horizon_slice + 1, -1))
        if low > segment.horizon_slice:
            return
        self.marker[segment.at] = (segment.horizon_slice, filled)
        for at, number in list(self.slices):
            if at == segment.at and number < segment.horizon_slice:
                del self.slices[at, number]

    def forget(self) -> None:
        self.slices.clear()
        if self.checks_marker:
            self.marker.clear()


@dataclass
class FakeTables:
    """ClickHouse: rows replace rows of the same key; later versions win."""

    events: dict[Any, Row] = field(default_factory=dict)
    identities: dict[Any, bytes] = field(default_factory=dict)
    duplicates: dict[Any, Any] = field(default_factory=dict)
    dead_letters: dict[Any, Any] = field(default_factory=dict)
    quarantined: dict[Any, Row] = field(default_factory=dict)
    rejections: dict[Any, str] = field(default_factory=dict)
    corrections: dict[Any, Row] = field(default_factory=dict)
    closed: set[tuple[str, str, int]] = field(default_factory=set)
    windows: dict[Any, tuple[int, Row]] = field(default_factory=dict)
    progress: dict[LogPartition, int] = field(default_factory=dict)

    def write(self, flush: Flush, steps: int) -> bool:
        """Write the first `steps` tables of a flush, as a crash would; True if all eight."""
        actions = [
            self._events,
            self._identities,
            self._aside,
            self._rejections,
            self._corrections,
            self._closed,
            self._windows,
            self._progress,
        ]
        for action in actions[:steps]:
            action(flush)
        return steps >= len(actions)

    def find(self, at: LogPartition, identities: Sequence[bytes], below: int) -> dict[bytes, Seen]:
        found: dict[bytes, Seen] = {}
        for (place, identity, offset, index), body_hash in sorted(self.identities.items()):
            if place == at and offset < below and identity in identities:
                found.setdefault(identity, Seen(offset, index, body_hash))
        return found

    def slices(
        self, segment: Segment, slice_starts: Mapping[int, SliceStart], end: int
    ) -> Iterable[tuple[int, Iterable[Claims]]]:
        """The bounds are the real archive's; only the range query is a dictionary's."""

        class _Ranged(ClickHouseArchive):
            def _range(inner, at: LogPartition, start: int, stop: int) -> Any:  # noqa: N805
                own = [
                    (identity, body, offset, index)
                    for (p, identity, offset, index), body in self.identities.items()
                    if p == at and start <= offset < stop
                ]
                columns = list(zip(*own, strict=True)) or [(), (), (), ()]
                yield claims(*columns)

        return _Ranged(None).slices(segment, slice_starts, end)

    def _events(self, flush: Flush) -> None:
        for table in flush.events:
            for row in table.to_pylist():
                self.events[flush.at, row["offset"], row["index"]] = row

    def _identities(self, flush: Flush) -> None:
        for table in flush.events:
            for row in table.select(["identity", "offset", "index", "body_hash"]).to_pylist():
                key = (flush.at, row["identity"], row["offset"], row["index"])
                self.identities[key] = row["body_hash"]

    def _aside(self, flush: Flush) -> None:
        for duplicate in flush.duplicates:
            self.duplicates[flush.at, duplicate.offset, duplicate.index] = duplicate
        for letter in flush.dead_letters:
            self.dead_letters[flush.at, letter.offset, letter.index] = letter
        for table in flush.quarantined:
            assert table.schema.equals(QUARANTINED_SCHEMA)
            for row in table.to_pylist():
                self.quarantined[flush.at, row["offset"], row["index"]] = row

    def _rejections(self, flush: Flush) -> None:
        for rejection in flush.rejections:
            key = (rejection.meter, flush.at, rejection.offset, rejection.index)
            self.rejections[key] = rejection.reason

    def _corrections(self, flush: Flush) -> None:
        names = ("at_partition", "at_offset", "at_index", "sign")
        for table in flush.corrections:
            for row in table.to_pylist():
                self.corrections[tuple(row[name] for name in names)] = row

    def _closed(self, flush: Flush) -> None:
        for each in flush.closed:
            self.closed.add((each.replacement.name, each.action, each.offset))

    def is_closed(self, replacement: Replacement, at: LogPartition, below: int) -> bool:
        del at
        return any(name == replacement.name and off < below for name, _, off in self.closed)

    def plain(self, replacement: Replacement, scope: Scope) -> Iterator[Any]:
        yield from self._uncorrected(replacement, scope, "")

    def held(self, replacement: Replacement, scope: Scope) -> Iterator[Any]:
        yield from self._uncorrected(replacement, scope, replacement.name)

    def _uncorrected(self, replacement: Replacement, scope: Scope, name: str) -> Iterator[Any]:
        rows = [
            target.sent
            for place, target in self._as_of(scope).items()
            if target.revision == 0
            and replacement_of(target.sent["extensions"]) == name
            and replacement.covers(target.sent)
            and place.offset < scope.below
        ]
        for first in range(0, len(rows), 100):
            yield pa.Table.from_pylist(rows[first : first + 100], TARGET_SCHEMA)

    def corrected(self, replacement: Replacement, scope: Scope) -> Iterator[Target]:
        del replacement
        yield from (target for target in self._as_of(scope).values() if target.revision)

    def replaced(self, replacement: Replacement, scope: Scope) -> Iterator[list[Row]]:
        rows = [
            row
            for place, target in self._as_of(scope).items()
            for row in self.corrections.values()
            if position_of(row) == place
            and row["revision"] == target.revision
            and (row["request"], row["kind"]) == (replacement.name, "replace")
            and row["at_offset"] < scope.below
        ]
        yield rows

    def _as_of(self, scope: Scope) -> dict[Position, Target]:
        found = {}
        for (at, offset, index), sent in sorted(self.events.items()):
            place = Position(at, offset, index)
            earlier = [
                row
                for row in self.corrections.values()
                if position_of(row) == place and row["at_offset"] < scope.below
            ]
            whole = sent | {"log": at.log, "partition": at.partition}
            found[place] = target_of({name: whole[name] for name in TARGET_SCHEMA.names}, earlier)
        return found

    def targets(
        self, tenant: str, wanted: Sequence[Correction], at: LogPartition, below: int
    ) -> dict[Position, Target]:
        found = {}
        for each in wanted:
            place = Position.from_text(each.position)
            sent = self.events.get((place.at, place.offset, place.index))
            if sent is None or sent["tenant"] != tenant:
                continue
            earlier = [
                row
                for row in self.corrections.values()
                if position_of(row) == place and row["at_offset"] < below
            ]
            whole = sent | {"log": at.log, "partition": at.partition}
            found[place] = target_of({name: whole[name] for name in TARGET_SCHEMA.names}, earlier)
        return found

    def _windows(self, flush: Flush) -> None:
        names = (
            "tenant", "meter", "subject", "dimensions", "item", "window_start", "partition",
            "segment",
        )  # fmt: skip
        for row in window_table(flush.windows).to_pylist():
            version = int.from_bytes(row["version"], "little")
            key = tuple(row[name] for name in names)
            held = self.windows.get(key)
            if held is not None and held[0] == version:
                assert held[1] == row, "one version, two values"
            if held is None or held[0] <= version:
                self.windows[key] = (version, row)

    def _progress(self, flush: Flush) -> None:
        self.progress[flush.at] = max(self.progress.get(flush.at, 0), flush.next_offset)
