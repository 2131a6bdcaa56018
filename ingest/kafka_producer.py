"""Puts records into the usage topic, and says of each group of them whether the broker has it.

The producer is idempotent and waits for all replicas. Callbacks run on the event loop, which
polls while anything is under way: no thread stands between a delivery report and its request.
While little comes in, the loop waits in the driver, for some milliseconds at most: a report is
found at once, and what clients send meanwhile is read together, instead of one by one.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from ingest.topic import (
    ARROW_CONTENT_TYPE,
    CONTENT_TYPE_HEADER,
    RECORD_BYTES_MAX,
    TOPIC,
    TOPIC_SETTINGS,
)
from ingest.usage_log import LogAlarmError, UsageLog

log = logging.getLogger(__name__)

_HEADERS: list[tuple[str, str | bytes | None]] = [(CONTENT_TYPE_HEADER, ARROW_CONTENT_TYPE)]
_POLL_SECONDS = 0.002
_WAIT_SECONDS = 0.005
OnDelivered = Callable[[str | None], None]
"""Called once per group: with None when the broker has every record, else with the reason."""


class TopicError(RuntimeError):
    """The usage topic would lose events as it is set up."""


class BrokerAwayError(RuntimeError):
    """Kafka does not answer."""


def verify_topic(bootstrap: str, usage_log: UsageLog, timeout_seconds: float = 10.0) -> None:
    """Check that the topic is the one on record.

    More partitions than on record are none of a producer's concern: it goes on with those it has.

    Raises:
        BrokerAwayError: Kafka does not answer.
        LogAlarmError: the topic is missing, or was made anew.
    """
    name = usage_log.topic
    try:
        asked = _admin(bootstrap).describe_topics(
            TopicCollection([name]), request_timeout=timeout_seconds
        )
        found = asked[name].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise LogAlarmError(f"topic {name} is gone") from error
        raise BrokerAwayError(f"Kafka at {bootstrap} does not answer: {error}") from error
    if str(found.topic_id) != usage_log.topic_id:
        raise LogAlarmError(
            f"topic {name} was made anew: its id is {found.topic_id},"
            f" on record is {usage_log.topic_id}"
        )


def verify_settings(bootstrap: str, topic: str, timeout_seconds: float = 10.0) -> None:
    """Check that a topic is set up to lose nothing.

    Raises:
        BrokerAwayError: Kafka does not answer.
        TopicError: set up to lose events; names the setting and its remedy.
    """
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        asked = _admin(bootstrap).describe_configs([resource], request_timeout=timeout_seconds)
        found = {name: entry.value for name, entry in asked[resource].result().items()}
    except KafkaException as error:
        raise BrokerAwayError(f"Kafka at {bootstrap} does not answer: {error}") from error
    wrong = [
        f"{name} is {found.get(name)}, must be {value}"
        for name, value in TOPIC_SETTINGS.items()
        if found.get(name) != value
    ]
    if wrong:
        raise TopicError(
            f"topic {topic} would lose events: {'; '.join(wrong)}; set it with kafka-configs.sh"
        )


@cache
def _admin(bootstrap: str) -> AdminClient:
    settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0, "logger": log}
    return AdminClient(settings)


class _Group:
    """Records whose fate is told together."""

    __slots__ = ("error", "on_delivered", "outstanding", "sealed")

    def __init__(self, on_delivered: OnDelivered) -> None:
        self.on_delivered = on_delivered
        self.outstanding = 0
        self.sealed = False
        self.error: str | None = None

    def settle(self) -> None:
        if self.sealed and self.outstanding == 0:
            self.on_delivered(self.error)


class RecordProducer:
    """An idempotent producer that is replaced when it breaks for good."""

    def __init__(
        self,
        bootstrap: str,
        loop: asyncio.AbstractEventLoop,
        delivery_seconds_max: int,
        topic: str = TOPIC,
    ) -> None:
        self._loop = loop
        self._settings = {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 0,
            "message.max.bytes": RECORD_BYTES_MAX,
            "message.timeout.ms": delivery_seconds_max * 1000,
            "request.timeout.ms": min(10_000, delivery_seconds_max * 1000),
            "socket.nagle.disable": True,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "queue.buffering.max.kbytes": 512 * 1024,
            "error_cb": self._on_error,
            "logger": log,
            "log_level": 3,
        }
        self._producer = Producer(self._settings)
        self._topic = topic
        self._retired: list[Any] = []
        self._polling = False
        self._is_broken = False
        self.may_wait: Callable[[], bool] = lambda: False
        """Tells whether the loop has so little else to do that it may wait for a report."""
        self.records_waiting = 0
        self.is_down = False
        """True from a failed delivery to the next successful one."""
        self.restarts = 0

    def write_to(self, topic: str) -> None:
        """Write to a topic from now on; a client of its own learns its partitions at once."""
        self._topic = topic
        self._replace()

    def produce(self, records: list[tuple[int, Any]], on_delivered: OnDelivered) -> None:
        """Hand over records; `on_delivered` is called when the fate of all of them is known."""
        if self._is_broken:
            log.warning("kafka: the producer broke for good; a new one takes over")
            self._replace()
            self.restarts += 1
        group = _Group(on_delivered)

        def on_delivery(error: KafkaError | None, _message: Any) -> None:
            self._note_delivery(group, error)

        for partition, value in records:
            try:
                self._producer.produce(
                    self._topic,
                    value,
                    partition=partition,
                    headers=_HEADERS,
                    on_delivery=on_delivery,
                )
            except (BufferError, KafkaException) as error:
                group.error = f"not handed over: {error}"
                self._is_broken = self._is_broken or _is_fatal(error)
                break
            group.outstanding += 1
            self.records_waiting += 1
        group.sealed = True
        if group.outstanding == 0:
            group.settle()
        elif not self._polling:
            self._polling = True
            self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        may_wait = self.may_wait()
        self._producer.poll(_WAIT_SECONDS if may_wait else 0)
        for retired in self._retired:
            retired.poll(0)
        if not self.records_waiting:
            self._polling = False
            self._retired = []
        elif may_wait:
            self._loop.call_soon(self._poll)
        else:
            self._loop.call_later(_POLL_SECONDS, self._poll)

    def _note_delivery(self, group: _Group, error: KafkaError | None) -> None:
        self.records_waiting -= 1
        group.outstanding -= 1
        if error is not None:
            group.error = error.str()
            self._is_broken = self._is_broken or error.fatal()
        self.is_down = error is not None
        group.settle()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._is_broken = True
        log.warning("kafka: %s", error.str())

    def _replace(self) -> None:
        """Start a new producer; the old one reports on what it still has."""
        self._retired.append(self._producer)
        self._producer = Producer(self._settings)
        self._is_broken = False

    def close(self, seconds: float) -> int:
        """Wait for the records under way; returns how many are left without a report."""
        deadline = time.monotonic() + seconds
        left = 0
        for producer in (self._producer, *self._retired):
            left += producer.flush(max(0.0, deadline - time.monotonic()))
        return left


def _is_fatal(error: Exception) -> bool:
    reason = error.args[0] if error.args else None
    return isinstance(reason, KafkaError) and reason.fatal()
