"""How far each partition is counted, and since when that is all there is.

Everything accepted before `complete_before_ms` is counted: it is the append time of the first
record that is not, or the moment of asking where every record is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pipelines.outage import TransientError
from pipelines.position import Log, LogPartition

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a partition is in the tables; the time is of events, 0 where there was none."""

    next_offset: int
    time_max_us: int


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """One partition: what is counted, what the log holds, and the greatest event time counted."""

    at: LogPartition
    next_offset: int
    end_offset: int
    time_max_us: int | None
    complete_before_ms: int

    @property
    def lag(self) -> int:
        """Records of the log that are not counted yet, ticks included."""
        return max(0, self.end_offset - self.next_offset)


class LogEnds(Protocol):
    """What the log itself holds."""

    def ends(self, log: Log) -> Mapping[int, tuple[int, int]]:
        """Return per partition the first offset that the log holds and the one after its last."""

    def append_times_ms(self, log: Log, offsets: Mapping[int, int]) -> Mapping[int, int]:
        """Return per partition the append time of the record at an offset."""


@dataclass(frozen=True, slots=True)
class ProgressReader:
    """Compares what is counted with what the log holds."""

    logs: Callable[[], Sequence[Log]]
    ends: LogEnds
    marks: Callable[[], Mapping[LogPartition, Mark]]
    now_ms: Callable[[], int]

    def read(self) -> list[PartitionProgress]:
        """Return every partition of every open log.

        The ends are read before the marks: what was appended before this call, and is in no table
        after it, lies in a partition that lags.

        Raises:
            TransientError: a server does not answer, or the log ends before what was counted.
        """
        now_ms = self.now_ms()
        logs = self.logs()
        before = self.marks()
        ends = {log.log: self.ends.ends(log) for log in logs}
        for log, of_log in ends.items():
            _refuse_shorter(log, of_log, before)
        marks = self.marks()
        return [
            each for log in logs for each in self._of_log(log, ends[log.log], marks, now_ms=now_ms)
        ]

    def _of_log(
        self,
        log: Log,
        ends: Mapping[int, tuple[int, int]],
        marks: Mapping[LogPartition, Mark],
        *,
        now_ms: int,
    ) -> list[PartitionProgress]:
        known = {
            number: marks.get(LogPartition(log.log, number), Mark(low, 0))
            for number, (low, _) in ends.items()
        }
        uncounted = {
            number: mark.next_offset
            for number, mark in known.items()
            if mark.next_offset < ends[number][1]
        }
        appended = self.ends.append_times_ms(log, uncounted) if uncounted else {}
        return [
            PartitionProgress(
                at=LogPartition(log.log, number),
                next_offset=mark.next_offset,
                end_offset=ends[number][1],
                time_max_us=mark.time_max_us or None,
                complete_before_ms=appended.get(number, now_ms),
            )
            for number, mark in sorted(known.items())
        ]


def _refuse_shorter(
    log: int, ends: Mapping[int, tuple[int, int]], marks: Mapping[LogPartition, Mark]
) -> None:
    """Refuse a log that ends before what was counted of it: nothing can be said of it."""
    for number, (_, end) in ends.items():
        at = LogPartition(log, number)
        if at in marks and marks[at].next_offset > end:
            raise TransientError(
                f"partition {at}: counted up to {marks[at].next_offset}, but the topic ends at"
                f" {end}: it was made anew; restore it, or open a new log"
            )


def to_content(progress: PartitionProgress) -> dict[str, Any]:
    """Return one partition's progress as JSON content."""
    time_max, complete = progress.time_max_us, progress.complete_before_ms
    return {
        "log": progress.at.log,
        "partition": progress.at.partition,
        "next_offset": progress.next_offset,
        "end_offset": progress.end_offset,
        "lag": progress.lag,
        "watermark": None
        if time_max is None
        else instant_text(_EPOCH + timedelta(microseconds=time_max)),
        "complete_before": instant_text(_EPOCH + timedelta(milliseconds=complete)),
    }


def total_content(
    partitions: Sequence[PartitionProgress],
    quarantined: Mapping[str, Sequence[LogPartition]] | None = None,
) -> dict[str, Any]:
    """Return the progress of all partitions, and of all together, as JSON content.

    With the sources of the asking tenant that are quarantined, and in which partitions.
    """
    complete = min((each.complete_before_ms for each in partitions), default=None)
    return {
        "lag": sum(each.lag for each in partitions),
        "complete_before": None
        if complete is None
        else instant_text(_EPOCH + timedelta(milliseconds=complete)),
        "partitions": [to_content(each) for each in partitions],
        "quarantined": [
            {"source": source, "partitions": [str(at) for at in places]}
            for source, places in (quarantined or {}).items()
        ],
    }


def instant_text(moment: datetime) -> str:
    """Return a moment in UTC as RFC 3339."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
