"""A worker waits out a ClickHouse that is away or too busy, and reads nothing meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from pipelines import bytewax_dataflow
from pipelines.bytewax_dataflow import Worker
from pipelines.clickhouse_writer import ClickHouseWriter
from pipelines.outage import TransientError
from pipelines.partition import Flush
from pipelines.position import LogPartition

AT = LogPartition(0, 0)


@dataclass
class FailingClient:
    """Refuses the first inserts with given errors, then takes all."""

    errors: list[Exception]
    inserted: list[str] = field(default_factory=list)
    write_compression: str | None = None

    def raw_insert(self, table: str, *_: Any, **__: Any) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.inserted.append(table)


@dataclass
class Seen:
    """What a worker reported."""

    delays: list[float] = field(default_factory=list)
    flushed: list[int] = field(default_factory=list)


def worker_of(client: FailingClient, seen: Seen) -> Worker:
    def flushed(flushes: Sequence[Flush], _: dict[str, int], __: float) -> None:
        seen.flushed += [flush.next_offset for flush in flushes]

    worker = Worker(
        source=cast("Any", None),
        writer=ClickHouseWriter(client),
        flushed=flushed,
        delayed=lambda _, pause: seen.delays.append(pause),
        logs=cast("Any", {AT: _Log()}),
    )
    worker.outbox.append(Flush(AT, 7, 0))
    return worker


class _Log:
    class judge:  # noqa: N801 - stands for an attribute
        @staticmethod
        def archived_to(_: int) -> None:
            return


@pytest.mark.parametrize(
    "error", [OperationalError("refused"), DatabaseError("Too many parts", code=252)]
)
def test_a_write_that_cannot_happen_now_happens_later(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytewax_dataflow, "RETRY_SECONDS_MIN", 0.001)
    client, seen = FailingClient([error, error, error]), Seen()
    worker_of(client, seen).write()
    assert seen.delays == [0.001, 0.002, 0.004]
    assert seen.flushed == [7]
    assert client.inserted[-1] == "usage_progress"


def test_a_write_that_can_never_happen_ends_the_worker() -> None:
    client, seen = FailingClient([DatabaseError("no such column", code=16)]), Seen()
    with pytest.raises(DatabaseError, match="no such column"):
        worker_of(client, seen).write()
    assert (seen.delays, seen.flushed) == ([], [])


def test_a_worker_that_is_told_to_stop_waits_no_longer() -> None:
    worker = worker_of(FailingClient([OperationalError("refused")]), Seen())
    worker.is_stopping = True
    with pytest.raises(TransientError, match="ClickHouse does not take rows"):
        worker.write()
