"""Which events are new: verdicts in log order.

An event is a copy if its partition holds its identity at a smaller position at or after the
segment's horizon, or at any smaller position if its own time lies before the horizon. The memory
of identities may be lost at any moment; it is refilled from the archive, and what this worker has
claimed since the archive was last written is claimed again. So a verdict is a function of the
log and the agreed horizon, whoever computes it, whenever.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from pipelines.position import LogPartition
from pipelines.segment import Segment, SliceStart

FUTURE_TOLERANCE_MS = 300_000
"""Ingest accepts events so far ahead of its clock."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Where an identity was first seen, and the hash of that event's body."""

    offset: int
    index: int
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Claims:
    """Identities of a run of records, in log order, by column.

    `identities` and `body_hashes` are arrays of 16 and 8 bytes a row; `offsets` and `indexes`
    are arrays of whole numbers.
    """

    identities: Any
    body_hashes: Any
    offsets: Any
    indexes: Any

    def __len__(self) -> int:
        return len(self.offsets)

    def only(self, rows: Any) -> "Claims":
        """Return the claims of some rows, by number or by mask."""
        return Claims(
            self.identities[rows], self.body_hashes[rows], self.offsets[rows], self.indexes[rows]
        )

    def seen(self) -> Iterator[tuple[bytes, Seen]]:
        """Yield the claims one by one."""
        for identity, body_hash, offset, index in zip(
            self.identities,
            self.body_hashes,
            self.offsets.tolist(),
            self.indexes.tolist(),
            strict=True,
        ):
            yield identity.tobytes(), Seen(offset, index, body_hash.tobytes())


class IdentityMemory(Protocol):
    """Fast and forgetful: knows a range of each partition completely, or says that it does not."""

    def claim(
        self, segment: Segment, start: int, end: int, claims: Claims
    ) -> Mapping[int, Seen] | None:
        """Claim the identities of records `[start, end)`; return the rows that were there before.

        Returns None where the memory does not hold everything from the horizon to `start`.
        """

    def refill(
        self, segment: Segment, end: int, slices: Iterable[tuple[int, Iterable[Claims]]]
    ) -> None:
        """Take the identities of `[horizon, end)`, by slice, and vouch for that range.

        May leave the memory unfilled where another worker refills at the same time.
        """

    def drop_before(self, segment: Segment) -> None:
        """Drop what lies before the segment's horizon."""


class IdentityArchive(Protocol):
    """Complete below what was written: refills the memory and answers for old events."""

    def slices(
        self, segment: Segment, slice_starts: Mapping[int, SliceStart], end: int
    ) -> Iterable[tuple[int, Iterable[Claims]]]:
        """Return the identities of `[horizon, end)` by slice."""

    def find(self, at: LogPartition, identities: Sequence[bytes], below: int) -> dict[bytes, Seen]:
        """Return where identities were first seen at offsets below `below`."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Per row of a run: `is_new`; and for the others, the event that they repeat."""

    is_new: Any
    repeats: Mapping[int, Seen]


@dataclass(slots=True)
class Judge:
    """Gives the verdicts of one partition."""

    memory: IdentityMemory
    archive: IdentityArchive
    archived: int
    """Everything below this offset is in the archive."""
    claimed: int
    """Everything below this offset has been judged."""
    refills_max: int = 100
    _unarchived: deque[tuple[Segment, int, int, Claims]] = field(default_factory=deque)
    """New identities per judged run: what a refill from the archive would miss."""

    def judge(
        self,
        segment: Segment,
        slice_starts: Mapping[int, SliceStart],
        end: int,
        claims: Claims,
        times_ms: Any,
    ) -> Verdicts:
        """Return the verdicts of a run of one segment's records that ends before `end`."""
        repeats = self._old_repeats(segment, claims, times_ms)
        is_new = np.ones(len(claims), bool)
        is_new[list(repeats)] = False
        asked = claims.only(is_new) if repeats else claims
        hits = self._claim(segment, slice_starts, end, asked)
        if hits:
            rows = np.flatnonzero(is_new)
            repeats.update({int(rows[row]): seen for row, seen in hits.items()})
            is_new[list(repeats)] = False
        return Verdicts(is_new, repeats)

    def archived_to(self, offset: int) -> None:
        """Note that everything below `offset` has been written to the archive."""
        self.archived = max(self.archived, offset)
        while self._unarchived and self._unarchived[0][2] <= self.archived:
            self._unarchived.popleft()

    def _claim(
        self,
        segment: Segment,
        slice_starts: Mapping[int, SliceStart],
        end: int,
        claims: Claims,
    ) -> Mapping[int, Seen]:
        for _ in range(self.refills_max):
            hits = self.memory.claim(segment, self.claimed, end, claims)
            if hits is not None:
                if hits:
                    is_first = np.ones(len(claims), bool)
                    is_first[list(hits)] = False
                    claims = claims.only(is_first)
                self._unarchived.append((segment, self.claimed, end, claims))
                self.claimed = end
                return hits
            self._refill(segment, slice_starts)
        raise TimeoutError(
            f"partition {segment.at}: the memory of identities was lost {self.refills_max} times "
            "in a row; see that Redis keeps running and that no other deployment shares it"
        )

    def _refill(self, segment: Segment, slice_starts: Mapping[int, SliceStart]) -> None:
        end = max(self.archived, segment.horizon_offset)
        self.memory.refill(segment, end, self.archive.slices(segment, slice_starts, end))
        for of_segment, start, stop, firsts in self._unarchived:
            if of_segment.slice < segment.horizon_slice:
                continue
            again = replace(of_segment, horizon_slice=segment.horizon_slice)
            if self.memory.claim(again, max(start, end), stop, firsts) is None:
                return

    def _old_repeats(self, segment: Segment, claims: Claims, times_ms: Any) -> dict[int, Seen]:
        """Look up, in the archive, events that may repeat one from before the horizon."""
        if segment.horizon_slice == 0:
            return {}
        old = np.flatnonzero(times_ms < segment.horizon_at_ms + FUTURE_TOLERANCE_MS)
        if not len(old):
            return {}
        asked = [identity.tobytes() for identity in claims.identities[old]]
        found = self._unarchived_before(segment.horizon_offset)
        found |= self.archive.find(segment.at, asked, segment.horizon_offset)
        return {int(row): found[key] for row, key in zip(old, asked, strict=True) if key in found}

    def _unarchived_before(self, offset: int) -> dict[bytes, Seen]:
        """Return new identities that are not yet archived and already lie before a horizon."""
        return {
            identity: seen
            for _, start, _, firsts in self._unarchived
            if start < offset
            for identity, seen in firsts.seen()
            if seen.offset < offset
        }
