"""Opens, closes and reverts range replacements, and sees it counted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipelines.outage import TransientError
from pipelines.position import Log, LogPartition
from pipelines.replacement import Action, Replacement, ReplacementRecord, State

_PAUSE_SECONDS = 0.05


class ReplacementStore(Protocol):
    """What replacements there are, and how far they are."""

    def add(self, replacement: Replacement) -> None:
        """Open a replacement."""

    def find(self, tenant: str, name: str) -> Replacement | None:
        """Return a replacement of a tenant."""

    def begin(self, tenant: str, name: str, action: Action) -> bool:
        """Note that it is being closed or reverted; False where the log has nothing to undo."""

    def finish(
        self, tenant: str, name: str, action: Action, places: Mapping[LogPartition, int]
    ) -> None:
        """Note where its records stand; a cut has all of them or none."""


@dataclass(slots=True)
class Replacer:
    """Carries out what is asked of replacements."""

    store: ReplacementStore
    log: Callable[[], Log]
    send: Callable[[Log, Sequence[tuple[int, ReplacementRecord]]], list[int]]
    progress: Callable[[], Mapping[LogPartition, int]]
    pause: Callable[[float], None]
    patience_s: float = 60.0

    def carry_out(self, tenant: str, name: str, action: Action) -> tuple[State, bool]:
        """Close or revert a replacement; return its state, and whether that is counted by now.

        Asked again after a failure, it goes on: a record that stands twice does nothing twice.

        Raises:
            LookupError: there is none of that name.
            ValueError: it is not in a state in which that can be done.
            TimeoutError: the broker has not acknowledged; ask again.
        """
        if self.store.begin(tenant, name, action):
            log = self.log()
            record = ReplacementRecord(tenant, name, action)
            partitions = range(log.partitions)
            offsets = self.send(log, [(partition, record) for partition in partitions])
            places = {
                LogPartition(log.log, partition): offset
                for partition, offset in zip(partitions, offsets, strict=True)
            }
            self.store.finish(tenant, name, action, places)
            is_counted = self._await_counted(places)
        else:
            is_counted = True
        found = self.store.find(tenant, name)
        assert found is not None  # noqa: S101 - it was there when it began
        return found.state, is_counted

    def _await_counted(self, places: Mapping[LogPartition, int]) -> bool:
        for _ in range(int(self.patience_s / _PAUSE_SECONDS)):
            try:
                progress = self.progress()
            except TransientError:
                progress = {}
            if all(progress.get(at, 0) > offset for at, offset in places.items()):
                return True
            self.pause(_PAUSE_SECONDS)
        return False
