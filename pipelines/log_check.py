"""Whether a log is still what was stored of it: which of its partitions may be read on.

A topic that was made anew, or that no longer holds what is to be read next, is an alarm and no
reason to start elsewhere. An alarm stops the partitions it names and no others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipelines.position import Log, LogPartition

_MEND = (
    "restore Kafka's data, or end the log where counting stopped: `tollbook log close {} --lost`"
)


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as Kafka has it now, and the offsets `[low, high)` of partitions asked about."""

    topic_id: str
    partitions: int
    bounds: Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Checked:
    """The partitions of a log that may be read on, and what is wrong with the others."""

    sound: tuple[LogPartition, ...]
    alarms: tuple[str, ...]


def check_log(
    log: Log, found: FoundTopic | None, starts: Mapping[int, int], counted: Mapping[int, int]
) -> Checked:
    """Compare a log with its topic.

    `starts` gives the offset to read on from, for the partitions in question; `counted` how far
    each is stored.
    """
    if found is None:
        return Checked((), (f"topic {log.topic} of log {log.log} is gone; {_mend(log)}",))
    if found.topic_id != log.topic_id:
        return Checked((), (_made_anew(log, found),))
    alarms = [*_raised(log, found)]
    sound = []
    for number, start in sorted(starts.items()):
        at = LogPartition(log.log, number)
        low, high = found.bounds.get(number, (0, 0))
        stored = counted.get(number, 0)
        if stored > high:
            wrong = f"counted up to {stored}, but the topic ends at {high}"
        elif start < low:
            wrong = f"counting goes on from {start}, but the topic begins at {low}"
        else:
            sound.append(at)
            continue
        alarms.append(f"partition {at}: {wrong}: records are gone; {_mend(log)}")
    return Checked(tuple(sound), tuple(alarms))


def _made_anew(log: Log, found: FoundTopic) -> str:
    return (
        f"topic {log.topic} was made anew: its id is {found.topic_id}, on record as log {log.log}"
        f" is {log.topic_id}; restore Kafka's data, or count what the new topic holds as a log of"
        f" its own: `tollbook log open --topic {log.topic}`"
    )


def _raised(log: Log, found: FoundTopic) -> Iterator[str]:
    if found.partitions != log.partitions:
        yield (
            f"topic {log.topic} has {found.partitions} partitions, on record as log {log.log} are"
            f" {log.partitions}: nobody reads the others; count them too:"
            f" `tollbook log open --topic {log.topic}`"
        )


def _mend(log: Log) -> str:
    return _MEND.format(log.log)
