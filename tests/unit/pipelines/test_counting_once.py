"""Whatever is killed, forgotten or doubled, every event is counted once: without any server.

A seeded generator writes a log with copies; workers of the real code read it, crash between any
two writes, lose their memory, sleep and wake, and overlap. A naive recount says what is right.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from ingest.topic import ARROW_CONTENT_TYPE, EVENT_SCHEMA, TICK_CONTENT_TYPE, Tick, encode_record
from pipelines.fold import ActiveMeter
from pipelines.meter import MeterDefinition
from pipelines.partition import Desk, Flush, PartitionLog
from pipelines.position import LogPartition
from pipelines.record import Record, decode
from pipelines.replacement import Replacement
from pipelines.segment import SlicePlan
from pipelines.verdict import Judge
from tests.unit.pipelines.fake_servers import FakeBook, FakeMemory, FakeTables

STEPS = 8
START = datetime(2026, 1, 31, 23, 50, tzinfo=UTC)
AT = LogPartition(0, 0)
METERS = [
    ActiveMeter(
        number,
        "t",
        1,
        MeterDefinition.model_validate({"key": f"m{number}", "event_type": "call"} | fields),
    )
    for number, fields in enumerate[dict[str, Any]](
        [
            {"aggregation": "count", "dimensions": {"region": "$.region"}},
            {"aggregation": "sum", "value": "$.units"},
            {"aggregation": "max", "value": "$.units"},
            {"aggregation": "unique_count", "value": "$.who"},
            {"aggregation": "latest", "value": "$.units"},
        ]
    )
]


@dataclass
class Truth:
    """A log, and what is in it."""

    records: list[Record] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    copies: int = 0


def make_log(rnd: random.Random, events: int, append_step_ms: int) -> Truth:
    """Write records of 1 to 4 events, a tenth of them copies of anything before."""
    truth = Truth()
    now_ms = int(START.timestamp() * 1000) + 3_600_000
    made: list[dict[str, Any]] = []
    while len(made) < events:
        batch = []
        for _ in range(rnd.randrange(1, 5)):
            if made and rnd.random() < 0.1:
                batch.append(rnd.choice(made))
                truth.copies += 1
                continue
            number = len(made)
            region, who = rnd.choice("ab"), rnd.randrange(40)
            units = Decimal(rnd.randrange(1, 10**6)) / 1000
            event = {
                "tenant": "t",
                "id": f"e{number}",
                "source": "s",
                "type": "call",
                "subject": f"c{rnd.randrange(5)}",
                "time": START + timedelta(seconds=rnd.randrange(3600)),
                "time_stamped": False,
                "data": f'{{"region":"{region}","units":{units},"who":{who}}}'.encode(),
                "extensions": b"",
            }
            made.append(event)
            batch.append(event)
        value = encode_record(pa.RecordBatch.from_pylist(batch, schema=EVENT_SCHEMA))
        truth.records.append(Record(AT, len(truth.records), now_ms, ARROW_CONTENT_TYPE, "", value))
        if rnd.random() < 0.02:
            tick = Tick("test", start=rnd.random() < 0.5).to_value()
            truth.records.append(
                Record(AT, len(truth.records), now_ms, TICK_CONTENT_TYPE, "", tick)
            )
        now_ms += rnd.randrange(append_step_ms)
    truth.events = made
    return truth


@dataclass
class Servers:
    """What survives a worker."""

    book: FakeBook = field(default_factory=lambda: FakeBook(METERS))
    memory: FakeMemory = field(default_factory=FakeMemory)
    tables: FakeTables = field(default_factory=FakeTables)
    plan: SlicePlan = field(default_factory=SlicePlan)
    replacements: dict[tuple[str, str], Replacement] = field(default_factory=dict)

    def start_worker(self, crash_steps: Callable[[], int] = lambda: STEPS) -> "FakeWorker":
        segment, slices = self.book.resume(AT, self.tables.progress.get(AT, 0))
        start = segment.start_offset if segment else 0
        judge = Judge(self.memory, self.tables, archived=start, claimed=start)
        worker = FakeWorker(self.tables, crash_steps)
        desk = Desk(
            worker.settle, self.tables, self.tables, lambda *key: self.replacements.get(key)
        )
        worker.log = PartitionLog(
            AT, self.book, judge, desk, 7, self.plan, 1, segment, slices, start
        )
        return worker


class CrashError(Exception):
    """A worker ends between two writes."""


@dataclass
class FakeWorker:
    """A worker of one partition; crashes when told to."""

    tables: FakeTables
    crash_steps: Callable[[], int]
    log: PartitionLog = field(init=False)

    def run(self, records: list[Record], *, flush: bool = True) -> None:
        for taken in self.log.feed([decode(record) for record in records]):
            self.settle(taken)
        if flush:
            self.settle(self.log.take_flush())

    def settle(self, flush: Flush) -> None:
        if not self.tables.write(flush, self.crash_steps()):
            raise CrashError
        self.log.judge.archived_to(flush.next_offset)


def run_with_faults(
    truth: Truth, servers: Servers, rnd: random.Random, workers: int
) -> Counter[str]:
    """Let workers read the log, with faults, until one of them has written all of it."""
    faults: Counter[str] = Counter()

    def steps() -> int:
        return rnd.randrange(STEPS) if rnd.random() < 0.12 else STEPS

    running = [servers.start_worker(steps) for _ in range(workers)]
    for _ in range(100_000):
        if servers.tables.progress.get(AT, 0) >= len(truth.records):
            return faults
        number = rnd.randrange(workers)
        worker = running[number]
        start = worker.log.next_offset
        chunk = truth.records[start : start + rnd.randrange(1, 12)]
        try:
            worker.run(chunk, flush=rnd.random() < 0.3)
        except CrashError:
            faults["crash"] += 1
            running[number] = servers.start_worker(steps)
        if rnd.random() < 0.05:
            servers.memory.forget()
            faults["forget"] += 1
    raise AssertionError("the workers made no progress")


def recount(events: list[dict[str, Any]]) -> dict[Any, tuple[int, Decimal]]:
    """Count and add up per (meter, subject, dimensions, item, window), the naive way."""
    import json  # noqa: PLC0415 - the oracle shares nothing with the code under test

    found: dict[Any, tuple[int, Decimal]] = {}
    for event in events:
        data = json.loads(event["data"], parse_float=Decimal, parse_int=Decimal)
        time: datetime = event["time"]
        window = time.replace(minute=time.minute // 15 * 15, second=0, microsecond=0)
        for meter, dims, item, value in (
            ("m0", json.dumps({"region": data["region"]}, separators=(",", ":")), "", Decimal(0)),
            ("m1", "{}", "", data["units"]),
            ("m2", "{}", f"{data['units'].normalize():f}", Decimal(0)),
            ("m3", "{}", str(data["who"]), Decimal(0)),
            ("m4", "{}", f"{int(time.timestamp())}000000", data["units"]),
        ):
            key = (meter, event["subject"], dims, item, window)
            count, total = found.get(key, (0, Decimal(0)))
            found[key] = (count + 1, total + value)
    return found


def stored(tables: FakeTables) -> dict[Any, tuple[int, Decimal]]:
    found: dict[Any, tuple[int, Decimal]] = {}
    for _, row in tables.windows.values():
        key = (
            row["meter"],
            row["subject"],
            row["dimensions"],
            row["item"].partition(":")[0],
            row["window_start"],
        )
        count, total = found.get(key, (0, Decimal(0)))
        found[key] = (count + row["count"], total + row["sum"])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_totals_equal_a_recount_after_crashes_forgetting_and_overlap(seed: int) -> None:
    rnd = random.Random(seed)
    truth = make_log(rnd, 800, append_step_ms=1000)
    servers = Servers()
    faults = run_with_faults(truth, servers, rnd, workers=3)
    assert faults["crash"] > 3
    assert faults["forget"] > 3
    assert len(servers.book.segments) > 3
    assert len(servers.tables.events) == len(truth.events)
    assert len(servers.tables.duplicates) == truth.copies
    assert stored(servers.tables) == recount(truth.events)


@pytest.mark.parametrize("seed", range(3))
def test_copies_older_than_the_horizon_are_found_in_the_archive(seed: int) -> None:
    """Slices of 100 events, two looked at: most copies lie before the horizon."""
    rnd = random.Random(seed)
    truth = make_log(rnd, 800, append_step_ms=2000)
    servers = Servers(plan=SlicePlan(slice_events=100, slices_max=2))
    run_with_faults(truth, servers, rnd, workers=2)
    assert max(s.horizon_slice for s in servers.book.segments.values()) > 3
    assert len(servers.tables.events) == len(truth.events)
    assert len(servers.tables.duplicates) == truth.copies
    assert stored(servers.tables) == recount(truth.events)


def test_a_memory_that_does_not_check_its_marker_counts_copies_twice() -> None:
    """The harness can fail: without the marker a forgetful memory is believed."""
    rnd = random.Random(1)
    truth = make_log(rnd, 800, append_step_ms=1000)
    servers = Servers(memory=FakeMemory(checks_marker=False))
    run_with_faults(truth, servers, rnd, workers=1)
    assert len(servers.tables.events) > len(truth.events)


def test_the_same_id_with_another_body_is_a_conflict_and_the_first_counts() -> None:
    rnd = random.Random(5)
    event = make_log(rnd, 1, append_step_ms=10).events[0]
    other = event | {"data": b'{"region":"a","units":1,"who":1}'}
    value = encode_record(pa.RecordBatch.from_pylist([event, other, event], schema=EVENT_SCHEMA))
    servers = Servers()
    servers.start_worker().run([Record(AT, 0, 1, ARROW_CONTENT_TYPE, "", value)])
    (letter,) = servers.tables.dead_letters.values()
    assert letter.kind == "conflict"
    assert b'"units":1' in letter.body
    assert len(servers.tables.duplicates) == 1
    assert stored(servers.tables) == recount([event])


@pytest.mark.parametrize(
    ("content_type", "value"),
    [
        (ARROW_CONTENT_TYPE, b"garbage"),
        (ARROW_CONTENT_TYPE, b""),
        (b"text/plain", b"{}"),
        (TICK_CONTENT_TYPE, b"[]"),
        (b"application/cloudevents+json", b"{}"),
    ],
)
def test_a_record_that_cannot_be_read_is_kept_as_a_dead_letter_and_the_rest_goes_on(
    content_type: bytes, value: bytes
) -> None:
    truth = make_log(random.Random(3), 20, append_step_ms=10)
    bad = Record(AT, len(truth.records), truth.records[-1].append_ms, content_type, "t", value)
    after = truth.records[0]
    again = Record(AT, bad.offset + 1, bad.append_ms, after.content_type, "", after.value)
    servers = Servers()
    servers.start_worker().run([*truth.records, bad, again])
    (letter,) = servers.tables.dead_letters.values()
    assert (letter.offset, letter.body, letter.kind) == (bad.offset, value, "malformed")
    assert letter.reason
    assert servers.tables.progress[AT] == again.offset + 1
    assert stored(servers.tables) == recount(truth.events)
