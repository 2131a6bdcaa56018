"""What an event is worth, and which events are worth nothing and why."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from pipelines.extract import Column, Kind, extract
from pipelines.fold import ActiveMeter, Fold, fold_all
from pipelines.meter import MeterDefinition
from pipelines.record import COUNTED_SCHEMA

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def events(*texts: bytes, minutes: int = 0) -> Any:
    rows = [
        {
            "tenant": "t",
            "id": str(number),
            "source": "s",
            "type": "call",
            "subject": "c",
            "time": NOON + timedelta(minutes=number * minutes),
            "time_stamped": False,
            "data": text,
            "extensions": b"",
            "ingested_at": NOON,
            "offset": 5,
            "index": number,
            "identity": number.to_bytes(16, "big"),
        }
        for number, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=COUNTED_SCHEMA)


def fold(table: Any, **fields: Any) -> Fold:
    definition = MeterDefinition.model_validate({"key": "m", "event_type": "call"} | fields)
    (found,) = fold_all(table, [ActiveMeter(1, "t", 1, definition)])
    return found


def total(found: Fold) -> Decimal:
    return sum((worth[1] for worth in found.worth_by_key().values()), Decimal(0))


def test_decimals_are_exact_to_the_last_place() -> None:
    found = fold(
        events(b'{"v":0.1}', b'{"v":"0.2"}', b'{"v":1e-12}'), aggregation="sum", value="$.v"
    )
    assert total(found) == Decimal("0.300000000001")
    assert not found.rejections


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"v":"abc"}', "not a number"),
        (b'{"v":"NaN"}', "not a number"),
        (b'{"v":true}', "not a number"),
        (b'{"v":[1]}', "not a number"),
        (b'{"v":" 1"}', "not a number"),
        (b'{"v":null}', "missing"),
        (b'{"w":1}', "missing"),
        (b"[]", "missing"),
        (b"", "missing"),
        (b'{"v":0.0000000000001}', "more than 12 decimals"),
        (b'{"v":1e400}', "more than 18 digits"),
        (b'{"v":1000000000000000000}', "more than 18 digits"),
        (b'{"v":-1000000000000000000}', "more than 18 digits"),
    ],
)
def test_a_value_that_cannot_be_used_is_rejected_with_its_reason_and_the_rest_counts(
    text: bytes, reason: str
) -> None:
    found = fold(events(b'{"v":1}', text, b'{"v":2}'), aggregation="sum", value="$.v")
    assert total(found) == 3
    (rejection,) = found.rejections
    assert (rejection.offset, rejection.index) == (5, 1)
    assert reason in rejection.reason


@pytest.mark.parametrize("text", [b'{"v":" 1"}', b'{"v":"+1"}', b'{"v":".5"}', b'{"v":"1."}'])
def test_a_verdict_does_not_depend_on_the_other_events_of_a_batch(text: bytes) -> None:
    alone = fold(events(text), aggregation="sum", value="$.v")
    beside = fold(events(text, b'{"v":"x"}'), aggregation="sum", value="$.v")
    assert total(alone) == total(beside)
    assert len(beside.rejections) == len(alone.rejections) + 1


def test_minus_zero_and_the_greatest_values_count() -> None:
    top = 10**18 - 1
    found = fold(events(b'{"v":-0}', b'{"v":%d}' % top), aggregation="sum", value="$.v")
    assert total(found) == top


@pytest.mark.parametrize("sign", ["", "-"])
def test_the_greatest_value_with_all_decimals_counts_on_either_side_of_zero(sign: str) -> None:
    text = f"{sign}{'9' * 18}.{'9' * 12}"
    found = fold(events(b'{"v":%s}' % text.encode()), aggregation="sum", value="$.v")
    assert not found.rejections
    assert [worth[1] for worth in found.worth_by_key().values()] == [Decimal(text)]


def test_windows_are_half_open_and_start_at_their_multiples() -> None:
    found = fold(events(b"", b"", b"", b"", minutes=5), aggregation="count", window="15m")
    starts = {key[3]: worth[0] for key, worth in found.worth_by_key().items()}
    noon_us = int(NOON.timestamp()) * 1_000_000
    assert starts == {noon_us: 3, noon_us + 900_000_000: 1}


def test_max_keeps_a_count_per_value_so_that_any_event_can_be_taken_back() -> None:
    texts = (b'{"v":-5}', b'{"v":-3.50}', b'{"v":"-3.5"}')
    found = fold(events(*texts), aggregation="max", value="$.v")
    assert {key[2]: worth for key, worth in found.worth_by_key().items()} == {
        "-5": (1, Decimal(0)),
        "-3.5": (2, Decimal(0)),
    }


def test_latest_keeps_each_sample_by_time_and_identity_with_its_value() -> None:
    found = fold(events(b'{"v":7}', b'{"v":5}', minutes=1), aggregation="latest", value="$.v")
    noon_us = int(NOON.timestamp()) * 1_000_000
    assert {key[2]: worth for key, worth in found.worth_by_key().items()} == {
        f"{noon_us}:{0:032x}": (1, Decimal(7)),
        f"{noon_us + 60_000_000}:{1:032x}": (1, Decimal(5)),
    }


def test_unique_count_keeps_each_item_with_its_events() -> None:
    texts = (b'{"v":"a"}', b'{"v":"a"}', b'{"v":7}', b'{"v":""}', b"{}")
    found = fold(events(*texts), aggregation="unique_count", value="$.v")
    assert {key[2]: worth[0] for key, worth in found.worth_by_key().items()} == {"a": 2, "7": 1}
    assert len(found.rejections) == 2


def test_dimensions_are_text_by_path_and_missing_ones_are_empty() -> None:
    found = fold(
        events(b'{"a":{"b":"x\\u00e9"}}', b'{"a":1}', b'{"a":{"b":2.50}}'),
        aggregation="count",
        dimensions={"z": "$.a.b"},
    )
    assert {key[1] for key in found.worth_by_key()} == {'{"z":"xé"}', '{"z":""}', '{"z":"2.50"}'}


@pytest.mark.parametrize(
    ("text", "filter_text", "matches"),
    [
        (b'{"a":"x"}', 'data.a == "x"', True),
        (b'{"a":"x"}', "data.a == 'x'", True),
        (b'{"a":"y"}', 'data.a == "x"', False),
        (b'{"a":1.0}', "data.a == 1", True),
        (b'{"a":"1"}', "data.a == 1", False),
        (b'{"a":false}', "data.a == false", True),
        (b'{"a":0}', "data.a == false", False),
    ],
)
def test_a_filter_compares_kind_and_value(text: bytes, filter_text: str, matches: bool) -> None:
    found = fold(events(text), aggregation="count", filter=filter_text)
    assert bool(found.worth_by_key()) is matches
    assert not found.rejections


@pytest.mark.parametrize("filter_text", ["data.a", "!(data.a == 2)", "data.n.startsWith('x')"])
def test_an_event_without_what_the_filter_asks_is_left_out_and_not_rejected(
    filter_text: str,
) -> None:
    texts = (b"{}", b'{"a":null,"n":null}', b'{"a":true,"n":"xx"}')
    found = fold(events(*texts), aggregation="count", filter=filter_text)
    assert [worth[0] for worth in found.worth_by_key().values()] == [1]
    assert not found.rejections


def test_an_event_for_which_the_filter_is_neither_true_nor_false_is_rejected() -> None:
    found = fold(events(b'{"a":1}', b'{"a":true}'), aggregation="count", filter="data.a")
    assert [worth[0] for worth in found.worth_by_key().values()] == [1]
    assert [one.reason for one in found.rejections] == ["the filter gives 1, not true or false"]


def test_an_event_that_the_filter_leaves_out_is_not_rejected_for_its_value() -> None:
    found = fold(events(b'{"a":2}'), aggregation="sum", value="$.v", filter="data.a == 1")
    assert not found.rejections
    assert not found.worth_by_key()


def test_an_overlong_dimension_is_rejected() -> None:
    found = fold(events(b'{"d":"%s"}' % (b"x" * 257)), aggregation="count", dimensions={"d": "$.d"})
    assert "longer than 256" in found.rejections[0].reason
    assert not found.worth_by_key()


def test_events_of_other_tenants_and_types_are_left_alone() -> None:
    definition = MeterDefinition(key="m", event_type="call", aggregation="count")
    assert fold_all(events(b""), [ActiveMeter(1, "other", 1, definition)]) == []


@pytest.mark.parametrize("names", [("$.class", "$.__init__"), ("$.a", "$.a.b", "$.a.b.c")])
def test_paths_may_be_called_anything_and_lie_within_each_other(names: tuple[str, ...]) -> None:
    text = b'{"class":1,"__init__":2,"a":{"b":{"c":3}}}'
    wanted = {
        "$.class": b"1",
        "$.__init__": b"2",
        "$.a": b'{"b":{"c":3}}',
        "$.a.b": b'{"c":3}',
        "$.a.b.c": b"3",
    }
    found = extract([text], dict.fromkeys(names, "raw"))
    assert {name: column.values for name, column in found.items()} == {
        name: [wanted[name]] for name in names
    }


def test_a_text_that_is_not_json_is_missing_everywhere_and_moves_no_other() -> None:
    found = extract([b'{"a":1}', b"\xff{", b"1,2", b'{"a":3}'], {"$.a": "number"})
    assert found == {"$.a": Column("raw", [b"1", None, None, b"3"])}


def test_what_is_as_expected_comes_as_it_is_and_all_else_as_json() -> None:
    kinds: dict[str, Kind] = {"$.n": "number", "$.t": "text"}
    plain = extract([b'{"n":1,"t":"a"}', b"{}"], kinds)
    assert plain == {"$.n": Column("number", [1, None]), "$.t": Column("text", ["a", None])}
    mixed = extract([b'{"n":1,"t":"a"}', b'{"n":1.0}'], kinds)
    assert mixed == {"$.n": Column("raw", [b"1", b"1.0"]), "$.t": Column("raw", [b'"a"', None])}


def test_a_text_and_a_number_that_read_the_same_are_one_dimension_and_one_item() -> None:
    texts = (b'{"v":"7"}', b'{"v":7}')
    found = fold(events(*texts), aggregation="unique_count", value="$.v")
    assert [worth[0] for worth in found.worth_by_key().values()] == [2]
    found = fold(events(*texts), aggregation="count", dimensions={"v": "$.v"})
    assert {key[1]: worth[0] for key, worth in found.worth_by_key().items()} == {'{"v":"7"}': 2}


def test_many_dimensions_with_many_values_stay_apart() -> None:
    texts = [b'{"a":"%d","b":"%d","c":"%d"}' % (n % 7, n % 11, n % 13) for n in range(2000)]
    found = fold(
        events(*texts), aggregation="count", dimensions={"x": "$.a", "y": "$.b", "z": "$.c"}
    )
    worths = found.worth_by_key()
    assert len(worths) == 7 * 11 * 13
    assert sum(worth[0] for worth in worths.values()) == 2000
