"""A source most of whose events are bad is set aside, from where the log says it is.

A naive model reads the same log record by record and says what is counted, what is a dead letter
and what is set aside; workers of the real code read it in pieces of any size, and crash.
"""

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from ingest.topic import (
    ARROW_CONTENT_TYPE,
    CLOUDEVENT_CONTENT_TYPE,
    EVENT_SCHEMA,
    RELEASE_CONTENT_TYPE,
    encode_record,
)
from pipelines import quarantine
from pipelines.quarantine import Streams, stream_of
from pipelines.record import Record, ReleaseRecord, decode
from tests.unit.pipelines.test_counting_once import AT, STEPS, CrashError, FakeWorker, Servers

MAX = 10
START_MS = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
Place = tuple[int, int]
Stream = tuple[str, str]


def make_event(source: str, event_id: str, body: int = 1, tenant: str = "t") -> dict[str, Any]:
    return {
        "tenant": tenant,
        "id": event_id,
        "source": source,
        "type": "call",
        "subject": "c",
        "time": datetime(2026, 3, 1, 11, tzinfo=UTC),
        "time_stamped": False,
        "data": b'{"region":"a","units":%d,"who":1}' % body,
        "extensions": b"",
    }


@dataclass
class Log:
    """Records, made one by one, and what a naive reader makes of them."""

    records: list[Record] = field(default_factory=list)
    held: list[tuple[str, Any]] = field(default_factory=list)
    now_ms: int = START_MS

    def _add(self, kind: bytes, tenant: str, value: bytes) -> None:
        self.records.append(Record(AT, len(self.records), self.now_ms, kind, tenant, value))

    def bad(self, source: str, tenant: str = "t") -> None:
        value = json.dumps({"source": source, "n": len(self.records)}).encode()
        self._add(CLOUDEVENT_CONTENT_TYPE, tenant, value)
        self.held.append(("bad", (tenant, source)))

    def garbage(self) -> None:
        self._add(ARROW_CONTENT_TYPE, "", b"garbage")
        self.held.append(("bad", ("", "")))

    def good(self, *events: dict[str, Any]) -> None:
        batch = pa.RecordBatch.from_pylist(list(events), schema=EVENT_SCHEMA)
        self._add(ARROW_CONTENT_TYPE, "", encode_record(batch))
        self.held.append(("good", list(events)))

    def release(self, source: str, tenant: str = "t") -> None:
        self._add(RELEASE_CONTENT_TYPE, tenant, ReleaseRecord(tenant, source).to_value())
        self.held.append(("release", (tenant, source)))


@dataclass
class Naive:
    """What becomes of each place of a log; segments end by the minute, and where a set changes."""

    counted: set[Place] = field(default_factory=set)
    copies: set[Place] = field(default_factory=set)
    dead: set[Place] = field(default_factory=set)
    aside: set[Place] = field(default_factory=set)
    turned: int = 0
    _quarantined: set[Stream] = field(default_factory=set)
    _bad: Counter[Stream] = field(default_factory=Counter)
    _good: Counter[Stream] = field(default_factory=Counter)
    _conflicts: Counter[Stream] = field(default_factory=Counter)
    _since_conflict: Counter[Stream] = field(default_factory=Counter)
    _bodies: dict[tuple[str, str, str], bytes] = field(default_factory=dict)

    def read(self, log: Log) -> "Naive":
        minute, ends = START_MS // 60_000, False
        for record, (kind, held) in zip(log.records, log.held, strict=True):
            if record.append_ms // 60_000 > minute or ends or kind == "release":
                minute, ends = record.append_ms // 60_000, False
                self._end_segment(held if kind == "release" else None)
            if kind == "good":
                for index, event in enumerate(held):
                    self._event((record.offset, index), event)
            elif kind == "bad":
                ends = self._unreadable((record.offset, 0), held) or ends
        return self

    def _unreadable(self, place: Place, stream: Stream) -> bool:
        if stream in self._quarantined:
            self.aside.add(place)
            return False
        self.dead.add(place)
        self._bad[stream] += 1
        return self._bad[stream] >= MAX and self._bad[stream] > self._good[stream]

    def _event(self, place: Place, event: dict[str, Any]) -> None:
        stream = (event["tenant"], event["source"])
        if stream in self._quarantined:
            self.aside.add(place)
            return
        if self._bad[stream]:
            self._good[stream] += 1
        identity = (*stream, event["id"])
        if identity not in self._bodies:
            self._bodies[identity] = event["data"]
            self.counted.add(place)
        elif self._bodies[identity] == event["data"]:
            self.copies.add(place)
        else:
            self.dead.add(place)
            self._conflicts[stream] += 1
        if self._conflicts[stream]:
            self._since_conflict[stream] += 1

    def _end_segment(self, released: Stream | None) -> None:
        for stream in {*self._bad, *self._conflicts}:
            events = max(self._good[stream], self._since_conflict[stream])
            self._bad[stream] += self._conflicts[stream]
            self._good[stream] = events - self._conflicts[stream]
            is_mostly_bad = self._bad[stream] > self._good[stream]
            if is_mostly_bad and self._bad[stream] >= MAX and stream != released:
                self._quarantined.add(stream)
                self.turned += 1
            if not is_mostly_bad or stream in self._quarantined or stream == released:
                del self._bad[stream], self._good[stream]
        self._quarantined -= {released}
        self._conflicts.clear()
        self._since_conflict.clear()


