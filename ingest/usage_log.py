"""Which incarnation of the usage topic events go into."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UsageLog:
    """The newest log on record: its topic, Kafka's id of it, and over how many partitions."""

    log: int
    topic: str
    topic_id: str
    partitions: int


class LogAlarmError(RuntimeError):
    """The topic is not the one on record: what is written to it, nobody counts."""
