"""Events taken back, changed and brought back, in a log that crashing workers read: no servers."""

import json
import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from ingest.topic import (
    ARROW_CONTENT_TYPE,
    CORRECTION_CONTENT_TYPE,
    EVENT_SCHEMA,
    REPLACEMENT_CONTENT_TYPE,
    TICK_CONTENT_TYPE,
    Tick,
    encode_record,
)
from pipelines.correction import Correction, CorrectionRecord
from pipelines.position import Position
from pipelines.record import Record, decode
from pipelines.replacement import Replacement, ReplacementRecord
from tests.unit.pipelines.test_counting_once import (
    AT,
    METERS,
    START,
    Servers,
    Truth,
    make_log,
    recount,
    run_with_faults,
    stored,
)


@dataclass
class Model:
    """What counts, kept the naive way: per event its place, revision and present form."""

    places: dict[str, Position] = field(default_factory=dict)
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    now: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    refused: int = 0

    def add(self, events: list[dict[str, Any]], offset: int) -> None:
        for index, event in enumerate(events):
            if event["id"] not in self.places:
                self.places[event["id"]] = Position(AT, offset, index)
                self.sent[event["id"]] = self.now[event["id"]] = event
                self.revisions[event["id"]] = 0

    def correct(self, rnd: random.Random) -> Correction:
        """Think up a correction, and note what it comes to; some are wrong."""
        name = rnd.choice(sorted(self.places))
        kind = rnd.choice(["void", "amend", "amend", "restore"])
        revision = self.revisions[name] + 1
        made = Correction(kind, str(self.places[name]), "s", name, revision)  # type: ignore[arg-type]
        fault = rnd.random()
        if fault < 0.1:
            self.refused += 1
            return replace_struct(made, revision=revision + rnd.choice([-1, 1]))
        if fault < 0.15:
            self.refused += 1
            return replace_struct(made, position="0-0-99999-0")
        if kind == "void":
            if self.now[name] is None:
                self.refused += 1
                return made
            self.now[name] = None
        elif kind == "restore":
            self.now[name] = self.sent[name]
        else:
            made, changed = self._amended(made, self.now[name] or self.sent[name], rnd)
            self.now[name] = changed
        self.revisions[name] = revision
        return made

    def _amended(
        self, made: Correction, event: dict[str, Any], rnd: random.Random
    ) -> tuple[Correction, dict[str, Any]]:
        event = dict(event)
        if rnd.random() < 0.7:
            units = Decimal(rnd.randrange(10**6)) / 1000
            text = (
                f'{{"region": "{rnd.choice("ab")}", "units": {units}, "who": {rnd.randrange(9)}}}'
            )
            made = replace_struct(made, data=msgspec.Raw(text.encode()))
            event["data"] = text.encode()
        else:
            event["time"] = START + timedelta(seconds=rnd.randrange(7200))
            made = replace_struct(made, time=event["time"].isoformat())
        return made, event


def replace_struct(made: Correction, **changes: Any) -> Correction:
    return msgspec.structs.replace(made, **changes)


def with_corrections(truth: Truth, rnd: random.Random) -> tuple[Truth, Model]:
    """Put records of corrections between the records of a log."""
    model, found = Model(), Truth(copies=truth.copies)
    for record in truth.records:
        moved = replace(record, offset=len(found.records))
        found.records.append(moved)
        batch = decode(moved).batch
        if batch is not None:
            model.add(batch.to_pylist(), moved.offset)
        if rnd.random() < 0.15:
            corrections = [model.correct(rnd) for _ in range(rnd.randrange(1, 4))]
            found.records.append(record_of(corrections, len(found.records), moved.append_ms))
    return found, model


def record_of(corrections: list[Correction], offset: int, append_ms: int) -> Record:
    value = CorrectionRecord("t", "request", "somebody", "because", corrections).to_value()
    return Record(AT, offset, append_ms, CORRECTION_CONTENT_TYPE, "t", value)


def non_zero(totals: dict[Any, tuple[int, Decimal]]) -> dict[Any, tuple[int, Decimal]]:
    return {key: worth for key, worth in totals.items() if worth != (0, Decimal(0))}


