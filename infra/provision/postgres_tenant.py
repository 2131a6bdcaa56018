"""The first rows: the log of the topic, the first tenant, its owner's key."""

import hashlib

import psycopg

from infra.provision.kafka_topic import Topic


def newest_log(dsn: str) -> tuple[int, str, str, int] | None:
    """Return number, topic, topic id and partitions of the log that events go into, or None."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT log, topic, topic_id, partitions FROM logs"
            " WHERE closed_at IS NULL ORDER BY log DESC LIMIT 1"
        ).fetchone()
    return None if row is None else (int(row[0]), str(row[1]), str(row[2]), int(row[3]))


def open_first_log(dsn: str, name: str, topic: Topic) -> None:
    """Record the topic as log 0, where there is no log yet."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO logs (log, topic, topic_id, partitions) VALUES (0, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            (name, topic.topic_id, topic.partitions),
        )


def ensure_tenant(dsn: str, tenant: str, api_key: str) -> None:
    """Create a tenant and the owner key given, where they are not there yet."""
    digest = hashlib.sha256(api_key.encode()).digest()
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO tenants (tenant, name) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (tenant, tenant.capitalize()),
        )
        connection.execute(
            "INSERT INTO fact_revisions (tenant) VALUES (%s) ON CONFLICT DO NOTHING", (tenant,)
        )
        connection.execute(
            "INSERT INTO api_keys (key_hash, tenant, name, role) "
            "VALUES (%s, %s, 'first owner key', 'owner') ON CONFLICT DO NOTHING",
            (digest, tenant),
        )
