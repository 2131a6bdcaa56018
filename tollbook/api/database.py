"""Connections of the API to Postgres: a few, reused, replaced when they break."""

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

_CONNECTIONS_MAX = 8
_WAIT_SECONDS = 10.0
# No request waits for another's lock, or runs, for longer; the caller is told to try again.
_BOUNDS = "-c lock_timeout=5s -c statement_timeout=60s"

Connection = psycopg.Connection[Any]


class Database:
    """Lends connections in autocommit; at most `_CONNECTIONS_MAX` at once."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._free: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        for _ in range(_CONNECTIONS_MAX):
            self._free.put(None)

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Lend a connection; raises psycopg.OperationalError where none can be had."""
        with self.lend_after("SELECT 1") as (connection, _):
            yield connection

    @contextmanager
    def lend_after(
        self, sql: str, values: Sequence[Any] = ()
    ) -> Iterator[tuple[Connection, tuple[Any, ...] | None]]:
        """Lend a connection with the first row of a read; raises psycopg.OperationalError.

        A connection that the server has ended looks sound until it is used: the read tells.
        """
        try:
            connection = self._free.get(timeout=_WAIT_SECONDS)
        except queue.Empty as error:
            raise psycopg.OperationalError("all connections are busy") from error
        try:
            rows = None if connection is None else _rows(connection, sql, values)
            if connection is None or rows is None:
                connection = None  # where none can be made, the next request tries again
                connection = psycopg.connect(
                    self._dsn, autocommit=True, connect_timeout=5, options=_BOUNDS
                )
                rows = connection.execute(sql, values).fetchall()
            yield connection, rows[0] if rows else None
        finally:
            self._free.put(connection)


def _rows(connection: Connection, sql: str, values: Sequence[Any]) -> list[Any] | None:
    """Return what a read says; None where the connection has ended."""
    try:
        return connection.execute(sql, values).fetchall()
    except psycopg.OperationalError:
        connection.close()
        return None
