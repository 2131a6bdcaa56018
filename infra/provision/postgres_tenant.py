"""The first rows: the log of the topic, the first tenant, its owner's key."""

import hashlib

import psycopg

from infra.provision.kafka_topic import Topic, TopicError


def known_log(dsn: str, topic: str) -> tuple[int, str] | None:
    """Return number and topic id of the newest log of a topic, or None."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT log, topic_id FROM logs WHERE topic = %s ORDER BY log DESC LIMIT 1", (topic,)
        ).fetchone()
    return None if row is None else (int(row[0]), str(row[1]))


def open_first_log(dsn: str, name: str, topic: Topic) -> None:
    """Record the topic as log 0.

    Raises:
        TopicError: another incarnation of the topic, or another size of it, is on record.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO logs (log, topic, topic_id, partitions) VALUES (0, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            (name, topic.topic_id, topic.partitions),
        )
        row = connection.execute(
            "SELECT log, partitions FROM logs WHERE topic_id = %s", (topic.topic_id,)
        ).fetchone()
    if row is None:
        raise TopicError(
            f"topic {name} is not the one on record: it was deleted and made anew, and what it "
            "held is gone. Restore Kafka's data, or open a new log by hand"
        )
    if row[1] != topic.partitions:
        raise TopicError(
            f"topic {name} has {topic.partitions} partitions, not {row[1]} as on record: more "
            "partitions are a new log, since subjects would change their partition"
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
