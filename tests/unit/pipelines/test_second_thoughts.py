"""Events taken back, changed and brought back, in a log that crashing workers read: no servers."""

import json
import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from ingest.topic import CORRECTION_CONTENT_TYPE
from pipelines.correction import Correction, CorrectionRecord
from pipelines.position import Position
from pipelines.record import Record, decode
from tests.unit.pipelines.test_counting_once import (
    AT,
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
    truth, model = with_corrections(make_log(rnd, 400, append_step_ms=1000), rnd)
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
