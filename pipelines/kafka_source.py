"""Reads partitions of the usage topic, from offsets that we keep ourselves.

No consumer group, no automatic reset: an offset out of range or a topic that was made anew is an
alarm, not a reason to start elsewhere.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from ingest.topic import ARROW_CONTENT_TYPE, CONTENT_TYPE_HEADER, TENANT_HEADER
from pipelines.position import Log, LogPartition
from pipelines.record import Record

_POLL_RECORDS = 1_000
_POLL_SECONDS = 0.1


class LogAlarmError(RuntimeError):
    """The log is not what was stored of it: the worker stops until a person has looked."""


@dataclass(slots=True)
class KafkaSource:
    """The records of some partitions of one log, in order per partition."""

    bootstrap: str
    log: Log
    start_by_partition: Mapping[int, int]
    consumer: Consumer = field(init=False)

    def __post_init__(self) -> None:
        self.consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "tollbook-unused",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 65_536,
                "fetch.message.max.bytes": 4 * 1024 * 1024,
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.max.ms": 1_000,
            }
        )
        self.consumer.assign(
            [TopicPartition(self.log.topic, p, o) for p, o in self.start_by_partition.items()]
        )

    def poll(self) -> list[Record]:
        """Return the next records, or none after a short wait.

        Raises:
            LogAlarmError: a start offset is out of the partition's range.
            KafkaException: the client cannot go on.
        """
        records = []
        for message in self.consumer.consume(_POLL_RECORDS, _POLL_SECONDS):
            error = message.error()
            if error is None:
                records.append(self._record(message))
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its only name
                raise LogAlarmError(
                    f"partition {self.log.log}/{message.partition()}: {error.str()};"
                    " records that were not yet counted are gone from the topic"
                )
            elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
                raise KafkaException(error)
        return records

    def close(self) -> None:
        """Leave the topic."""
        self.consumer.close()

    def _record(self, message: Message) -> Record:
        headers = _headers(message)
        partition, offset = message.partition(), message.offset()
        assert partition is not None  # noqa: S101 - a consumed message has its place
        assert offset is not None  # noqa: S101
        value = message.value()
        return Record(
            at=LogPartition(self.log.log, partition),
            offset=offset,
            append_ms=message.timestamp()[1],
            content_type=headers.get(CONTENT_TYPE_HEADER, ARROW_CONTENT_TYPE),
            tenant=headers.get(TENANT_HEADER, b"").decode(errors="replace"),
            value=_bytes(value),
        )


def _headers(message: Message) -> dict[str, bytes]:
    headers: Any = message.headers() or []
    return {name: _bytes(value) for name, value in headers}


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def verify_log(bootstrap: str, log: Log, progress: Mapping[int, int], patience_s: float) -> None:
    """Check that the topic is the incarnation that we know and holds what we have counted.

    Raises:
        LogAlarmError: another topic id, other partitions, or an end before what was counted.
        KafkaException: the broker does not answer within `patience_s`.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + patience_s
    while True:
        try:
            found = admin.describe_topics(TopicCollection([log.topic]), request_timeout=5)
            topic = found[log.topic].result()
            break
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    if str(topic.topic_id) != log.topic_id or len(topic.partitions) != log.partitions:
        raise LogAlarmError(
            f"topic {log.topic} was made anew or changed: id {topic.topic_id} with"
            f" {len(topic.partitions)} partitions, known as log {log.log} with id {log.topic_id}"
            f" and {log.partitions}; restore the topic, or open a new log"
        )
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tollbook-unused"})
    try:
        for partition, next_offset in progress.items():
            at = TopicPartition(log.topic, partition)
            low, high = consumer.get_watermark_offsets(at, timeout=10)
            if not low <= next_offset <= high and next_offset:
                raise LogAlarmError(
                    f"partition {log.log}/{partition}: counted up to {next_offset}, but the topic"
                    f" holds [{low}, {high})"
                )
    finally:
        consumer.close()
