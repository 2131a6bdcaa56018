"""Opens and closes logs of usage: topics in Kafka, and their records in Postgres.

Each step can be repeated: what a command that was killed has left is found and gone on with.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from infra.embedded.errors import StackError
from infra.provision.kafka_topic import (
    Topic,
    TopicError,
    connect,
    create_topic,
    delete_topic,
    find_topic,
    refuse_writes,
    verify_settings,
)
from ingest.topic import TOPIC
from pipelines.clickhouse_progress import ClickHouseProgress
from pipelines.kafka_ticks import KafkaTicks
from pipelines.kafka_topics import KafkaTopics
from pipelines.log_check import check_log
from pipelines.position import Log, LogPartition
from pipelines.postgres_logs import LogRecord, PostgresLogs
from tollbook.billing_wiring import open_database
from tollbook.stack_file import Stack
from tollbook.usage_wiring import open_clickhouse

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.1
_SETTLE_SECONDS = 0.5


@dataclass(slots=True)
class UsageLogs:
    """The logs of one stack."""

    logs: PostgresLogs
    admin: "AdminClient"
    topics: KafkaTopics
    ticks: KafkaTicks
    progress: ClickHouseProgress

    @classmethod
    def connect(cls, stack: Stack) -> "UsageLogs":
        """Return them, with connections of their own."""
        return cls(
            PostgresLogs(open_database(stack)),
            connect(stack.kafka_bootstrap),
            KafkaTopics(stack.kafka_bootstrap),
            KafkaTicks(stack.kafka_bootstrap),
            ClickHouseProgress(open_clickhouse(stack.clickhouse_url)),
        )

    def listed(self) -> list[dict[str, Any]]:
        """Return every log with what became of it, JSON-ready."""
        known = self.logs.all_logs()
        newest = max((each.log.log for each in known if each.closed_at is None), default=-1)
        return [_content(each, newest) for each in known]

    def open_new(self, partitions: int) -> Log:
        """Make a topic and record it as the newest log; producers follow within seconds."""
        known = self.logs.all_logs()
        name = f"{TOPIC}.{len(known)}"
        try:
            topic = find_topic(self.admin, name)
            if topic is None:
                topic = create_topic(self.admin, name, partitions, self._replicas(known))
            verify_settings(self.admin, name)
        except (TopicError, KafkaException) as error:
            raise _broken(error) from error
        if topic.partitions != partitions:
            raise StackError(
                f"topic {name} is there already, with {topic.partitions} partitions",
                f"Take it with `tollbook log open --topic {name}`, or delete it.",
            )
        return self.logs.open_log(name, topic.topic_id, topic.partitions)

    def open_topic(self, name: str) -> tuple[Log, Log | None]:
        """Record what Kafka has under a name as a log, or more partitions of one that is.

        Where the name stood for another incarnation, that log ends where counting stopped: its
        records cannot be read any more. It is returned, second.
        """
        try:
            topic = find_topic(self.admin, name)
            if topic is None:
                raise StackError(f"Kafka has no topic {name}", "See `tollbook log list`.")
            verify_settings(self.admin, name)
        except (TopicError, KafkaException) as error:
            raise _broken(error) from error
        self._refuse_known(name, topic)
        lost = None
        for log in self.logs.open_logs():
            if log.topic == name and log.topic_id != topic.topic_id:
                lost = log
                self.logs.close_log(log, self._counted(log))
        return self.logs.open_log(name, topic.topic_id, topic.partitions), lost

    def close(self, number: int, *, lost: bool, delete: bool) -> Mapping[LogPartition, int]:
        """Close a log once all it holds is counted, or counting cannot go on; return its ends."""
        opened = self.logs.open_logs()
        log = next((each for each in opened if each.log == number), None)
        if log is None:
            raise StackError(f"there is no open log {number}", "See `tollbook log list`.")
        if log == opened[-1]:
            raise StackError(
                f"events go into log {number}",
                "Open another with `tollbook log open --partitions N` first.",
            )
        try:
            ends = self._final_ends(log, lost=lost)
            self.logs.close_log(log, ends)
            if delete and find_topic(self.admin, log.topic) is not None:
                delete_topic(self.admin, log.topic)
        except KafkaException as error:
            raise _broken(error) from error
        return ends

    def _final_ends(self, log: Log, *, lost: bool) -> dict[LogPartition, int]:
        counted = self._counted(log)
        here = {at.partition: end for at, end in counted.items()}
        found = self.topics.find([log], list(counted))[log.log]
        checked = check_log(log, found, here, here)
        broken = set(counted) - set(checked.sound)
        if broken and not lost:
            raise StackError(
                f"log {log.log} cannot be read to its end: {'; '.join(checked.alarms)}",
                "With --lost it ends where counting stopped.",
            )
        if lost and not broken:
            raise StackError(f"log {log.log} can be read to its end", "Leave --lost away.")
        ends = {at: counted[at] for at in broken}
        if checked.sound:
            refuse_writes(self.admin, log.topic)
            ends |= self._ends_of(log, checked.sound)
            self._await(lambda: self._behind(log, ends), "all is counted")
        return ends

    def _ends_of(self, log: Log, places: tuple[LogPartition, ...]) -> dict[LogPartition, int]:
        """Return where partitions end, once each has refused a record."""
        for at in places:
            self._await(
                lambda at=at: [] if self.ticks.refuses(log, at.partition) else [at],
                "the broker refuses records",
            )
        # A record that the broker had taken up before may still be on its way into the log.
        time.sleep(_SETTLE_SECONDS)
        found = self.topics.find([log], places)[log.log]
        assert found is not None  # noqa: S101 - it was there, and nobody deletes it but us
        return {at: found.bounds[at.partition][1] for at in places}

    def _behind(self, log: Log, ends: Mapping[LogPartition, int]) -> list[LogPartition]:
        counted = self._counted(log)
        return [at for at, end in ends.items() if counted[at] < end]

    def _counted(self, log: Log) -> dict[LogPartition, int]:
        stored = self.progress.next_offsets()
        places = [LogPartition(log.log, number) for number in range(log.partitions)]
        return {at: stored.get(at, 0) for at in places}

    def _await(self, waited_for: Any, what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while left := waited_for():
            if time.monotonic() > deadline:
                places = ", ".join(map(str, left))
                raise StackError(
                    f"waited {_PATIENCE_SECONDS:.0f} s until {what} in {places}",
                    "See `tollbook status`, then run the command again: it goes on.",
                )
            time.sleep(_PAUSE_SECONDS)

    def _replicas(self, known: list[LogRecord]) -> int:
        """Return as many replicas as the newest topic has that Kafka still knows."""
        for record in reversed(known):
            topic = find_topic(self.admin, record.log.topic)
            if topic is not None:
                return topic.replicas
        return 1

    def _refuse_known(self, name: str, topic: Topic) -> None:
        for record in self.logs.all_logs():
            log = record.log
            if log.topic_id != topic.topic_id:
                continue
            if record.closed_at is not None:
                raise StackError(f"topic {name} is log {log.log}, which is closed", _ONCE)
            if log.partitions == topic.partitions:
                raise StackError(f"topic {name} is log {log.log} already", _ONCE)


_ONCE = "Open a new one with `tollbook log open --partitions N`."


def _content(record: LogRecord, newest: int) -> dict[str, Any]:
    log, closed = record.log, record.closed_at
    state = "closed" if closed else "takes events" if log.log == newest else "read on"
    return {
        "log": log.log,
        "topic": log.topic,
        "topic_id": log.topic_id,
        "partitions": log.partitions,
        "state": state,
        "opened_at": record.opened_at.isoformat(),
        "closed_at": closed.isoformat() if closed else None,
    }


def _broken(error: Exception) -> StackError:
    text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
    return StackError(f"Kafka: {text}", "See `tollbook status`.")
