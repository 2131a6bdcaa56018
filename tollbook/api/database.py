"""Connections of the API to Postgres: a few, reused, replaced when they break."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

_CONNECTIONS_MAX = 8
_WAIT_SECONDS = 10.0

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
        try:
            connection = self._free.get(timeout=_WAIT_SECONDS)
        except queue.Empty as error:
            raise psycopg.OperationalError("all connections are busy") from error
        try:
            if connection is None or not _is_alive(connection):
                connection = None
                connection = psycopg.connect(self._dsn, autocommit=True, connect_timeout=5)
            yield connection
        finally:
            self._free.put(connection)


def _is_alive(connection: Connection) -> bool:
    """Ask, since a connection that the server has ended looks sound until it is used."""
    if connection.closed or connection.broken:
        return False
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        connection.close()
        return False
    return True
