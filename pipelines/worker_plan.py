"""Which partitions a worker reads: its share of every open log, without those under an alarm."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipelines.log_check import FoundTopic, check_log
from pipelines.position import Log, LogPartition


@dataclass(frozen=True, slots=True)
class Share:
    """Worker `worker` of `workers` counts the partitions p mod `workers` = `worker`."""

    worker: int
    workers: int

    def of(self, logs: Sequence[Log]) -> list[LogPartition]:
        """Return the partitions of some logs that fall to this worker."""
        return [
            LogPartition(log.log, partition)
            for log in logs
            for partition in range(self.worker, log.partitions, self.workers)
        ]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker reads until it plans anew."""

    logs: tuple[Log, ...]
    places: tuple[LogPartition, ...]
    alarms: tuple[str, ...]

    def holds(self, later: "Plan") -> bool:
        """Tell whether a plan made later asks for nothing else."""
        return (self.logs, self.places) == (later.logs, later.places) and (
            len(self.alarms) == len(later.alarms)
        )

    def covers(self, earlier: "Plan") -> bool:
        """Tell whether all that was read before is still sound, or its log has been closed."""
        numbers = {log.log for log in self.logs}
        return all(at in self.places or at.log not in numbers for at in earlier.places)


def make_plan(
    share: Share,
    logs: Sequence[Log],
    topics: Mapping[int, FoundTopic | None],
    starts: Mapping[LogPartition, int],
    counted: Mapping[LogPartition, int],
    suspended: Mapping[LogPartition, str],
) -> Plan:
    """Return what to read, given what Kafka has and where reading goes on.

    `suspended` are partitions that this worker stopped for good, with the reason.
    """
    mine = set(share.of(logs))
    places: list[LogPartition] = []
    alarms = [f"partition {at}: {reason}" for at, reason in sorted(suspended.items())]
    for log in logs:
        own = {at for at in mine if at.log == log.log}
        checked = check_log(log, topics[log.log], _of(log, own, starts), _of(log, own, counted))
        alarms += checked.alarms
        places += [at for at in checked.sound if at in own and at not in suspended]
    return Plan(tuple(logs), tuple(places), tuple(alarms))


def _of(
    log: Log, own: Collection[LogPartition], offsets: Mapping[LogPartition, int]
) -> dict[int, int]:
    return {at.partition: offsets.get(at, 0) for at in own if at.log == log.log}
