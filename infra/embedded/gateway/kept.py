"""Connections that serve again: made ready alike, and left by their statement as it found them.

To make one, to name its database and to set its settings costs the engine as much as a small
query. What a statement brings for itself (values, its own settings) ends with it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from infra.embedded.gateway.chdb_engine import Engine, EngineConnection
from infra.embedded.gateway.options import Options
from infra.embedded.gateway.sessions import prepare_fresh
from infra.embedded.gateway.statement import Statement

_LEAVE_NOTHING = frozenset(
    {"SELECT", "WITH", "FROM", "INSERT", "EXPLAIN", "DESCRIBE", "DESC", "SHOW", "EXISTS"}
)
_Readiness = tuple[str, bool, frozenset[tuple[str, str]]]


@dataclass(slots=True)
class KeptConnections:
    """Connections at rest, of which each serves one request at a time."""

    engine: Engine
    most: int
    _at_rest: list[tuple[_Readiness, EngineConnection]] = field(default_factory=list)
    """The one that has rested longest first."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def lend(self, options: Options, statement: Statement) -> Iterator[EngineConnection]:
        """Lend a connection that is as a request asks; it is closed unless nothing stays on it."""
        ready = (options.database, options.is_get, frozenset(options.settings.items()))
        connection = self._take(ready)
        is_clean = False
        try:
            if connection is None:
                connection = self.engine.connect()
                prepare_fresh(connection, options)
            yield connection
            # The values of an insert with data are set on the connection.
            has_values = statement.data is not None and bool(options.bound)
            is_clean = statement.kind in _LEAVE_NOTHING and not has_values
        finally:
            if connection is not None:
                self._rest(ready, connection, stays=is_clean)

    def close_all(self) -> None:
        """End all that are at rest, for the gateway's own end."""
        with self._lock:
            ended, self._at_rest = self._at_rest, []
        for _, connection in ended:
            connection.close()

    def _take(self, ready: _Readiness) -> EngineConnection | None:
        with self._lock:
            for place in range(len(self._at_rest) - 1, -1, -1):
                if self._at_rest[place][0] == ready:
                    return self._at_rest.pop(place)[1]
        return None

    def _rest(self, ready: _Readiness, connection: EngineConnection, *, stays: bool) -> None:
        if not stays:
            connection.close()
            return
        with self._lock:
            self._at_rest.append((ready, connection))
            ended = self._at_rest.pop(0)[1] if len(self._at_rest) > self.most else None
        if ended is not None:
            ended.close()
