"""The usage topic: created as the contract says, verified at every start."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported without saying so
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from ingest.topic import TOPIC, TOPIC_SETTINGS

_SECONDS = 20


class TopicError(Exception):
    """The topic is not what the log needs it to be."""


@dataclass(frozen=True, slots=True)
class Topic:
    """The topic as Kafka has it."""

    topic_id: str
    partitions: int


def connect(bootstrap: str) -> AdminClient:
    """Return a client, to be kept until its answers are there: they die with it."""
    return AdminClient({"bootstrap.servers": bootstrap, "socket.timeout.ms": _SECONDS * 1000})


def find_topic(admin: AdminClient) -> Topic | None:
    """Return the usage topic, or None where there is none."""
    future = admin.describe_topics(TopicCollection([TOPIC]), request_timeout=_SECONDS)[TOPIC]
    try:
        found = future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    return Topic(str(found.topic_id), len(found.partitions))


def create_topic(admin: AdminClient, partitions: int) -> Topic:
    """Create the usage topic, and return it once Kafka shows it to clients."""
    new = NewTopic(TOPIC, num_partitions=partitions, replication_factor=1, config=TOPIC_SETTINGS)
    _result(admin.create_topics([new], operation_timeout=_SECONDS)[TOPIC])
    made = find_topic(admin)
    if made is None:
        raise TopicError(f"topic {TOPIC} was created but is not shown")
    return made


def verify_topic(admin: AdminClient) -> None:
    """Compare the topic's settings with the contract.

    Raises:
        TopicError: a setting differs; with it, events could be lost.
    """
    resource = ConfigResource(ResourceType.TOPIC, TOPIC)
    settings = _result(admin.describe_configs([resource])[resource])
    found = {name: settings[name].value for name in TOPIC_SETTINGS}
    wrong = [name for name, value in TOPIC_SETTINGS.items() if found[name] != value]
    if wrong:
        lines = [f"{name} is {found[name]}, not {TOPIC_SETTINGS[name]}" for name in wrong]
        raise TopicError(f"topic {TOPIC} would lose events: {'; '.join(lines)}")


def _result(future: "Future[Any]") -> Any:
    return future.result(timeout=_SECONDS)
