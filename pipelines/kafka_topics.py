"""What Kafka has of topics: their ids, and which offsets each partition holds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from pipelines.log_check import FoundTopic
from pipelines.outage import TransientError
from pipelines.position import Log, LogPartition

_ANSWER_SECONDS = 10.0
_GONE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID}


@dataclass(slots=True)
class KafkaTopics:
    """Asks Kafka about the topics of logs; keeps its connection."""

    bootstrap: str
    _admin: AdminClient = field(init=False)

    def __post_init__(self) -> None:
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap})

    def find(
        self, logs: Sequence[Log], places: Collection[LogPartition]
    ) -> dict[int, FoundTopic | None]:
        """Return the topic of each log, by the log's number; None for one that is gone.

        Of the partitions, only the `places` are asked about.

        Raises:
            TransientError: Kafka does not answer.
        """
        if not logs:
            return {}
        names = TopicCollection([log.topic for log in logs])
        asked = self._admin.describe_topics(names, request_timeout=_ANSWER_SECONDS)
        found: dict[int, FoundTopic | None] = {}
        for log in logs:
            try:
                topic = asked[log.topic].result()
                numbers = {at.partition for at in places if at.log == log.log}
                known = sorted(numbers & {each.id for each in topic.partitions})
                bounds = self._bounds(log.topic, known)
            except KafkaException as error:
                if error.args[0].code() not in _GONE:
                    raise TransientError(f"Kafka does not answer: {error}") from error
                found[log.log] = None
            else:
                found[log.log] = FoundTopic(str(topic.topic_id), len(topic.partitions), bounds)
        return found

    def _bounds(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        earliest: Any = OffsetSpec.earliest  # the driver leaves it without types
        latest: Any = OffsetSpec.latest
        lows = self._offsets(topic, partitions, earliest())
        highs = self._offsets(topic, partitions, latest())
        return {number: (lows[number], highs[number]) for number in partitions}

    def _offsets(self, topic: str, partitions: Sequence[int], spec: Any) -> dict[int, int]:
        if not partitions:
            return {}
        asked = {TopicPartition(topic, number): spec for number in partitions}
        answers = self._admin.list_offsets(asked, request_timeout=_ANSWER_SECONDS)
        return {at.partition: future.result().offset for at, future in answers.items()}
