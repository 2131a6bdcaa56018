"""Where an event is, told from what is stored of it and how far the log is counted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from pipelines.correcting import Row
from pipelines.cut import EffectiveMeter
from pipelines.dead_letter import KeptLetter
from pipelines.fold import ActiveMeter
from pipelines.identity import identity_of
from pipelines.meter import MeterDefinition
from pipelines.outage import TransientError
from pipelines.position import Log, LogPartition, Position
from pipelines.progress import Mark, PartitionProgress, ProgressReader, to_content, total_content
from pipelines.record import COUNTED_SCHEMA
from pipelines.trace import Tracer, counts_of, rejections_of
from tests.unit.pipelines.test_fold import events, fold

AT = LogPartition(0, 0)
PLACE = Position(AT, 5, 0)
IDENTITY = identity_of("t", "s", "0", 7)
FAR = 1 << 62
UNITS = ActiveMeter(
    1,
    "t",
    2,
    MeterDefinition.model_validate(
        {
            "key": "units",
            "event_type": "call",
            "aggregation": "sum",
            "value": "$.v",
            "dimensions": {"region": "$.r"},
            "window": "1h",
        }
    ),
)
OTHERS = replace(UNITS, definition_id=2, tenant="other")


def letter(kind: str, body: bytes = b"{}") -> KeptLetter:
    return KeptLetter(Position(AT, 9, 0), kind, "because", body, len(body), "then")


@dataclass
class Tables:
    """What is stored, by identity; rows appear when the log's ends are read, if `late`."""

    stored: Any = None
    kept: list[KeptLetter] = field(default_factory=list)
    aside: list[KeptLetter] = field(default_factory=list)
    corrected: list[Row] = field(default_factory=list)
    voided: dict[Position, Position] = field(default_factory=dict)
    next_offset: int = 6
    end: int = 6
    arrives: Any = None

    def positions(self, identity: bytes) -> list[Position]:
        return [PLACE] if self.stored is not None and identity == IDENTITY else []

    def event(self, tenant: str, identity: bytes, position: Position) -> Any:
        assert (identity, position) == (IDENTITY, PLACE)
        return self.stored if tenant == "t" else COUNTED_SCHEMA.empty_table()

    def corrections(self, tenant: str, identity: bytes, position: Position) -> list[Row]:
        own = tenant == "t" and identity == IDENTITY and position == PLACE
        return self.corrected if own else []

    def survivors(self, tenant: str, identity: bytes) -> dict[Position, Position]:
        own = tenant == "t" and identity == IDENTITY
        return self.voided if own else {}

    def copies(
        self, tenant: str, source: str, event_id: str, first: Position, limit: int
    ) -> tuple[int, list[Position]]:
        assert (tenant, source, event_id, first, limit) == ("t", "s", "0", PLACE, 100)
        return 1, [Position(AT, 5, 3)]

    def letters(self, tenant: str, source: str, event_id: str, limit: int) -> list[KeptLetter]:  # noqa: ARG002
        return self.kept

    def set_aside(self, tenant: str, source: str, event_id: str, limit: int) -> list[KeptLetter]:  # noqa: ARG002
        return self.aside

    def of_tenant(self, tenant: str) -> list[ActiveMeter]:
        return [meter for meter in (UNITS, OTHERS) if meter.tenant == tenant]

    def progress(self) -> list[PartitionProgress]:
        found = PartitionProgress(AT, self.next_offset, self.end, None, 0)
        self.stored = self.stored or self.arrives
        return [found]

    def tracer(self) -> Tracer:
        return Tracer(
            tables=self,
            definitions=self,
            next_offsets=lambda: {AT: self.next_offset},
            progress=self.progress,
            versions=lambda _tenant, _key: [
                EffectiveMeter(replace(UNITS, version=1), -FAR, FAR),
                EffectiveMeter(UNITS, FAR, FAR),
            ],
            seed=7,
        )


def traced(tables: Tables) -> dict[str, Any]:
    tracer = tables.tracer()
    found = tracer.to_content("t", tracer.trace("t", "s", "0"))
    content: dict[str, Any] = json.loads(msgspec.json.encode(found))
    return content


