"""What closing and reverting a replacement comes to in one partition: signed events, in pieces."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.correcting import CORRECTED_SCHEMA, TARGET_SCHEMA, Place, Row, Target
from pipelines.position import LogPartition
from pipelines.record import DeadLetter, event_letter, moment_of
from pipelines.replacement import Action, Replacement, replacement_of


@dataclass(frozen=True, slots=True)
class Scope:
    """What a record answers for: its partition below it, and its share of older logs.

    Of older logs it has the subjects that fall into its partition of `partitions`.
    """

    at: LogPartition
    below: int
    partitions: int


@dataclass(frozen=True, slots=True)
class Closed:
    """That a record of a partition closed or reverted a replacement there."""

    replacement: Replacement
    action: Action
    offset: int


class ReplacementTables(Protocol):
    """What is stored of the events that a replacement takes back or lets count."""

    def plain(self, replacement: Replacement, scope: Scope) -> Iterator[Any]:
        """Yield tables of `TARGET_SCHEMA`: events in the range that were never corrected."""

    def held(self, replacement: Replacement, scope: Scope) -> Iterator[Any]:
        """Yield tables of `TARGET_SCHEMA`: events sent for it that were never corrected."""

    def corrected(self, replacement: Replacement, scope: Scope) -> Iterator[Target]:
        """Yield events that were corrected and were, or now are, in the range, in log order."""

    def replaced(self, replacement: Replacement, scope: Scope) -> Iterator[list[Row]]:
        """Yield, in pieces, the last corrections of events that are this replacement's doing."""

    def is_closed(self, replacement: Replacement, at: LogPartition, below: int) -> bool:
        """Tell whether a record below `below` of a partition closed it there."""


def closed(
    replacement: Replacement, place: Place, scope: Scope, tables: ReplacementTables
) -> Iterator[Any]:
    """Yield signed events: what counts in the range is taken back, what is held counts."""
    pieces = _Pieces(replacement, place, "replace")
    for sign, found in ((-1, tables.plain), (1, tables.held)):
        for table in found(replacement, scope):
            yield pieces.signed(table, sign, np.ones(table.num_rows, np.uint32))
    rows = [
        (target.now, -1, target.revision + 1)
        for target in tables.corrected(replacement, scope)
        if target.now is not None
        and replacement.covers(target.now)
        and replacement_of(target.sent["extensions"]) != replacement.name
    ]
    yield from pieces.of_rows(rows)


def reverted(
    replacement: Replacement, place: Place, scope: Scope, tables: ReplacementTables
) -> Iterator[Any]:
    """Yield signed events: what its close took back counts again, what it let count does not."""
    pieces = _Pieces(replacement, place, "revert")
    for rows in tables.replaced(replacement, scope):
        yield from pieces.of_rows([(row, -row["sign"], row["revision"] + 1) for row in rows])


def held_rows(events: Any) -> Any:
    """Return which events were sent for a replacement, as a mask; None where none was."""
    extensions = events.column("extensions")
    if not pc.max(pc.binary_length(extensions)).as_py():
        return None
    held = np.array([bool(replacement_of(each)) for each in extensions.to_pylist()], bool)
    return held if held.any() else None


Finder = Callable[[str, str], Replacement | None]
"""Finds a replacement by tenant and name."""


def without_strays(
    events: Any, at: LogPartition, find: Finder, tables: ReplacementTables
) -> tuple[Any, list[DeadLetter]]:
    """Leave out events for a replacement that there is not, that is closed, or is of others."""
    if held_rows(events) is None:
        return events, []
    keep = np.ones(events.num_rows, bool)
    letters = []
    for row, event in enumerate(events.to_pylist()):
        name = replacement_of(event["extensions"])
        fault = _stray(name, event, at, find, tables) if name else None
        if fault is not None:
            keep[row] = False
            letters.append(event_letter(at, event, "refused", fault))
    return events.filter(pa.array(keep)), letters


def _stray(
    name: str, event: Row, at: LogPartition, find: Finder, tables: ReplacementTables
) -> str | None:
    replacement = find(event["tenant"], name)
    if replacement is None:
        return f"there is no replacement {name}"
    if tables.is_closed(replacement, at, event["offset"]):
        return f"replacement {name} is closed; send the event without it, or open another"
    return replacement.fault(event)


@dataclass(slots=True)
class _Pieces:
    """Numbers the signed events of one record."""

    replacement: Replacement
    place: Place
    kind: str
    index: int = 0

    def signed(self, table: Any, sign: int, revisions: Any) -> Any:
        """Return a table of `CORRECTED_SCHEMA`."""
        count = table.num_rows
        about = {
            "sign": sign,
            "kind": self.kind,
            "author": self.replacement.author,
            "reason": self.replacement.reason,
            "request": self.replacement.name,
            "at_log": self.place.at.log,
            "at_partition": self.place.at.partition,
            "at_offset": self.place.offset,
            "corrected_at": moment_of(self.place.append_ms),
        }
        columns = {name: table.column(name) for name in TARGET_SCHEMA.names}
        for name, value in about.items():
            columns[name] = pa.repeat(pa.scalar(value, CORRECTED_SCHEMA.field(name).type), count)
        columns["revision"] = pa.array(revisions, pa.uint32())
        columns["at_index"] = pa.array(np.arange(self.index, self.index + count), pa.uint32())
        self.index += count
        return pa.table([columns[name] for name in CORRECTED_SCHEMA.names], CORRECTED_SCHEMA)

    def of_rows(self, rows: list[tuple[Row, int, int]]) -> Iterator[Any]:
        """Yield (event, sign, revision) as tables."""
        for sign in (-1, 1):
            chosen = [(row, revision) for row, its_sign, revision in rows if its_sign == sign]
            if chosen:
                events = [{name: row[name] for name in TARGET_SCHEMA.names} for row, _ in chosen]
                table = pa.Table.from_pylist(events, TARGET_SCHEMA)
                yield self.signed(table, sign, [revision for _, revision in chosen])
