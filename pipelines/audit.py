"""The audit: finds copies that no partition could see, and takes back what they counted.

Copies of one identity that lie in several partitions or logs, or behind the horizon of verdicts,
never met. Before a cut is fixed one of them is chosen to count: the one that an earlier audit left
counting, else the first by (append time, log, partition, offset, index). What the others added is
added again with the opposite sign: as signed events, and in windows, in a segment of the audit's
own. So the net of a copy as of the cut is zero, and no other row changes.

All of it is a function of what lies below the cut and of earlier audits: run again, after a crash
at any point, it writes the same rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa

from pipelines.correcting import CONTRIBUTION_SCHEMA, Row, position_of
from pipelines.cut import Proposal
from pipelines.dead_letter import conflict_letter
from pipelines.fold import ActiveMeter, fold_signed
from pipelines.position import LogPartition, Position
from pipelines.record import DeadLetter
from pipelines.segment import AUDIT_SEGMENTS, Segment
from pipelines.windows import SegmentWindows

VOID_SCHEMA = pa.schema(
    [
        *CONTRIBUTION_SCHEMA,
        pa.field("audit", pa.uint64()),
        pa.field("survivor_log", pa.uint16()),
        pa.field("survivor_partition", pa.uint16()),
        pa.field("survivor_offset", pa.uint64()),
        pa.field("survivor_index", pa.uint32()),
        pa.field("is_conflict", pa.bool_()),
    ]
)
"""Signed events that take back what copies added, and which event counts instead."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Vector = Mapping[LogPartition, int]
"""Next offsets; a partition that is not in it has not begun."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Where an identity stands, and the hash of its body."""

    identity: bytes
    position: Position
    body_hash: bytes


class AuditTables(Protocol):
    """What an audit reads and writes. Everything read lies below the proposed cut."""

    def suspects(self, proposal: Proposal, behind: Vector) -> Iterable[Sequence[bytes]]:
        """Yield, in parts and each once, identities that something may have to be done about.

        Those that stand at several positions, of which one lies at or after `behind`; and those of
        voided copies that were corrected at or after it.
        """

    def copies(self, proposal: Proposal, identities: Sequence[bytes]) -> Iterable[Copy]:
        """Return where identities stand."""

    def voided(self, proposal: Proposal, identities: Sequence[bytes]) -> set[Position]:
        """Return the positions that earlier audits voided."""

    def contributions(self, proposal: Proposal, identities: Sequence[bytes]) -> Iterable[Row]:
        """Return stored events and the signed events of their corrections; see `correcting`.

        Rows of `CONTRIBUTION_SCHEMA`, of the proposal's tenant alone.
        """

    def write_voids(self, voids: Any, letters: Sequence[DeadLetter]) -> None:
        """Write a table of `VOID_SCHEMA`, and the conflicts among the copies."""

    def write_windows(self, windows: Any) -> None:
        """Write a table of `WINDOW_ROW_SCHEMA`."""


class CountedMeters(Protocol):
    """Which meters there are."""

    def meters(self, definitions: Sequence[int]) -> list[ActiveMeter]:
        """Return meter definitions by id."""