def test_a_counted_event_names_its_windows_copies_and_rejections() -> None:
    found = traced(Tables(stored=events(b'{"v":1.50,"r":"eu","n":1e400}')))
    assert found["state"] == "counted"
    (event,) = found["events"]
    assert event["position"] == "0-0-5-0"
    assert event["counts"] == [
        {
            "meter": "units",
            "version": 2,
            "aggregation": "sum",
            "in_force": False,
            "subject": "c",
            "dimensions": {"region": "eu"},
            "window_start": "2026-03-01T12:00:00Z",
            "window_end": "2026-03-01T13:00:00Z",
            "value": "1.5",
        }
    ]
    assert event["rejections"] == []
    assert (event["duplicate_count"], event["duplicates"]) == (1, ["0-0-5-3"])
    assert found["conflicts"] == found["refusals"] == []


def test_stored_json_is_told_as_it_was_sent() -> None:
    tracer = Tables(stored=events(b'{"v":1.50,"n":1e400}')).tracer()
    text = msgspec.json.encode(tracer.to_content("t", tracer.trace("t", "s", "0")))
    assert b'"data":{"v":1.50,"n":1e400}' in text


def test_an_event_that_one_meter_refuses_counts_nothing_there_and_says_why() -> None:
    (event,) = traced(Tables(stored=events(b'{"v":"many"}')))["events"]
    assert event["counts"] == []
    reason = "the value is not a number: many"
    assert event["rejections"] == [
        {"meter": "units", "version": 2, "in_force": False, "reason": reason}
    ]


def corrected(sent: Any, kind: str, data: bytes | None) -> list[Row]:
    """What a first correction of an event leaves: its body is taken back, another may count."""
    (row,) = sent.to_pylist()
    about = {"log": 0, "partition": 0, "revision": 1, "kind": kind, "author": "a", "reason": "r"}
    about |= {"request": "q", "at_log": 0, "at_partition": 0, "at_offset": 6, "at_index": 0}
    about |= {"corrected_at": row["ingested_at"]}
    after = [] if data is None else [row | about | {"sign": 1, "data": data}]
    return [row | about | {"sign": -1}, *after]


@pytest.mark.parametrize(
    ("sent", "amended", "reasons"),
    [
        (b'{"v":1}', b'{"v":"many"}', ["the value is not a number: many"]),
        (b'{"v":"many"}', b'{"v":1}', []),
        (b'{"v":"many"}', None, []),
    ],
)
def test_reasons_are_those_of_the_event_as_it_counts_now(
    sent: bytes, amended: bytes | None, reasons: list[str]
) -> None:
    stored = events(sent)
    kind = "void" if amended is None else "amend"
    found = traced(Tables(stored=stored, corrected=corrected(stored, kind, amended)))
    (event,) = found["events"]
    assert [one["reason"] for one in event["rejections"]] == reasons
    assert len(event["counts"]) == (amended == b'{"v":1}')
    assert found["state"] == ("voided" if amended is None else "counted")


def test_what_was_sent_for_an_open_replacement_is_held() -> None:
    stored = events(b'{"v":1}')
    place = stored.schema.get_field_index("extensions")
    name = pa.array([b'{"replacement":"r-1"}'], stored.schema.field(place).type)
    held = stored.set_column(place, "extensions", name)
    found = traced(Tables(stored=held))
    (event,) = found["events"]
    assert (found["state"], event["is_live"], event["counts"]) == ("held", False, [])
    assert event["event"]["replacement"] == "r-1"
    reverted = corrected(held, "replace", b'{"v":1}')[1:] + corrected(held, "revert", None)
    reverted[1]["revision"] = 2
    assert traced(Tables(stored=held, corrected=reverted))["state"] == "voided"


def test_a_rejection_is_in_force_from_the_start_of_its_version_until_before_its_end() -> None:
    noon = 1_772_366_400_000_000
    found = fold(events(b'{"v":"many"}'), aggregation="sum", value="$.v")
    (now,) = events(b'{"v":"many"}').to_pylist()
    for start, end, is_so in [(noon, noon + 1, True), (noon - 1, noon, False)]:
        (one,) = rejections_of(found, [EffectiveMeter(found.meter, start, end)], now)
        assert one["in_force"] == is_so


