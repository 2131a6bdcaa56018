"""Topics of usage: created as the contract says, verified at every start, closed for ever."""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from ingest.topic import TOPIC_SETTINGS

_SECONDS = 20


class TopicError(Exception):
    """The topic is not what the log needs it to be."""


@dataclass(frozen=True, slots=True)
class Topic:
    """The topic as Kafka has it."""

    topic_id: str
    partitions: int
    replicas: int


def connect(bootstrap: str) -> AdminClient:
    """Return a client, to be kept until its answers are there: they die with it."""
    return AdminClient({"bootstrap.servers": bootstrap, "socket.timeout.ms": _SECONDS * 1000})


def find_topic(admin: AdminClient, name: str) -> Topic | None:
    """Return a topic, or None where there is none of that name."""
    future = admin.describe_topics(TopicCollection([name]), request_timeout=_SECONDS)[name]
    try:
        found = future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    partitions = found.partitions
    return Topic(str(found.topic_id), len(partitions), len(partitions[0].replicas))


def create_topic(admin: AdminClient, name: str, partitions: int, replicas: int = 1) -> Topic:
    """Create a topic of usage, and return it once Kafka shows it to clients.

    Raises:
        TopicError: Kafka does not make it, or does not show it.
    """
    new = NewTopic(
        name, num_partitions=partitions, replication_factor=replicas, config=TOPIC_SETTINGS
    )
    try:
        _result(admin.create_topics([new], operation_timeout=_SECONDS)[name])
    except KafkaException as error:
        raise TopicError(f"Kafka makes no topic {name}: {error.args[0].str()}") from error
    until = time.monotonic() + _SECONDS
    while (made := find_topic(admin, name)) is None:
        if time.monotonic() > until:
            raise TopicError(f"topic {name} was created but is not shown after {_SECONDS} s")
        time.sleep(0.1)
    return made


def verify_settings(admin: AdminClient, name: str) -> None:
    """Compare a topic's settings with the contract.

    Raises:
        TopicError: a setting differs; with it, events could be lost.
    """
    resource = ConfigResource(ResourceType.TOPIC, name)
    settings = _result(admin.describe_configs([resource])[resource])
    found = {key: settings[key].value for key in TOPIC_SETTINGS}
    wrong = [key for key, value in TOPIC_SETTINGS.items() if found[key] != value]
    if wrong:
        lines = [f"{key} is {found[key]}, not {TOPIC_SETTINGS[key]}" for key in wrong]
        raise TopicError(f"topic {name} would lose events: {'; '.join(lines)}")


def refuse_writes(admin: AdminClient, name: str) -> None:
    """Set a topic up to take no records any more: one byte is less than any has."""
    entry = ConfigEntry("max.message.bytes", "1", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    _result(admin.incremental_alter_configs([resource])[resource])


def delete_topic(admin: AdminClient, name: str) -> None:
    """Delete a topic with all it holds."""
    _result(admin.delete_topics([name], operation_timeout=_SECONDS)[name])


def _result(future: "Future[Any]") -> Any:
    return future.result(timeout=_SECONDS)
