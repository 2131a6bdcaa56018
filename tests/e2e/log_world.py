"""Logs hurt and mended, on a stack whose topics a test may delete, and what is asked of it."""

import json
from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported without saying so
    AdminClient,
    NewPartitions,
    NewTopic,
)

from ingest.topic import CLOUDEVENT_CONTENT_TYPE, CONTENT_TYPE_HEADER, TENANT_HEADER, TOPIC_SETTINGS
from tests.embedded_stack import EmbeddedStack, run_tollbook, wait_until
from tollbook.stack_file import Stack


def tollbook(stack: EmbeddedStack, *words: str) -> Any:
    """Run a command that prints JSON; return what it printed."""
    done = run_tollbook(*words, "--json", "--data-dir", str(stack.data_dir), seconds=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def refused(stack: EmbeddedStack, *words: str) -> str:
    """Run a command that fails; return what it said."""
    done = run_tollbook(*words, "--data-dir", str(stack.data_dir), seconds=300)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def alarms(stack: EmbeddedStack) -> list[str]:
    """Return what parts ask a person to mend."""
    done = run_tollbook("status", "--json", "--data-dir", str(stack.data_dir))
    found: list[str] = []
    for part in json.loads(done.stdout)["parts"].values():
        found += part["alarms"]
    assert done.returncode == 1 or not found
    return found


def wait_for_alarm(stack: EmbeddedStack, *words: str) -> None:
    """Wait until an alarm has all these words."""
    wait_until(lambda: any(all(w in a for w in words) for a in alarms(stack)), 90)


def wait_for_silence(stack: EmbeddedStack) -> None:
    """Wait until there is no alarm."""
    wait_until(lambda: not alarms(stack), 90)


def newest(stack: EmbeddedStack) -> dict[str, Any]:
    """Return the log that events go into."""
    (found,) = (log for log in tollbook(stack, "log", "list") if log["state"] == "takes events")
    return dict(found)


def admin_of(stack: Stack) -> AdminClient:
    """Return a client, to be kept until its answers are there: they die with it."""
    return AdminClient({"bootstrap.servers": stack.kafka_bootstrap})


def make_anew(stack: Stack, topic: str, partitions: int) -> None:
    """Delete a topic and make another of its name, as somebody might who means well."""
    admin = admin_of(stack)
    admin.delete_topics([topic])[topic].result(30)

    def is_made() -> bool:
        new = NewTopic(topic, partitions, 1, config=TOPIC_SETTINGS)
        return admin.create_topics([new])[topic].exception(30) is None

    wait_until(is_made, 30)


def raise_partitions(stack: Stack, topic: str, partitions: int) -> None:
    admin = admin_of(stack)
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)


def delete_records(stack: Stack, topic: str, ends: dict[int, int]) -> None:
    """Have the broker forget what lies below these offsets."""
    below = [TopicPartition(topic, number, end) for number, end in ends.items()]
    admin = admin_of(stack)
    for future in admin.delete_records(below).values():
        future.result(30)


def put(
    stack: Stack, topic: str, partition: int, event: dict[str, Any]
) -> Callable[[], tuple[str | None, int]]:
    """Put an event into a partition without ingest; returns what tells its error and offset."""
    told: list[tuple[str | None, int]] = []
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "delivery.timeout.ms": 20_000})
    producer.produce(
        topic,
        json.dumps(event).encode(),
        partition=partition,
        headers={
            CONTENT_TYPE_HEADER: CLOUDEVENT_CONTENT_TYPE,
            TENANT_HEADER: stack.tenant.encode(),
        },
        on_delivery=lambda error, message: told.append(
            (None if error is None else error.str(), message.offset() or 0)
        ),
    )
    producer.flush(30)
    return lambda: told[0]