@pytest.mark.parametrize(("end", "state"), [(6, "unknown"), (9, "pending")])
def test_what_is_in_no_table_is_pending_only_while_some_partition_lags(
    end: int, state: str
) -> None:
    found = traced(Tables(end=end))
    assert found["state"] == state
    assert found.get("lag", 0) == end - 6


def test_an_event_is_pending_until_its_windows_are_written_too() -> None:
    found = traced(Tables(stored=events(b"{}"), next_offset=5))
    assert (found["state"], found["lag"], found["events"]) == ("pending", 1, [])


def test_an_event_that_arrives_while_it_is_looked_for_is_found() -> None:
    assert traced(Tables(arrives=events(b"{}")))["state"] == "counted"


def test_letters_are_conflicts_or_refusals() -> None:
    found = traced(Tables(kept=[letter("conflict"), letter("malformed")]))
    assert found["state"] == "refused"
    assert [one["kind"] for one in found["conflicts"]] == ["conflict"]
    assert [one["kind"] for one in found["refusals"]] == ["malformed"]


def test_a_counted_item_is_told_instead_of_a_value() -> None:
    (one,) = counts_of(fold(events(b'{"v":"anna"}'), aggregation="unique_count", value="$.v"), [])
    assert (one["value"], one["dimensions"], one["in_force"]) == ("anna", {}, False)
    (one,) = counts_of(fold(events(b"{}"), aggregation="count"), [])
    assert one["value"] == "1"


def test_a_version_is_in_force_from_its_start_until_before_its_end() -> None:
    noon = 1_772_366_400_000_000
    found = fold(events(b'{"v":10}'), aggregation="sum", value="$.v")
    for start, end, is_so in [(noon, noon + 1, True), (noon - 1, noon, False)]:
        (one,) = counts_of(found, [EffectiveMeter(found.meter, start, end)])
        assert (one["value"], one["in_force"]) == ("10", is_so)


@dataclass
class Ends:
    """A log that ends where it is told."""

    bounds: Mapping[int, tuple[int, int]]
    asked: dict[int, int] = field(default_factory=dict)

    def ends(self, log: Log) -> Mapping[int, tuple[int, int]]:  # noqa: ARG002
        return self.bounds

    def append_times_ms(self, log: Log, offsets: Mapping[int, int]) -> Mapping[int, int]:  # noqa: ARG002
        self.asked = dict(offsets)
        return {number: 1_000 * offset for number, offset in offsets.items()}


def test_all_before_the_first_uncounted_record_or_now_is_counted() -> None:
    ends = Ends({0: (0, 10), 1: (0, 4), 2: (3, 3), 3: (2, 5)})
    reader = ProgressReader(
        logs=lambda: [Log(0, "usage.events", "id", 4)],
        ends=ends,
        marks=lambda: {AT: Mark(7, 5_000_000), LogPartition(0, 1): Mark(4, 0)},
        now_ms=lambda: 99_000,
    )
    found = reader.read()
    assert [(p.next_offset, p.lag, p.time_max_us, p.complete_before_ms) for p in found] == [
        (7, 3, 5_000_000, 7_000),
        (4, 0, None, 99_000),
        (3, 0, None, 99_000),
        (2, 3, None, 2_000),
    ]
    assert ends.asked == {0: 7, 3: 2}
    total = total_content(found)
    assert (total["lag"], total["complete_before"]) == (6, "1970-01-01T00:00:02Z")
    assert total["partitions"][0] == to_content(found[0])
    assert to_content(found[0])["watermark"] == "1970-01-01T00:00:05Z"


def test_a_log_that_ends_before_what_was_counted_is_not_called_complete() -> None:
    reader = ProgressReader(
        logs=lambda: [Log(0, "usage.events", "id", 1)],
        ends=Ends({0: (0, 6)}),
        marks=lambda: {AT: Mark(7, 0)},
        now_ms=lambda: 99_000,
    )
    with pytest.raises(TransientError, match="0/0: counted up to 7, but the topic ends at 6"):
        reader.read()


@pytest.mark.parametrize(
    "text", ["", "0-0-1", "0-0-1-x", "0/0/1/0", "-1-0-1-0", "0-0-1-0 ", "٣-0-1-0"]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no position"):
        Position.from_text(text)


def test_a_position_reads_as_it_is_written() -> None:
    position = Position(LogPartition(2, 3), 1 << 50, 12)
    assert Position.from_text(str(position)) == position
