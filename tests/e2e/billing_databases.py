"""Databases of their own in the stack's Postgres, each with the small world applied."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.e2e.billing_world import prepare
from tests.embedded_stack import EmbeddedStack

Connection = psycopg.Connection[Any]
Make = Callable[[str], tuple[str, Connection]]


@contextmanager
def databases(stack: EmbeddedStack) -> Iterator[Make]:
    """Yield what makes a database by a name; they are dropped afterwards."""
    made: dict[str, Connection] = {}

    def database(name: str) -> tuple[str, Connection]:
        dsn = make_conninfo(stack.read().postgres_dsn, dbname=name)
        made[name] = prepare(dsn)
        return dsn, made[name]

    yield database
    with psycopg.connect(stack.read().postgres_dsn, autocommit=True) as owner:
        for name, connection in made.items():
            connection.close()
            owner.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