def read(log: Log, seed: int) -> Servers:
    """Let two workers read a log in pieces of any size, crash now and then, and overlap."""
    rnd, servers = random.Random(seed), Servers()

    def steps() -> int:
        return rnd.randrange(STEPS) if rnd.random() < 0.1 else STEPS

    def start() -> FakeWorker:
        worker = servers.start_worker(steps)
        worker.log.bad_events_max = MAX
        if worker.log.segment is not None:
            worker.log._enter(worker.log.segment)
        return worker

    running = [start(), start()]
    for _ in range(10_000):
        if servers.tables.progress.get(AT, 0) >= len(log.records):
            return servers
        number = rnd.randrange(2)
        worker = running[number]
        first = worker.log.next_offset
        piece = log.records[first : first + rnd.randrange(1, 30)]
        try:
            worker.run(piece, flush=rnd.random() < 0.4)
        except CrashError:
            running[number] = start()
    raise AssertionError("the workers made no progress")


def places(rows: Any) -> set[Place]:
    return {(offset, index) for _, offset, index in rows}


def assert_same(log: Log, seed: int) -> Naive:
    truth, found = Naive().read(log), read(log, seed)
    assert places(found.tables.quarantined) == truth.aside
    assert places(found.tables.dead_letters) == truth.dead
    assert places(found.tables.events) == truth.counted
    assert places(found.tables.duplicates) == truth.copies
    return truth


def any_log(seed: int) -> Log:
    """Return a log in which sources turn bad, by records or by conflicts, and are released."""
    rnd, log = random.Random(seed), Log()
    badness = {"fine": 0.02, "broken": 0.6, "mixed": 0.4, "ids": 0.0}
    for number in range(500):
        source = rnd.choice(list(badness))
        if rnd.random() < badness[source]:
            log.bad(source, tenant=rnd.choice(["t", "t", "t", "u"]))
        elif source == "ids":
            log.good(*(make_event(source, f"{rnd.randrange(6)}", number) for _ in range(2)))
        else:
            log.good(make_event(source, f"e{rnd.randrange(number + 1)}"), make_event("fine", "e"))
        if rnd.random() < 0.02:
            log.garbage()
        if rnd.random() < 0.01:
            log.release(rnd.choice(list(badness)))
        log.now_ms += rnd.randrange(1500)
    return log


@pytest.mark.parametrize("seed", range(3))
def test_what_is_counted_dead_or_set_aside_is_what_a_naive_reader_says(seed: int) -> None:
    """Whatever the pieces, crashes and replays; every place is accounted for exactly once."""
    log = any_log(seed)
    truth = assert_same(log, seed)
    kinds = (truth.counted, truth.copies, truth.dead, truth.aside)
    assert all(kinds)
    assert truth.turned > 2
    events = [len(held) if kind == "good" else kind == "bad" for kind, held in log.held]
    assert sum(map(len, kinds)) == len(set.union(*kinds)) == sum(events)


