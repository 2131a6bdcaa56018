"""Applies migrations to ClickHouse. There are no transactions: statements bear being repeated."""

import clickhouse_connect
from clickhouse_connect.driver.binding import quote_identifier
from clickhouse_connect.driver.client import Client

from infra.analysts import DATABASE
from infra.provision.migrations import Migration, MigrationError, pending

_RECORD = """
    CREATE TABLE IF NOT EXISTS schema_migrations
    (
        name        String COMMENT 'File',
        checksum    String COMMENT 'SHA-256 of its text',
        applied_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When'
    )
    ENGINE = ReplacingMergeTree
    ORDER BY name
    COMMENT 'Which migrations are applied'
"""


def migrate_clickhouse(dsn: str, migrations: list[Migration]) -> list[str]:
    """Create the DSN's database, apply what is not applied yet, and return the names.

    Raises:
        MigrationError: the DSN names another database than views and rights do.
    """
    server, _, database = dsn.rpartition("/")
    if database != DATABASE:
        raise MigrationError(
            f"ClickHouse's database is {DATABASE}, as views and analysts' rights name it, not"
            f" {database!r}: end TOLLBOOK_CLICKHOUSE_URL with /{DATABASE}"
        )
    first = clickhouse_connect.get_client(dsn=f"{server}/default")
    first.command(f"CREATE DATABASE IF NOT EXISTS {quote_identifier(database)}")
    first.close()
    client = clickhouse_connect.get_client(dsn=dsn)
    try:
        return _apply(client, migrations)
    finally:
        client.close()


def _apply(client: Client, migrations: list[Migration]) -> list[str]:
    client.command(_RECORD)
    rows = client.query("SELECT name, checksum FROM schema_migrations FINAL").result_rows
    todo = pending(migrations, {str(name): str(checksum) for name, checksum in rows})
    for migration in todo:
        for statement in migration.statements():
            client.command(statement)
        client.insert(
            "schema_migrations",
            [[migration.name, migration.checksum]],
            column_names=["name", "checksum"],
        )
    return [migration.name for migration in todo]
