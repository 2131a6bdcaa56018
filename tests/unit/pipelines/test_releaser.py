"""A release counts each event once, wherever it fails and however often it is asked for again."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pytest

from ingest.topic import ARROW_CONTENT_TYPE, EVENT_SCHEMA, RELEASE_CONTENT_TYPE, encode_record
from pipelines.position import Log, LogPartition
from pipelines.record import Record
from pipelines.releaser import Ranges, Release, Releaser, Vector
from tests.unit.pipelines.test_counting_once import AT, FakeWorker, Servers
from tests.unit.pipelines.test_quarantine import MAX, make_event
from tests.unit.pipelines.test_quarantine import Log as Records

LOG = Log(0, "usage.events", "id", 1)


class StoppedError(Exception):
    """Whoever releases is killed."""


@dataclass
class World:
    """One partition, whose worker counts what is sent at once; a call may be the last."""

    records: Records = field(default_factory=Records)
    servers: Servers = field(default_factory=Servers)
    releases: list[Release] = field(default_factory=list)
    calls_left: int = 1_000_000

    def __post_init__(self) -> None:
        self.worker: FakeWorker = self.servers.start_worker()
        self.worker.log.bad_events_max = MAX

    def count(self) -> None:
        self.worker.run(self.records.records[self.worker.log.next_offset :])

    def step(self) -> None:
        self.calls_left -= 1
        if self.calls_left < 0:
            raise StoppedError

    def begin(self, tenant: str, source: str, author: str) -> Release:
        self.step()
        if not self.releases or self.releases[-1].sent is not None:
            self.releases.append(Release(tenant, source, len(self.releases) + 1, author))
        return self.releases[-1]

    def place(self, release: Release, places: Vector) -> None:
        self.step()
        self.releases[release.number - 1] = replace(release, places=places)

    def finish(self, release: Release, sent: int) -> None:
        self.step()
        found = self.releases[release.number - 1]
        self.releases[release.number - 1] = replace(found, sent=sent)

    def released(self, tenant: str, source: str) -> Vector:
        del tenant, source
        done = [each.places or {} for each in self.releases if each.sent is not None]
        return done[-1] if done else {}

    def events(self, tenant: str, source: str, ranges: Ranges) -> Iterator[Any]:
        start, end = ranges[AT]
        rows = [
            {name: row[name] for name in EVENT_SCHEMA.names}
            for (_, offset, _), row in sorted(self.servers.tables.quarantined.items())
            if (row["tenant"], row["source"]) == (tenant, source)
            and row["kind"] == "event"
            and start <= offset < end
        ]
        for first in range(0, len(rows), 3):
            yield pa.Table.from_pylist(rows[first : first + 3], EVENT_SCHEMA)

    def unreadable(self, tenant: str, source: str, ranges: Ranges) -> int:
        del tenant, source, ranges
        kept = self.servers.tables.quarantined.values()
        return sum(row["kind"] != "event" for row in kept)

    def end(self, log: Log, records: Sequence[tuple[int, Any]]) -> list[int]:
        del log
        values = [record.to_value() for _, record in records]
        return self._append(RELEASE_CONTENT_TYPE, values)

    def send(self, log: Log, batches: Sequence[tuple[int, Any]]) -> list[int]:
        del log
        return self._append(ARROW_CONTENT_TYPE, [encode_record(batch) for _, batch in batches])

    def _append(self, kind: bytes, values: list[bytes]) -> list[int]:
        """Append, and perhaps be killed before the answer comes: the log has it all the same."""
        log = self.records.records
        offsets = [len(log) + number for number in range(len(values))]
        log += [
            Record(AT, at, self.records.now_ms, kind, "", v)
            for at, v in zip(offsets, values, strict=True)
        ]
        self.count()
        self.step()
        return offsets

    def progress(self) -> Vector:
        return {AT: self.servers.tables.progress[AT]}

    def releaser(self) -> Releaser:
        return Releaser(
            store=self,
            tables=self,
            logs=lambda: [LOG],
            closed_ends=dict[LogPartition, int],
            end=self.end,
            send=self.send,
            progress=self.progress,
            pause=lambda _: None,
        )


def a_world(rnd: random.Random) -> tuple[World, set[str]]:
    """Return a partition with a quarantined source, and the ids that it sent, some twice."""
    world, ids = World(), {f"e{number}" for number in range(10)}
    world.records.good(make_event("broken", "e0"))
    for _ in range(MAX + 2):
        world.records.bad("broken")
    sent = [*sorted(ids), *rnd.choices(sorted(ids), k=5)]
    rnd.shuffle(sent)
    for event_id in sent:
        world.records.good(make_event("broken", event_id), make_event("fine", event_id))
    world.count()
    return world, ids


def counted(world: World, source: str) -> list[str]:
    rows = world.servers.tables.events.values()
    return sorted(row["id"] for row in rows if row["source"] == source)


@pytest.mark.parametrize("killed_after", range(12))
def test_a_release_killed_anywhere_and_asked_for_again_counts_each_event_once(
    killed_after: int,
) -> None:
    world, ids = a_world(random.Random(killed_after))
    assert counted(world, "broken") == ["e0"]
    world.calls_left = killed_after
    was_killed = False
    try:
        world.releaser().release("t", "broken", "me")
    except StoppedError:
        was_killed = True
    world.calls_left = 1_000_000
    # Its producer sends some of it again meanwhile, which may come before what is released.
    world.records.good(make_event("broken", "e3"), make_event("broken", "e4"))
    world.count()
    done = world.releaser().release("t", "broken", "me")
    assert was_killed == (killed_after < 9)
    assert done.is_counted
    assert done.unreadable == 2
    assert counted(world, "broken") == counted(world, "fine") == sorted(ids)
    assert world.releaser().release("t", "broken", "me").sent == 0


def test_what_is_not_counted_up_to_the_end_of_the_quarantine_is_not_sent() -> None:
    world, _ = a_world(random.Random(1))
    releaser = world.releaser()
    releaser.progress = dict[LogPartition, int]
    with pytest.raises(TimeoutError, match="counted"):
        releaser.release("t", "broken", "me")
    assert counted(world, "broken") == ["e0"]
    assert world.releases[0].sent is None