@pytest.mark.parametrize("seed", range(3))
def test_totals_equal_a_recount_of_what_is_live_after_crashes_and_overlap(seed: int) -> None:
    rnd = random.Random(seed)
    truth, model = with_corrections(make_log(rnd, 250, append_step_ms=2000), rnd)
    servers = Servers()
    faults = run_with_faults(truth, servers, rnd, workers=3)
    assert faults["crash"] > 1
    live = [event for event in model.now.values() if event is not None]
    assert len(live) < len(model.now)
    assert non_zero(stored(servers.tables)) == recount(live)
    assert len(servers.tables.events) == len(model.sent)
    assert len(servers.tables.dead_letters) == model.refused
    assert {letter.kind for letter in servers.tables.dead_letters.values()} == {
        "refused",
        "conflict",
    }


def test_the_signed_events_say_who_did_what_and_why_and_the_event_as_sent_is_kept() -> None:
    truth = make_log(random.Random(1), 5, append_step_ms=10)
    event = truth.events[0]
    amended = {"region": "b", "units": "7", "who": 1}
    corrections = [
        Correction(
            "amend", "0-0-0-0", "s", event["id"], 1, msgspec.Raw(json.dumps(amended).encode())
        ),
        Correction("void", "0-0-0-0", "s", event["id"], 2),
    ]
    record = record_of(corrections, len(truth.records), truth.records[-1].append_ms)
    servers = Servers()
    servers.start_worker().run([*truth.records, record])
    rows = sorted(
        servers.tables.corrections.values(), key=lambda row: (row["revision"], row["sign"])
    )
    assert [(row["kind"], row["revision"], row["sign"]) for row in rows] == [
        ("amend", 1, -1),
        ("amend", 1, 1),
        ("void", 2, -1),
    ]
    assert {(row["author"], row["reason"], row["at_offset"]) for row in rows} == {
        ("somebody", "because", record.offset)
    }
    assert rows[0]["data"] == event["data"]
    assert json.loads(rows[1]["data"]) == json.loads(rows[2]["data"]) == amended
    assert servers.tables.events[AT, 0, 0]["data"] == event["data"]
    assert non_zero(stored(servers.tables)) == recount(truth.events[1:])


def test_an_amended_value_that_a_meter_cannot_use_is_rejected_where_the_correction_stands() -> None:
    truth = make_log(random.Random(1), 5, append_step_ms=10)
    wrong = Correction(
        "amend", "0-0-0-0", "s", truth.events[0]["id"], 1, msgspec.Raw(b'{"units":"a lot"}')
    )
    record = record_of([wrong], len(truth.records), truth.records[-1].append_ms)
    servers = Servers()
    servers.start_worker().run([*truth.records, record])
    assert {(key[2], key[3]) for key in servers.tables.rejections} == {(record.offset, 0)}


def test_a_meter_made_after_an_event_takes_it_back_from_its_history() -> None:
    truth = make_log(random.Random(1), 5, append_step_ms=10)
    append_ms, end = truth.records[-1].append_ms, len(truth.records)
    tick = Record(
        AT, end, append_ms, TICK_CONTENT_TYPE, "", Tick("activate", start=True).to_value()
    )
    void = Correction("void", "0-0-0-0", "s", truth.events[0]["id"], 1)
    servers = Servers()
    servers.book.known = METERS[:1]
    servers.start_worker().run(truth.records)
    servers.book.known = METERS
    servers.start_worker().run([*truth.records, tick, record_of([void], end + 1, append_ms)])
    found = non_zero(stored(servers.tables))
    counted = {key: worth for key, worth in found.items() if key[0] == "m0"}
    expected = recount(truth.events[1:])
    assert counted == {key: worth for key, worth in expected.items() if key[0] == "m0"}
    # Of the others the event is history, which is not here: what takes it back is.
    taken = {key: (-count, -total) for key, (count, total) in found.items() if key not in counted}
    alone = recount(truth.events[:1])
    assert taken == {key: worth for key, worth in alone.items() if key[0] != "m0"}


HEAD = b'{"tenant":"t","request":"","author":"","reason":"","corrections":[{"source":"s","id":"1",'


@pytest.mark.parametrize(
    "value",
    [
        b"{}",
        b"[]",
        HEAD + b'"revision":1,"kind":"void","position":"nowhere"}]}',
        HEAD + b'"revision":1,"kind":"amend","position":"0-0-0-0","time":"noon"}]}',
    ],
)
def test_a_record_that_is_no_correction_is_a_dead_letter(value: bytes) -> None:
    letter = decode(Record(AT, 0, 1, CORRECTION_CONTENT_TYPE, "t", value)).dead_letter
    assert letter is not None
    assert letter.kind == "malformed"
    assert letter.body == value


