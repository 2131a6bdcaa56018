"""Fixes cuts: proposed, audited, then fixed, under the lock of the tenant's chain.

A proposal outlives whoever made it: the next caller audits and fixes the same vector before it
proposes another. So what an audit writes for a number is a function of one vector.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingest.topic import Tick
from pipelines.cut import CutChain, Proposal, Ticks
from pipelines.outage import TransientError
from pipelines.position import Log, LogPartition
from pipelines.usage import Cut

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAUSE_SECONDS = 0.05


@dataclass(slots=True)
class Chain:
    """Appends to the chains of cuts, and moves partitions that something waits for."""

    cuts: CutChain
    ticks: Ticks
    progress: Callable[[], Mapping[LogPartition, int]]
    audit: Callable[[Proposal], object]
    """Called with each proposal before it is fixed; see `pipelines.audit`."""
    pause: Callable[[float], None]
    patience_s: float = 120.0

    def activate_meters(self, tenant: str) -> None:
        """Return when every partition counts every meter of the tenant from its next event on.

        Raises:
            TimeoutError: some partition's worker did not start a segment in time.
        """
        lacking = self.cuts.lacking_activation(tenant)
        if not lacking:
            return
        for log in self.cuts.open_logs():
            self.ticks.send(log, range(log.partitions), Tick("activate", start=True))
        for _ in self._patience():
            lacking = self.cuts.lacking_activation(tenant)
            if not lacking:
                return
        raise TimeoutError(_lagging("new meters wait for partitions", lacking))

    def fix_cut(self, tenant: str, at: datetime) -> Cut:
        """Fix the next cut; see `UsageReader.fix_cut`.

        Raises:
            ValueError: `at` lies in the broker's future.
            TimeoutError: some partition is not counted up to the cut in time.
        """
        with self.cuts.chain_locked(tenant):
            left = self.cuts.proposed(tenant)
            if left is not None:
                self._fix(left)
            self._await_replacements(tenant)
            offsets = self.cuts.raised(tenant, self._offsets_at(tenant, at))
            previous = self.cuts.latest(tenant)
            if previous is not None:
                for place, end in self.cuts.offsets(previous).items():
                    offsets[place] = max(offsets.get(place, 0), end)
            self._await_counted(offsets)
            return self._fix(self.cuts.propose(tenant, at, offsets))

    def finish_left(self, tenant: str) -> None:
        """Fix the cut that whoever proposed it did not live to fix, if there is one."""
        if self.cuts.proposed(tenant) is not None:
            with self.cuts.chain_locked(tenant):
                left = self.cuts.proposed(tenant)
                if left is not None:
                    self._fix(left)

    def _fix(self, proposal: Proposal) -> Cut:
        self.audit(proposal)
        return self.cuts.fix(proposal)

    def _offsets_at(self, tenant: str, at: datetime) -> dict[LogPartition, int]:
        """Return the vector of a cut at a moment; a closed log's part of it is where it ends."""
        offsets = dict(self.cuts.closed_ends())
        at_asking = self.cuts.cuts_at_asking(tenant)
        for log in self.cuts.open_logs():
            found = self._offsets_of(tenant, None if at_asking else at, log)
            offsets |= {LogPartition(log.log, p): offset for p, offset in found.items()}
        return offsets

    def _offsets_of(self, tenant: str, at: datetime | None, log: Log) -> dict[int, int]:
        partitions = range(log.partitions)
        if at is None:
            return self.ticks.send(log, partitions, Tick(f"cut of {tenant}", start=True))
        at_ms = (at - _EPOCH) // timedelta(milliseconds=1)
        found = self.ticks.offsets_at(log, partitions, at_ms)
        idle = [p for p in partitions if p not in found]
        if idle:
            self.ticks.send(log, idle, Tick(f"cut of {tenant}", start=False))
            found |= self.ticks.offsets_at(log, idle, at_ms)
        if len(found) < log.partitions:
            raise ValueError(f"a cut at {at.isoformat()} lies in the broker's future")
        return found

    def _await_counted(self, offsets: Mapping[LogPartition, int]) -> None:
        behind = list(offsets)
        for _ in self._patience():
            try:
                progress = self.progress()
            except TransientError:
                continue
            behind = [at for at, end in offsets.items() if progress.get(at, 0) < end]
            if not behind:
                return
        raise TimeoutError(_lagging("the cut waits for partitions", behind))

    def _await_replacements(self, tenant: str) -> None:
        names: list[str] = []
        for _ in self._patience():
            names = self.cuts.replacements_under_way(tenant)
            if not names:
                return
        raise TimeoutError(
            f"the cut waits for replacement {names[0]}, which is being closed or reverted;"
            " ask for that again to have it finished"
        )

    def _patience(self) -> Iterable[int]:
        for attempt in range(int(self.patience_s / _PAUSE_SECONDS)):
            yield attempt
            self.pause(_PAUSE_SECONDS)


def _lagging(what: str, places: Sequence[LogPartition]) -> str:
    named = ", ".join(str(place) for place in places)
    return f"{what} {named}: see that their workers run (`tollbook status`)"
