"""Ticks: records without events, sent where something waits for a partition to move."""

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from ingest.topic import CONTENT_TYPE_HEADER, TICK_CONTENT_TYPE, Tick

_ANSWER_SECONDS = 15.0


@dataclass(slots=True)
class KafkaTicks:
    """Sends ticks, and finds offsets by append time."""

    bootstrap: str
    topic: str

    def send(self, partitions: Sequence[int], tick: Tick) -> dict[int, int]:
        """Send a tick into each partition; return its offset in each.

        Raises:
            TimeoutError: the broker has not acknowledged every tick in time.
        """
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "delivery.timeout.ms": int(_ANSWER_SECONDS * 1000),
            }
        )
        offsets: dict[int, int] = {}
        errors: list[str] = []

        def delivered(error: object, message: object) -> None:
            if error is not None:
                errors.append(str(error))
            else:
                offsets[message.partition()] = message.offset()  # type: ignore[attr-defined]

        for partition in partitions:
            producer.produce(
                self.topic,
                tick.to_value(),
                partition=partition,
                headers={CONTENT_TYPE_HEADER: TICK_CONTENT_TYPE},
                on_delivery=delivered,
            )
        producer.flush(_ANSWER_SECONDS)
        if errors or len(offsets) < len(partitions):
            raise TimeoutError(f"Kafka took no tick: {'; '.join(errors) or 'no answer in time'}")
        return offsets

    def offsets_at(self, partitions: Sequence[int], at_ms: int) -> dict[int, int]:
        """Return per partition the first offset appended at or after `at_ms`; none where none is.

        Raises:
            KafkaException: the broker does not answer.
        """
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "tollbook-unused"})
        try:
            asked = [TopicPartition(self.topic, p, at_ms) for p in partitions]
            found = consumer.offsets_for_times(asked, timeout=_ANSWER_SECONDS)
        finally:
            consumer.close()
        for answer in found:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return {answer.partition: answer.offset for answer in found if answer.offset >= 0}
