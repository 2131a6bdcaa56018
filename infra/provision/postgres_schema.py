"""Applies migrations to Postgres, each with its record in one transaction."""

import contextlib

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.provision.migrations import Migration, pending

_LOCK = 7_046_029_254
_RECORD = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        name        text PRIMARY KEY,
        checksum    text NOT NULL,
        applied_at  timestamptz NOT NULL DEFAULT now()
    )
"""


def create_database(dsn: str) -> None:
    """Create the database that the DSN names, where there is none."""
    name = str(conninfo_to_dict(dsn)["dbname"])
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if known.fetchone() is None:
            # Another run may have been faster.
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def migrate_postgres(dsn: str, migrations: list[Migration]) -> list[str]:
    """Apply what is not applied yet; return the names. Two runs at once do it once."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        connection.execute(_RECORD)
        rows = connection.execute("SELECT name, checksum FROM schema_migrations").fetchall()
        todo = pending(migrations, dict(rows))
        for migration in todo:
            with connection.transaction():
                connection.execute(migration.text.encode())
                connection.execute(
                    "INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)",
                    (migration.name, migration.checksum),
                )
    return [migration.name for migration in todo]
