"""Reads partitions of the usage topic, from offsets that we keep ourselves.

No consumer group, no automatic reset: an offset out of range or a topic that was made anew is an
alarm, not a reason to start elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from ingest.topic import ARROW_CONTENT_TYPE, CONTENT_TYPE_HEADER, TENANT_HEADER
from pipelines.position import Log, LogPartition
from pipelines.record import Record

_POLL_RECORDS = 200
_POLL_SECONDS = 0.1
_GONE = {
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - its only name
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}


class LogAlarmError(RuntimeError):
    """A partition is not what was stored of it; no more of it is counted until that is mended."""


@dataclass(slots=True)
class KafkaSource:
    """The records of some partitions of open logs, in order per partition."""

    bootstrap: str
    logs: Sequence[Log]
    starts: Mapping[LogPartition, int]
    consumer: Consumer = field(init=False)
    _numbers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._numbers = {log.topic: log.log for log in self.logs}
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
        topics = {log.log: log.topic for log in self.logs}
        self.consumer.assign(
            [TopicPartition(topics[at.log], at.partition, o) for at, o in self.starts.items()]
        )

    def poll(self) -> list[Record]:
        """Return the next records, or none after a short wait.

        Raises:
            LogAlarmError: an offset is out of its partition's range, or the topic is gone.
            KafkaException: the client cannot go on.
        """
        records = []
        for message in self.consumer.consume(_POLL_RECORDS, _POLL_SECONDS):
            error = message.error()
            if error is None:
                records.append(self._record(message))
            elif error.code() in _GONE:
                raise LogAlarmError(f"{message.topic()}/{message.partition()}: {error.str()}")
            elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
                raise KafkaException(error)
        return records

    def close(self) -> None:
        """Leave the topic."""
        self.consumer.close()

    def _record(self, message: Message) -> Record:
        headers = _headers(message)
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None  # noqa: S101 - a consumed message has its place
        assert partition is not None  # noqa: S101
        assert offset is not None  # noqa: S101
        value = message.value()
        return Record(
            at=LogPartition(self._numbers[topic], partition),
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
