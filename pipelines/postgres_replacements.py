"""Range replacements: what they replace, and how far they are. The connection is in autocommit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC
from typing import Any

import psycopg

from pipelines.position import LogPartition
from pipelines.replacement import Action, Replacement, State

_FIELDS = [each.name for each in fields(Replacement)]
_COLUMNS = ", ".join({"start": "starts_at", "end": "ends_at"}.get(n, n) for n in _FIELDS)
_DOING: Mapping[Action, State] = {"close": "closing", "revert": "reverting"}
_DONE: Mapping[Action, State] = {"close": "closed", "revert": "reverted"}
_FROM: Mapping[Action, tuple[State, ...]] = {
    "close": ("open", "closing"),
    "revert": ("open", "closed", "reverting"),
}


class WrongStateError(ValueError):
    """A replacement is not in a state in which that can be done."""


@dataclass(slots=True)
class PostgresReplacements:
    """The table replacements."""

    connection: "psycopg.Connection[Any]"

    def add(self, replacement: Replacement) -> None:
        """Open a replacement."""
        values = [getattr(replacement, name) for name in _FIELDS]
        marks = ", ".join(["%s"] * len(values))
        self.connection.execute(f"INSERT INTO replacements ({_COLUMNS}) VALUES ({marks})", values)

    def find(self, tenant: str, name: str) -> Replacement | None:
        """Return a replacement of a tenant."""
        found = self._rows("tenant = %s AND name = %s", (tenant, name))
        return found[0] if found else None

    def listed(self, tenant: str, after: str | None, limit: int) -> list[Replacement]:
        """Return replacements of a tenant by name, which is the order of their opening."""
        return self._rows(
            "tenant = %s AND name > %s ORDER BY name LIMIT %s", (tenant, after or "", limit)
        )

    def begin(self, tenant: str, name: str, action: Action) -> bool:
        """Note that it is being closed or reverted; no cut is fixed until that is done.

        Returns False where the log has nothing to undo: one that was never closed is reverted.

        Raises:
            LookupError: there is none of that name.
            WrongStateError: it is not in a state in which that can be done.
        """
        with self.connection.transaction():
            # The lock under which cuts are fixed.
            self.connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('cuts:' || %s, 0))", (tenant,)
            )
            row = self.connection.execute(
                "SELECT state FROM replacements WHERE tenant = %s AND name = %s FOR UPDATE",
                (tenant, name),
            ).fetchone()
            if row is None:
                raise LookupError(f"there is no replacement {name}")
            state: State = row[0]
            if state not in _FROM[action]:
                raise WrongStateError(f"replacement {name} is {state}; it cannot {action}")
            was_open = action == "revert" and state == "open"
            becomes = "reverted" if was_open else _DOING[action]
            self.connection.execute(
                "UPDATE replacements SET state = %s WHERE tenant = %s AND name = %s",
                (becomes, tenant, name),
            )
        return not was_open

    def finish(
        self, tenant: str, name: str, action: Action, places: Mapping[LogPartition, int]
    ) -> None:
        """Note where its records stand; a cut has all of them or none."""
        vector = [[at.log, at.partition, offset] for at, offset in places.items()]
        column = f"{_DONE[action]}_at"
        self.connection.execute(
            f"UPDATE replacements SET state = %s, {column} = %s WHERE tenant = %s AND name = %s",
            (_DONE[action], json.dumps(vector), tenant, name),
        )

    def under_way(self, tenant: str) -> list[str]:
        """Return the names of replacements that are being closed or reverted."""
        rows = self.connection.execute(
            "SELECT name FROM replacements WHERE tenant = %s"
            " AND state IN ('closing', 'reverting') ORDER BY name",
            (tenant,),
        ).fetchall()
        return [row[0] for row in rows]

    def raised(self, tenant: str, offsets: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
        """Return offsets of a cut, raised so that it has all records of a replacement or none."""
        raised = dict(offsets)
        rows = self.connection.execute(
            "SELECT closed_at, reverted_at FROM replacements WHERE tenant = %s"
            " AND closed_at IS NOT NULL",
            (tenant,),
        ).fetchall()
        vectors = [vector for row in rows for vector in row if vector is not None]
        while True:
            before = dict(raised)
            for vector in vectors:
                ends = {LogPartition(log, part): offset + 1 for log, part, offset in vector}
                if any(raised.get(at, 0) >= end for at, end in ends.items()):
                    for at, end in ends.items():
                        raised[at] = max(raised.get(at, 0), end)
            if raised == before:
                return raised

    def _rows(self, where: str, values: tuple[Any, ...]) -> list[Replacement]:
        rows = self.connection.execute(
            f"SELECT {_COLUMNS} FROM replacements WHERE {where}", values
        ).fetchall()
        found = []
        for row in rows:
            named = dict(zip(_FIELDS, row, strict=True))
            for bound in ("start", "end"):
                named[bound] = named[bound].astimezone(UTC)
            found.append(Replacement(**named))
        return found