@dataclass(slots=True)
class Auditor:
    """Audits what the next cut of a chain reaches."""

    tables: AuditTables
    meters: CountedMeters
    behind: Callable[[Proposal], Vector]
    """Returns the vector of the cut before a proposal; empty where it is the first."""

    def audit(self, proposal: Proposal) -> int:
        """Write what the audit of a proposed cut takes back; return how many copies it voids."""
        behind = self.behind(proposal)
        windows: dict[LogPartition, SegmentWindows] = {}
        count = 0
        for identities in self.tables.suspects(proposal, behind):
            voids, letters = self._voids(proposal, behind, identities)
            if not voids:
                continue
            count += sum(row["revision"] == 0 for row in voids)
            table = pa.Table.from_pylist(voids, VOID_SCHEMA)
            self.tables.write_voids(table, letters)
            self._add(proposal, windows, voids)
        for at, of_partition in sorted(windows.items(), key=lambda pair: pair[0]):
            self.tables.write_windows(of_partition.take_rows(proposal.offsets[at] - 1))
        return count

    def _voids(
        self, proposal: Proposal, behind: Vector, identities: Sequence[bytes]
    ) -> tuple[list[Row], list[DeadLetter]]:
        copies: dict[bytes, list[Copy]] = {}
        for copy in self.tables.copies(proposal, identities):
            copies.setdefault(copy.identity, []).append(copy)
        voided = self.tables.voided(proposal, identities)
        added: dict[Position, list[Row]] = {}
        for row in self.tables.contributions(proposal, identities):
            added.setdefault(position_of(row), []).append(row)
        voids: list[Row] = []
        letters: list[DeadLetter] = []
        for of_identity in copies.values():
            # Of another tenant's events nothing is read: they are its own audit's.
            known = [copy for copy in of_identity if copy.position in added]
            if not known:
                continue
            survivor = survivor_of(known, voided, behind, added)
            for copy in known:
                if copy is survivor:
                    continue
                rows = added[copy.position]
                if copy.position in voided:
                    rows = [row for row in rows if not _is_behind(_stands_at(row), behind)]
                elif copy.body_hash != survivor.body_hash:
                    letters.append(_letter(copy, survivor, rows))
                voids += [_void(row, proposal.number, copy, survivor) for row in rows]
        return voids, letters

    def _add(
        self, proposal: Proposal, windows: dict[LogPartition, SegmentWindows], voids: list[Row]
    ) -> None:
        """Fold signed events into the versions of meters that the proposal names."""
        meters = self.meters.meters(proposal.definitions)
        by_place: dict[LogPartition, list[Row]] = {}
        for row in voids:
            by_place.setdefault(position_of(row).at, []).append(row)
        for place, rows in by_place.items():
            if place not in windows:
                windows[place] = SegmentWindows(audit_segment(place, proposal))
            windows[place].add(fold_signed(pa.Table.from_pylist(rows, VOID_SCHEMA), meters))


def survivor_of(
    copies: Sequence[Copy],
    voided: set[Position],
    behind: Vector,
    added: Mapping[Position, Sequence[Row]],
) -> Copy:
    """Return the copy that counts: the one that counted before, else the first appended."""

    def order(copy: Copy) -> tuple[bool, datetime, Position]:
        is_new = not _is_behind(copy.position, behind)
        return is_new, added[copy.position][0]["ingested_at"], copy.position

    return min((copy for copy in copies if copy.position not in voided), key=order)


def _is_behind(position: Position, behind: Vector) -> bool:
    return position.offset < behind.get(position.at, 0)


def _stands_at(row: Row) -> Position:
    """Return where the log holds what a signed event is of: the event, or its correction."""
    place = LogPartition(row["at_log"], row["at_partition"])
    return Position(place, row["at_offset"], row["at_index"])


def _void(row: Row, audit: int, copy: Copy, survivor: Copy) -> Row:
    first = survivor.position
    return {
        **row,
        "sign": -row["sign"],
        "audit": audit,
        "survivor_log": first.at.log,
        "survivor_partition": first.at.partition,
        "survivor_offset": first.offset,
        "survivor_index": first.index,
        "is_conflict": copy.body_hash != survivor.body_hash,
    }


def _letter(copy: Copy, survivor: Copy, rows: Sequence[Row]) -> DeadLetter:
    (sent,) = (row for row in rows if row["revision"] == 0)
    return conflict_letter(copy.position.at, sent, survivor.position)


def audit_segment(at: LogPartition, proposal: Proposal) -> Segment:
    """Return the segment of an audit: it lies in no log, at the moment of the cut."""
    return Segment(
        at=at,
        sequence=0,
        start_offset=AUDIT_SEGMENTS + proposal.number,
        started_at_ms=(proposal.at - _EPOCH) // timedelta(milliseconds=1),
        events_before=0,
        slice=0,
        horizon_slice=0,
        horizon_offset=0,
        horizon_at_ms=0,
    )
