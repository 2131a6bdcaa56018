"""What the usage topic holds: where each partition ends, and when a record was appended."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipelines.outage import TransientError
from pipelines.position import Log

_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class KafkaEnds:
    """A `LogEnds` over the broker."""

    bootstrap: str

    def ends(self, log: Log) -> dict[int, tuple[int, int]]:
        """Return the bounds of each partition; see `LogEnds`.

        Raises:
            TransientError: Kafka does not answer.
        """
        with self._consumer() as consumer:
            return {number: _bounds(consumer, log, number) for number in range(log.partitions)}

    def append_times_ms(self, log: Log, offsets: Mapping[int, int]) -> dict[int, int]:
        """Return the append time of one record per partition; see `LogEnds`.

        Raises:
            TransientError: Kafka does not give the records in time.
        """
        found: dict[int, int] = {}
        deadline = time.monotonic() + _ANSWER_SECONDS
        with self._consumer() as consumer:
            consumer.assign([TopicPartition(log.topic, p, o) for p, o in offsets.items()])
            while len(found) < len(offsets):
                left = deadline - time.monotonic()
                message = consumer.poll(left) if left > 0 else None
                if message is None:
                    raise TransientError("Kafka does not give the first records not yet counted")
                if (error := message.error()) is not None:
                    raise TransientError(f"Kafka does not give a record: {error.str()}")
                number = message.partition()
                assert number is not None  # noqa: S101 - a consumed message has its place
                found.setdefault(number, message.timestamp()[1])
                consumer.incremental_unassign([TopicPartition(log.topic, number)])
        return found

    @contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "tollbook-unused",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "queued.min.messages": 1,
                "fetch.message.max.bytes": 64 * 1024,
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            yield consumer
        except KafkaException as error:
            raise TransientError(f"Kafka does not answer: {error}") from error
        finally:
            consumer.close()


def _bounds(consumer: Consumer, log: Log, number: int) -> tuple[int, int]:
    at = TopicPartition(log.topic, number)
    # The client documents None for an answer that comes too late.
    bounds: tuple[int, int] | None = consumer.get_watermark_offsets(at, timeout=_ANSWER_SECONDS)
    if bounds is None:
        raise TransientError(f"Kafka does not say where partition {log.log}/{number} ends")
    return bounds