NAME = "11111111-1111-1111-1111-111111111111"


def replacement(**fields: Any) -> Replacement:
    common = Replacement(
        tenant="t", name=NAME, start=START, end=START + timedelta(minutes=30), subject=None,
        source="s", type=None, author="somebody", reason="all wrong", state="open",
    )  # fmt: skip
    return replace(common, **fields)


def ordered(action: Any, offset: int, append_ms: int, name: str = NAME) -> Record:
    value = ReplacementRecord("t", name, action).to_value()
    return Record(AT, offset, append_ms, REPLACEMENT_CONTENT_TYPE, "t", value)


def sent_for(name: str, number: int, time: datetime, offset: int, append_ms: int) -> Record:
    event = {
        "tenant": "t", "id": f"n{number}", "source": "s", "type": "call", "subject": "c1",
        "time": time, "time_stamped": False,
        "data": b'{"region":"a","units":%d,"who":1}' % (number + 1),
        "extensions": b'{"replacement":"%s"}' % name.encode(),
    }  # fmt: skip
    value = encode_record(pa.RecordBatch.from_pylist([event], schema=EVENT_SCHEMA))
    return Record(AT, offset, append_ms, ARROW_CONTENT_TYPE, "", value)


@pytest.mark.parametrize("action", ["close", "revert"])
@pytest.mark.parametrize("seed", range(2))
def test_a_replaced_range_counts_what_was_sent_for_it_and_reverting_brings_back_all(
    seed: int, action: str
) -> None:
    rnd = random.Random(seed)
    truth, model = with_corrections(make_log(rnd, 120, append_step_ms=1000), rnd)
    wanted = replacement()
    before = [event for event in model.now.values() if event is not None]
    append_ms = truth.records[-1].append_ms
    times = [START + timedelta(minutes=rnd.randrange(30)) for _ in range(20)]
    for number, time in enumerate(times):
        offset = len(truth.records)
        truth.records.append(sent_for(NAME, number, time, offset, append_ms))
    held = [decode(record).batch.to_pylist()[0] for record in truth.records[-20:]]
    # A minute apart, so that a crash repeats no more than one of them.
    for wish in ("close", "close"):
        append_ms += 60_000
        truth.records.append(ordered(wish, len(truth.records), append_ms))
    stray = sent_for(NAME, 99, START, len(truth.records), append_ms)
    truth.records.append(stray)
    for wish in ("revert", "revert") if action == "revert" else ():
        append_ms += 60_000
        truth.records.append(ordered(wish, len(truth.records), append_ms))
    servers = Servers(replacements={("t", NAME): wanted})
    run_with_faults(truth, servers, rnd, workers=2)
    kept = [event for event in before if not wanted.covers(event)]
    assert 0 < len(kept) < len(before)
    expected = before if action == "revert" else kept + held
    assert non_zero(stored(servers.tables)) == recount(expected)
    letter = servers.tables.dead_letters[AT, stray.offset, 0]
    assert letter.kind == "refused"
    assert "is closed" in letter.reason


def test_what_is_sent_for_a_replacement_does_not_count_before_it_is_closed() -> None:
    servers = Servers(replacements={("t", NAME): replacement()})
    servers.start_worker().run([sent_for(NAME, 1, START, 0, 1)])
    assert len(servers.tables.events) == 1
    assert stored(servers.tables) == {}


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("22222222-1111-1111-1111-111111111111", {}, "there is no replacement"),
        (NAME, {"start": START + timedelta(minutes=1)}, "its time lies outside"),
        (NAME, {"subject": "c2"}, "its subject is not c2"),
    ],
)
def test_an_event_that_a_replacement_does_not_want_is_refused_and_claims_nothing(
    name: str, fields: dict[str, Any], reason: str
) -> None:
    servers = Servers(replacements={("t", NAME): replacement(**fields)})
    servers.start_worker().run([sent_for(name, 1, START, 0, 1)])
    (letter,) = servers.tables.dead_letters.values()
    assert reason in letter.reason
    assert not servers.tables.identities
