"""History is counted once, however the work is divided and wherever it is interrupted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from pipelines.backtest import run_backtest
from pipelines.cut import AsOf, EffectiveMeter, Ranges
from pipelines.edges import Audited, RawRead
from pipelines.fold import ActiveMeter, Rejection
from pipelines.history import Seeder
from pipelines.meter import MeterDefinition
from pipelines.position import LogPartition
from pipelines.question import TooMuchError
from pipelines.record import SIGNED_SCHEMA
from pipelines.seeding import Seeding
from pipelines.segment import HISTORY_SEGMENT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, SECOND = LogPartition(1, 0), LogPartition(1, 1)
END = 40


def stored(seed: int, count: int = 400) -> list[dict[str, Any]]:
    """Return events of three days in two partitions, a tenth of them taken back later."""
    rnd = Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        at = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=rnd.randrange(3 * 86_400))
        value = rnd.choice([str(Decimal(rnd.randrange(10**6)) / 1000), "no number"])
        row: dict[str, Any] = {
            "tenant": "t", "id": str(number), "source": "s", "type": rnd.choice("ab"),
            "subject": f"c{rnd.randrange(5)}", "time": at, "time_stamped": False,
            "data": b'{"v":"%s"}' % value.encode(), "extensions": b"", "ingested_at": at,
            "offset": rnd.randrange(END + 20), "index": number,
            "identity": number.to_bytes(16, "big"), "sign": 1,
            "at": rnd.choice([FIRST, SECOND]),
        }  # fmt: skip
        rows.append(row)
        if rnd.random() < 0.1:
            rows.append(row | {"sign": -1, "offset": min(END + 19, row["offset"] + 3)})
    return rows


@dataclass
class FakeTables:
    """Events in a list; rows of windows by their key, as ReplacingMergeTree keeps them."""

    rows: list[dict[str, Any]]
    windows: dict[Any, dict[str, Any]] = field(default_factory=dict)
    rejections: dict[Any, str] = field(default_factory=dict)
    writes: int = 0

    def _of(self, read: RawRead, ranges: Ranges) -> list[dict[str, Any]]:
        return [
            row
            for row in self.rows
            if row["type"] in read.event_types
            and (read.subjects is None or row["subject"] in read.subjects)
            and any(a <= us(row["time"]) < b for a, b in read.intervals)
            and row["at"] in ranges
            and ranges[row["at"]][0] <= row["offset"] < ranges[row["at"]][1]
        ]

    def raw(self, read: RawRead, ranges: Ranges, audited: Audited | None) -> Iterator[Any]:
        del audited
        rows = [{k: v for k, v in row.items() if k != "at"} for row in self._of(read, ranges)]
        for start in range(0, len(rows), 17):
            yield pa.Table.from_pylist(rows[start : start + 17], schema=SIGNED_SCHEMA)

    def voids(self, read: RawRead, last_audit: int) -> Iterator[tuple[int, LogPartition, Any]]:
        del read
        assert not last_audit
        yield from ()

    def counts(
        self, read: RawRead, ranges: Ranges, last_audit: int, step_us: int
    ) -> list[tuple[int, int]]:
        assert not last_audit
        found: dict[int, int] = {}
        for row in self._of(read, ranges):
            step = us(row["time"]) // step_us * step_us
            found[step] = found.get(step, 0) + 1
        return sorted(found.items())

    def subjects(self, read: RawRead, ranges: Ranges, last_audit: int) -> list[tuple[str, int]]:
        assert not last_audit
        names = [row["subject"] for row in self._of(read, ranges)]
        return [(name, names.count(name)) for name in sorted(set(names))]

    def write(self, at: LogPartition, windows: Any, rejections: Sequence[Rejection]) -> None:
        self.writes += 1
        for row in windows.to_pylist():
            names = ("subject", "dimensions", "item", "window_start", "segment", "version")
            key = (at, *(row[name] for name in names))
            assert self.windows.get(key, row) == row, "one key, two values"
            self.windows[key] = row
        for one in rejections:
            self.rejections[at, one.offset, one.index] = one.reason


@dataclass
class FakeBook:
    seeded_us: int | None = None
    done: int = 0
    is_live: bool = False

    def begin(self, seeding: Seeding, first_us: int, events_total: int) -> None:
        del seeding, events_total
        self.seeded_us = first_us if self.seeded_us is None else self.seeded_us

    def advance(self, seeding: Seeding, seeded_us: int, events_done: int) -> None:
        del seeding
        self.seeded_us, self.done = max(seeded_us, self.seeded_us or seeded_us), events_done

    def finish(self, seeding: Seeding) -> None:
        del seeding
        self.is_live = True


def us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def seeding(**fields: Any) -> Seeding:
    shape = {"key": "m", "event_types": ["a", "b"], "aggregation": "sum", "value": "$.v"}
    definition = MeterDefinition.model_validate(shape | fields)
    return Seeding(ActiveMeter(1, "t", 1, definition), None, {FIRST: END, SECOND: END - 9})


def seeder(tables: FakeTables, book: FakeBook, piece: int, stops: int = 10**6) -> Seeder:
    progress = {FIRST: END, SECOND: END}
    limit = tables.writes + stops
    return Seeder(tables, book, lambda: progress, lambda: tables.writes >= limit, piece)


def totals(tables: FakeTables) -> dict[tuple[str, datetime], Decimal]:
    found: dict[tuple[str, datetime], Decimal] = {}
    for row in tables.windows.values():
        assert row["segment"] == HISTORY_SEGMENT
        key = row["subject"], row["window_start"]
        found[key] = found.get(key, Decimal(0)) + row["sum"]
    return {key: value for key, value in found.items() if value}


def recount(rows: list[dict[str, Any]], asked: Seeding) -> dict[tuple[str, datetime], Decimal]:
    size = us(EPOCH + asked.meter.definition.window_size)
    found: dict[tuple[str, datetime], Decimal] = {}
    for row in rows:
        if row["offset"] >= asked.activated[row["at"]] or b"no number" in row["data"]:
            continue
        start = EPOCH + timedelta(microseconds=us(row["time"]) // size * size)
        value = Decimal(row["data"].decode().split('"')[3]) * row["sign"]
        key = row["subject"], start
        found[key] = found.get(key, Decimal(0)) + value
    return {key: value for key, value in found.items() if value}


@pytest.mark.parametrize("window", ["1m", "15m", "1h", "1d"])
@pytest.mark.parametrize("piece", [1, 20, 10**6])
def test_history_is_all_below_the_activation_however_it_is_divided(window: str, piece: int) -> None:
    rows = stored(1)
    tables, book, asked = FakeTables(rows), FakeBook(), seeding(window=window)
    assert seeder(tables, book, piece).seed(asked)
    assert book.is_live
    assert totals(tables) == recount(rows, asked)
    bad = {
        (row["at"], row["offset"], row["index"])
        for row in rows
        if b"no number" in row["data"] and row["sign"] == 1
        and row["offset"] < asked.activated[row["at"]]
    }  # fmt: skip
    assert set(tables.rejections) == bad


def test_what_was_interrupted_goes_on_and_writes_the_same_rows() -> None:
    rows = stored(2)
    whole, book = FakeTables(rows), FakeBook()
    assert seeder(whole, book, 30).seed(seeding())
    tables, book = FakeTables(rows), FakeBook()
    rounds = 0
    while not book.is_live:
        rounds += 1
        left = replace(seeding(), seeded_us=book.seeded_us, events_done=book.done)
        seeder(tables, book, 30, stops=4).seed(left)
        assert rounds < 100
    assert rounds > 3
    assert tables.windows == whole.windows
    # Another seeder that knows nothing of it, in other pieces: the same rows again.
    assert seeder(tables, FakeBook(), 7).seed(seeding())
    assert tables.windows == whole.windows


def test_nothing_is_seeded_before_all_below_the_activation_is_stored() -> None:
    tables, book = FakeTables(stored(3)), FakeBook()
    waiting = Seeder(tables, book, lambda: {FIRST: END, SECOND: END - 10})
    assert not waiting.seed(seeding())
    assert (tables.writes, book.is_live) == (0, False)


def test_a_version_is_read_raw_until_it_is_live_and_as_of_cuts_before_its_activation() -> None:
    meter = seeding().meter
    as_of = AsOf({FIRST: 100, SECOND: 50}, {FIRST: 90, SECOND: 50})

    def is_raw(activated: dict[LogPartition, int], asked: AsOf | None, *, is_live: bool) -> bool:
        return EffectiveMeter(meter, 0, 1, activated, is_live).is_raw(asked)

    assert not is_raw({}, as_of, is_live=True)
    assert not is_raw({FIRST: 100, SECOND: 50}, as_of, is_live=True)
    assert is_raw({FIRST: 100, SECOND: 50}, as_of, is_live=False)
    assert is_raw({FIRST: 60, SECOND: 51}, as_of, is_live=True)
    assert is_raw({FIRST: 60, LogPartition(2, 0): 7}, as_of, is_live=True)
    assert not is_raw({FIRST: 60, SECOND: 51}, None, is_live=True)
    assert is_raw({FIRST: 60, SECOND: 51}, None, is_live=False)


def test_a_backtest_says_what_would_count_and_why_events_would_not() -> None:
    rows = stored(4)
    found = run_backtest(FakeTables(rows), seeding().meter, {FIRST: 99, SECOND: 99}, (None, None))
    expected: dict[str, Decimal] = {}
    for row in rows:
        if b"no number" not in row["data"]:
            value = Decimal(row["data"].decode().split('"')[3]) * row["sign"]
            expected[row["subject"]] = expected.get(row["subject"], Decimal(0)) + value
    assert found.value_by_subject == expected
    times: dict[str, int] = {}
    for row in rows:
        if b"no number" in row["data"]:
            times[row["id"]] = times.get(row["id"], 0) + row["sign"]
    content = found.to_content({"c0": Decimal(1)})
    assert 0 in times.values(), "some bad event was taken back"
    assert content["events"] == sum(row["sign"] for row in rows)
    assert content["rejected"] == sum(times.values())
    [rejection] = content["rejections"]
    assert rejection["reason"] == "the value is not a number: no number"
    assert rejection["events"] == sum(times.values())
    assert times[rejection["example"]["id"]] == 1
    assert content["subjects"][0]["difference"] == f"{(expected['c0'] - 1).normalize():f}"


def test_a_backtest_names_no_reason_of_events_that_were_all_taken_back() -> None:
    (row,) = [row for row in stored(4) if row["sign"] == 1][:1]
    bad = row | {"data": b'{"v":"no number"}'}
    amended = [bad | {"sign": -1}, row | {"data": b'{"v":"2"}'}]
    found = run_backtest(
        FakeTables([bad, *amended]), seeding().meter, {FIRST: 99, SECOND: 99}, (None, None)
    )
    content = found.to_content(None)
    assert (content["events"], content["rejected"], content["rejections"]) == (1, 0, [])
    assert content["subjects"] == [{"subject": row["subject"], "value": "2"}]


def test_a_backtest_of_too_much_is_refused_with_how_much_there_is() -> None:
    ends = {FIRST: 99, SECOND: 99}
    with pytest.raises(TooMuchError, match="events are stored of what it would count"):
        run_backtest(FakeTables(stored(5)), seeding().meter, ends, (None, None), events_max=10)
