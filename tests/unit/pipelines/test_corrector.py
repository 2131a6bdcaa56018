"""What may be asked of an event that is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.correcting import Target
from pipelines.correction import CorrectionRecord
from pipelines.position import Log, LogPartition, Position
from pipelines.second_thoughts import Corrector, RefusedWishError, Wish
from tests.unit.pipelines.test_fold import events

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = LogPartition(0, 0)
PLACE = Position(AT, 5, 0)


@dataclass
class OneEvent:
    """A deployment that has stored one event, and carries out what is asked."""

    sent: list[CorrectionRecord] = field(default_factory=list)

    def of_events(
        self, tenant: str, names: Sequence[tuple[str, str]]
    ) -> list[Mapping[Position, Target]]:
        assert (tenant, names) == ("t", [("s", "0")])
        (row,) = events(b'{"v":1}').to_pylist()
        return [{PLACE: Target(row, 0, row)}]

    def done(self, tenant: str, record: Position) -> set[int]:
        assert (tenant, record) == ("t", Position(AT, 7, 0))
        return {0}

    def send(self, log: Log, records: Sequence[tuple[int, CorrectionRecord]]) -> list[int]:
        assert log.log == 0
        self.sent += [record for _, record in records]
        return [7]

    def amend(self, moment: datetime) -> Any:
        corrector = Corrector(
            events=self,
            log=lambda: Log(0, "usage.events", "id", 4),
            send=self.send,
            progress=lambda: {AT: 8},
            lag=lambda: 0,
            pause=lambda _: None,
            now=lambda: NOW,
        )
        wish = Wish("amend", "s", "0", time=moment.isoformat())
        (outcome,) = corrector.correct("t", [wish], author="a", reason="r", request="q")
        return outcome.state


def test_an_event_is_amended_to_any_past_but_no_further_ahead_than_one_may_be_sent() -> None:
    stored = OneEvent()
    for moment in (datetime(1970, 1, 1, tzinfo=UTC), NOW + timedelta(minutes=5)):
        assert stored.amend(moment) == "applied"
    assert len(stored.sent) == 2
    with pytest.raises(RefusedWishError, match="in the future") as caught:
        stored.amend(NOW + timedelta(minutes=5, seconds=1))
    assert (caught.value.code, len(stored.sent)) == ("bad-time", 2)