def turned_bad() -> Log:
    log = Log()
    log.good(make_event("fine", "f0"))
    for _ in range(MAX):
        log.bad("broken")
    log.bad("broken")
    log.good(make_event("broken", "b"), make_event("fine", "f1"), make_event("broken", "b", 1, "u"))
    return log


def test_a_source_that_turns_bad_is_set_aside_with_its_bytes_and_the_rest_goes_on() -> None:
    log = turned_bad()
    found = read(log, 0).tables
    assert len(found.dead_letters) == MAX
    malformed, event = (row for _, row in sorted(found.quarantined.items(), key=lambda kv: kv[0]))
    assert (malformed["kind"], malformed["source"]) == ("malformed", "broken")
    assert malformed["body"] == log.records[MAX + 1].value
    assert malformed["reason"]
    sent = make_event("broken", "b")
    assert {name: event[name] for name in sent} == sent
    assert (event["kind"], event["offset"], event["index"]) == ("event", MAX + 2, 0)
    assert {(row["tenant"], row["id"]) for row in found.events.values()} == {
        ("t", "f0"), ("t", "f1"), ("u", "b"),
    }  # fmt: skip


def test_what_was_set_aside_claims_nothing_and_counts_once_when_it_is_sent_again() -> None:
    log = turned_bad()
    log.release("broken")
    log.good(make_event("broken", "b"))
    log.good(make_event("broken", "b"))
    found = read(log, 1).tables
    assert [row["source"] for row in found.events.values()].count("broken") == 2  # t and u
    assert len(found.duplicates) == 1
    assert_same(log, 2)


def test_a_release_of_a_partition_s_only_record_and_of_an_unknown_source_change_nothing() -> None:
    log = Log()
    log.release("never")
    log.good(make_event("fine", "f"))
    log.release("never")
    assert assert_same(log, 0).counted == {(1, 0)}


def test_bad_events_are_remembered_over_segments_while_they_are_most() -> None:
    log = Log()
    for _ in range(MAX):
        log.bad("slow")
        log.now_ms += 60_000
    log.good(make_event("slow", "s"))
    assert assert_same(log, 0).aside == {(MAX, 0)}


def test_ids_used_again_with_other_bodies_quarantine_their_source_where_the_segment_ends() -> None:
    log = Log()
    for number in range(2 * MAX):
        log.good(make_event("ids", "0", number))
    log.now_ms += 60_000
    log.good(make_event("ids", "1"))
    truth = assert_same(log, 3)
    assert len(truth.dead) == 2 * MAX - 1
    assert truth.aside == {(2 * MAX, 0)}


def test_more_sources_than_are_watched_are_set_aside_by_their_tenant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quarantine, "STREAMS_MAX", 3)
    log = Log()
    for number in range(50):
        log.bad(f"source {number}")
    log.good(make_event("source 40", "good"))
    found = read(log, 4)
    assert len(found.tables.dead_letters) == 3 + MAX
    assert {row["source"] for row in found.tables.quarantined.values()} == {""}
    assert len(found.tables.events) == 1
    held = [segment.streams for segment in found.book.segments.values()]
    assert max(len(each.quarantined) + len(each.suspected) for each in held) <= 4


@pytest.mark.parametrize("value", [b'{"source":7}', b"[]", b"\xff", b'{"source":"\\u0000"}', b"{"])
def test_a_source_that_cannot_be_read_is_empty(value: bytes) -> None:
    letter = decode(Record(AT, 0, START_MS, CLOUDEVENT_CONTENT_TYPE, "t", value)).dead_letter
    assert letter is not None
    assert stream_of(letter) == ("t", "")


def test_what_a_segment_starts_with_survives_json() -> None:
    streams = Streams((("t", "a"), ("", "")), ((("t", "b"), (3, 5)),))
    assert Streams.from_content(json.loads(json.dumps(streams.to_content()))) == streams
