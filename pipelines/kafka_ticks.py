"""Ticks: records without events, sent where something waits for a partition to move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from ingest.topic import CONTENT_TYPE_HEADER, TICK_CONTENT_TYPE, Tick
from pipelines.position import Log

_ANSWER_SECONDS = 15.0

Message = tuple[int, bytes, Mapping[str, bytes]]
"""(partition, value, headers)"""


class RecordRefusedError(TimeoutError):
    """The topic is set up to take no records: its log is being closed."""


@dataclass(slots=True)
class KafkaTicks:
    """Sends ticks, and finds offsets by append time."""

    bootstrap: str

    def send(self, log: Log, partitions: Sequence[int], tick: Tick) -> dict[int, int]:
        """Send a tick into each partition; return its offset in each.

        Raises:
            TimeoutError: the broker has not acknowledged every tick in time.
        """
        headers = {CONTENT_TYPE_HEADER: TICK_CONTENT_TYPE}
        messages = [(partition, tick.to_value(), headers) for partition in partitions]
        offsets = acknowledged(self.bootstrap, log.topic, messages, "ticks")
        return dict(zip(partitions, offsets, strict=True))

    def refuses(self, log: Log, partition: int) -> bool:
        """Try a partition with a tick; tell whether the broker refuses it for its size.

        Raises:
            TimeoutError: the broker did not answer in time.
        """
        try:
            self.send(log, [partition], Tick("does it take records", start=False))
        except RecordRefusedError:
            return True
        return False

    def offsets_at(self, log: Log, partitions: Sequence[int], at_ms: int) -> dict[int, int]:
        """Return per partition the first offset appended at or after `at_ms`; none where none is.

        Raises:
            KafkaException: the broker does not answer.
        """
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "tollbook-unused"})
        try:
            asked = [TopicPartition(log.topic, p, at_ms) for p in partitions]
            found = consumer.offsets_for_times(asked, timeout=_ANSWER_SECONDS)
        finally:
            consumer.close()
        for answer in found:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return {answer.partition: answer.offset for answer in found if answer.offset >= 0}


def acknowledged(bootstrap: str, topic: str, messages: Sequence[Message], what: str) -> list[int]:
    """Send messages; return their offsets, in order.

    Raises:
        RecordRefusedError: the topic is being closed.
        TimeoutError: the broker has not acknowledged every one in time.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "delivery.timeout.ms": int(_ANSWER_SECONDS * 1000),
            "log_level": 0,  # what fails is raised; its own lines would stand amid a command's
        }
    )
    offsets: dict[int, int] = {}
    errors: list[str] = []
    refusals: list[str] = []
    for number, (partition, value, headers) in enumerate(messages):

        def delivered(error: object, message: object, number: int = number) -> None:
            if error is not None:
                is_size = error.code() == KafkaError.MSG_SIZE_TOO_LARGE  # type: ignore[attr-defined]
                (refusals if is_size else errors).append(str(error))
            else:
                offsets[number] = message.offset()  # type: ignore[attr-defined]

        producer.produce(
            topic, value, partition=partition, headers=dict(headers), on_delivery=delivered
        )
    producer.flush(_ANSWER_SECONDS)
    if refusals:
        raise RecordRefusedError(f"topic {topic} takes no {what}: {refusals[0]}")
    if errors or len(offsets) < len(messages):
        raise TimeoutError(f"Kafka took no {what}: {'; '.join(errors) or 'no answer in time'}")
    return [offsets[number] for number in range(len(messages))]
