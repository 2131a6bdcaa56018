"""`python -m infra.provision`: servers' addresses in TOLLBOOK_*; says what it did, line by line."""

import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
from confluent_kafka import KafkaException
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.analysts import AccessError
from infra.provision.kafka_topic import (
    TopicError,
    connect,
    create_topic,
    find_topic,
    verify_settings,
)
from infra.provision.migrations import MigrationError, read_migrations
from infra.provision.postgres_schema import create_database, migrate_postgres
from infra.provision.postgres_tenant import ensure_tenant, newest_log, open_first_log
from ingest.topic import TOPIC


class Settings(BaseSettings):
    """Where the servers are; read from the environment."""

    model_config = SettingsConfigDict(env_prefix="TOLLBOOK_")

    postgres_dsn: str
    clickhouse_url: str
    kafka_bootstrap: str
    partitions: int = 4
    tenant: str = "default"
    api_key: str


def _prepare_postgres(settings: Settings) -> None:
    create_database(settings.postgres_dsn)
    for name in migrate_postgres(settings.postgres_dsn, read_migrations("postgres")):
        print(f"postgres: applied {name}")


def _prepare_clickhouse(settings: Settings) -> None:
    from infra.provision.clickhouse_schema import (  # noqa: PLC0415 - a second driver, in parallel
        migrate_clickhouse,
    )

    for name in migrate_clickhouse(settings.clickhouse_url, read_migrations("clickhouse")):
        print(f"clickhouse: applied {name}")


def _prepare_analysts(settings: Settings) -> None:
    from infra.provision.clickhouse_analysts import provision_analysts  # noqa: PLC0415
    from infra.provision.postgres_keys import analyst_keys  # noqa: PLC0415

    with psycopg.connect(settings.postgres_dsn) as connection:
        keys = analyst_keys(connection)
    if keys:
        provision_analysts(settings.clickhouse_url, keys)


def _prepare_topic(settings: Settings) -> None:
    """Make the first log, or check the newest.

    A topic that is gone or was made anew keeps nothing from starting: ingest and workers raise the
    alarm, and what mends it needs servers that run.
    """
    admin = connect(settings.kafka_bootstrap)
    newest = newest_log(settings.postgres_dsn)
    name = TOPIC if newest is None else newest[1]
    topic = find_topic(admin, name)
    if newest is None:
        if topic is None:
            topic = create_topic(admin, name, settings.partitions)
            print(f"kafka: made topic {name} with {topic.partitions} partitions")
        open_first_log(settings.postgres_dsn, name, topic)
    elif topic is None or topic.topic_id != newest[2]:
        print(f"kafka: topic {name} is not the one on record as log {newest[0]}")
        return
    verify_settings(admin, name)


def main() -> None:
    """Prepare everything; the exit status is 1, after one line, where that cannot be."""
    settings = Settings()  # type: ignore[call-arg] # the environment fills it
    try:
        with ThreadPoolExecutor() as pool:
            clickhouse = pool.submit(_prepare_clickhouse, settings)
            _prepare_postgres(settings)
            _prepare_topic(settings)
            ensure_tenant(settings.postgres_dsn, settings.tenant, settings.api_key)
            clickhouse.result()
            _prepare_analysts(settings)
    except (AccessError, MigrationError, TopicError, KafkaException, psycopg.Error) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
