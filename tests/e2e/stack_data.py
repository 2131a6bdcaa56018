"""Puts one row into each store of a stack, and looks for it again."""

from typing import Any

import clickhouse_connect
import psutil
import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.embedded.process import ProcessKey, key_of
from ingest.topic import TICK_CONTENT_TYPE, TOPIC, Tick
from tollbook.stack_file import Stack


def write_everywhere(stack: Stack, word: str) -> None:
    with psycopg.connect(stack.postgres_dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        connection.execute("INSERT INTO kept VALUES (%s)", (word,))
    clickhouse = clickhouse_connect.get_client(dsn=stack.clickhouse_url)
    clickhouse.command(
        "CREATE TABLE IF NOT EXISTS kept (word String) ENGINE = MergeTree ORDER BY word"
    )
    clickhouse.insert("kept", [[word]], column_names=["word"])
    clickhouse.close()
    assert produce(stack.kafka_bootstrap, word)


def produce(bootstrap: str, word: str) -> bool:
    """Write a tick into the usage topic; tell whether Kafka acknowledged it."""
    acknowledged: list[bool] = []
    settings = {"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0}
    # What is waited for is Kafka, not this client's patience between two tries.
    producer = Producer(settings | {"reconnect.backoff.max.ms": 100})
    producer.produce(
        TOPIC,
        Tick(reason=word, start=False).to_value(),
        partition=3,
        headers={"content-type": TICK_CONTENT_TYPE},
        on_delivery=lambda error, _: acknowledged.append(error is None),
    )
    producer.flush(20)
    return acknowledged == [True]


def words_in_postgres(stack: Stack) -> list[str]:
    with psycopg.connect(stack.postgres_dsn) as connection:
        return [row[0] for row in connection.execute("SELECT word FROM kept ORDER BY word")]


def words_in_clickhouse(stack: Stack) -> list[str]:
    client: Any = clickhouse_connect.get_client(dsn=stack.clickhouse_url)
    rows = client.query("SELECT word FROM kept ORDER BY word").result_rows
    client.close()
    return [row[0] for row in rows]


def words_in_kafka(stack: Stack) -> list[str]:
    consumer = Consumer(
        {
            "bootstrap.servers": stack.kafka_bootstrap,
            "group.id": "test",
            "enable.auto.commit": False,
            "enable.partition.eof": False,
        }
    )
    end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 3), timeout=20)[1]
    consumer.assign([TopicPartition(TOPIC, 3, 0)])
    words = []
    for _ in range(end):
        record = consumer.poll(20)
        assert record is not None, "records below the high watermark can be read"
        words.append(Tick.from_value(record.value() or b"").reason)
    consumer.close()
    return sorted(words)


def everything_running() -> set[ProcessKey]:
    """Return every process of this machine."""
    return {key_of(pid) for pid in psutil.pids()}
