"""What one event may be, fault by fault."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ingest.event import Event, Reception, Refusal, nesting_of, parse_event, to_batch
from ingest.topic import EVENT_SCHEMA, decode_record, encode_record

NOW = datetime(2025, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
RECEPTION = Reception(NOW)
PLAIN = {"id": "1", "source": "gateway", "type": "call", "subject": "acme"}


def parse(**changes: Any) -> Event | list[Refusal]:
    attributes = {**PLAIN, **changes}
    kept = {name: value for name, value in attributes.items() if value is not ...}
    return parse_event(msgspec.json.encode(kept), RECEPTION)


def event(**changes: Any) -> Event:
    found = parse(**changes)
    assert isinstance(found, Event), found
    return found


def fields_refused(found: Event | list[Refusal]) -> list[str]:
    assert isinstance(found, list), found
    return [refusal.field for refusal in found]


def test_an_event_without_time_is_stamped_with_its_reception() -> None:
    assert (event().time, event().time_stamped) == (NOW, True)
    assert event(time=None).time_stamped


def test_data_is_stored_without_insignificant_white_space_and_otherwise_as_sent() -> None:
    raw = b'{"id":"1","source":"s","type":"t","subject":"x","data": {"a" : 1.50, "b":[1e400, -0]}}'
    found = parse_event(raw, RECEPTION)
    assert isinstance(found, Event)
    assert found.data == b'{"a":1.50,"b":[1e400,-0]}'


@pytest.mark.parametrize("data", [None, ...])
def test_null_data_is_no_data(data: Any) -> None:
    assert event(data=data).data == b""


@pytest.mark.parametrize("name", ["id", "source", "type", "subject"])
@pytest.mark.parametrize(
    "value", [..., None, "", 5, ["x"], "x" * 257, "a\x00b", "a\nb", "a\x7f", "a\x85", "a\x1fb"]
)
def test_a_name_must_be_present_short_and_printable(name: str, value: Any) -> None:
    assert fields_refused(parse(**{name: value})) == [name]


@pytest.mark.parametrize("value", ["x" * 256, "ü" * 256, " ", "a b", "\U0001f600", "\u2028"])
def test_a_name_may_be_any_other_text_of_256_characters(value: str) -> None:
    assert event(subject=value).subject == value


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-11-23T11:00:00Z", datetime(2025, 11, 23, 11, tzinfo=UTC)),
        ("2025-11-23t11:00:00z", datetime(2025, 11, 23, 11, tzinfo=UTC)),
        ("2025-11-23T16:30:00+05:30", datetime(2025, 11, 23, 11, tzinfo=UTC)),
        ("2025-11-23T11:00:00.5-00:00", datetime(2025, 11, 23, 11, 0, 0, 500_000, tzinfo=UTC)),
        ("2025-11-23T11:00:00.123456789Z", datetime(2025, 11, 23, 11, 0, 0, 123_457, tzinfo=UTC)),
    ],
)
def test_a_time_is_any_rfc_3339_time(text: str, moment: datetime) -> None:
    assert (event(time=text).time, event(time=text).time_stamped) == (moment, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-11-23",
        "2025-11-23T11:00:00",
        "2025-11-23T11:00Z",
        "2025-11-23T11:00:00+0100",
        "2025-11-23T11:00:60Z",
        "2025-02-29T11:00:00Z",
        "2025-11-23T24:00:00Z",
        "1763892000",
        "\u0662025-11-23T11:00:00Z",
        "0001-01-01T00:00:00+12:00",
        1763892000,
    ],
)
def test_any_other_time_is_refused(text: Any) -> None:
    assert fields_refused(parse(time=text)) == ["time"]


@pytest.mark.parametrize(
    ("age", "is_taken"),
    [
        (timedelta(seconds=-300), True),
        (timedelta(seconds=-301), False),
        (timedelta(days=400), True),
        (timedelta(days=400, seconds=1), False),
    ],
)
def test_a_time_lies_between_400_days_ago_and_5_minutes_ahead(
    age: timedelta, is_taken: bool
) -> None:
    assert isinstance(parse(time=(NOW - age).isoformat()), Event) is is_taken


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (timedelta(days=401), "more than 400 days in the past"),
        (timedelta(minutes=-6), "more than 5 minutes in the future"),
    ],
)
def test_a_time_out_of_range_is_told_in_days_and_minutes(age: timedelta, reason: str) -> None:
    found = parse(time=(NOW - age).isoformat())
    assert isinstance(found, list)
    assert [refusal.reason for refusal in found] == [reason]


def test_a_tenant_open_for_history_may_send_any_age_but_not_the_future() -> None:
    history = Reception(NOW, open_for_history=True)
    old = msgspec.json.encode({**PLAIN, "time": "1970-01-01T00:00:00Z"})
    assert isinstance(parse_event(old, history), Event)
    for time in ("1969-12-31T23:59:59Z", (NOW + timedelta(minutes=6)).isoformat()):
        assert fields_refused(
            parse_event(msgspec.json.encode({**PLAIN, "time": time}), history)
        ) == ["time"]


@pytest.mark.parametrize("version", ["0.3", "1", 1.0, ""])
def test_only_specversion_1_0_is_taken(version: Any) -> None:
    assert fields_refused(parse(specversion=version))[0] == "specversion"
    assert event(specversion="1.0")
    assert event(specversion=None)


def test_unknown_attributes_are_kept_in_a_fixed_order() -> None:
    found = event(traceparent="00-ab", zone=3, flag=True, dataschema=None)
    assert found.extensions == b'{"flag":true,"traceparent":"00-ab","zone":3}'


@pytest.mark.parametrize(
    ("name", "value"), [("customerId", "x"), ("a_b", 1), ("x", 1.5), ("x", {}), ("x" * 65, 1)]
)
def test_an_extension_is_a_scalar_under_a_cloudevents_name(name: str, value: Any) -> None:
    assert fields_refused(parse(**{name: value})) == [name[:64]]


def test_a_content_type_other_than_json_is_refused_and_a_special_one_kept() -> None:
    assert event(datacontenttype="application/json").extensions == b""
    kept = event(datacontenttype="application/vnd.acme+json").extensions
    assert kept == b'{"datacontenttype":"application/vnd.acme+json"}'
    assert fields_refused(parse(datacontenttype="text/plain")) == ["datacontenttype"]
    assert fields_refused(parse(data_base64="aGk=")) == ["data_base64"]


@pytest.mark.parametrize(
    "data",
    [b"NaN", b"Infinity", b"-Infinity", b"01", b"1.", b"[1,]", b"{'a':1}", b'"\\x"', b"1 2"],
)
def test_data_that_is_not_json_is_refused(data: bytes) -> None:
    raw = b'{"id":"1","source":"s","type":"t","subject":"x","data":%b}' % data
    assert fields_refused(parse_event(raw, RECEPTION)) == [""]


@pytest.mark.parametrize("raw", [b'"\xff"', b'{"\xed\xa0\x80":1}', b'"\xc3"'])
def test_bytes_that_are_not_utf_8_are_refused_even_inside_data(raw: bytes) -> None:
    event_bytes = b'{"id":"1","source":"s","type":"t","subject":"x","data":%b}' % raw
    assert fields_refused(parse_event(event_bytes, RECEPTION)) == [""]


@pytest.mark.parametrize("raw", [b"[]", b"5", b"null", b"", b"{", b'{"id":"\\ud800"}'])
def test_what_is_no_event_at_all_is_refused_with_a_reason(raw: bytes) -> None:
    found = parse_event(raw, RECEPTION)
    assert isinstance(found, list)
    assert all(refusal.reason for refusal in found)


def test_nesting_counts_brackets_outside_strings() -> None:
    assert nesting_of(b'{"a":"[[[[","b\\"[":[1,{"c":2}]}') == 3
    assert isinstance(parse_event(_nested(32), RECEPTION), Event)
    assert fields_refused(parse_event(_nested(33), RECEPTION)) == ["data"]
    assert fields_refused(parse_event(_nested(100_000), RECEPTION)) == [""]


def _nested(depth: int) -> bytes:
    data = b"[" * depth + b"]" * depth
    return b'{"id":"1","source":"s","type":"t","subject":"x","data":%b}' % data


def test_an_event_over_a_mebibyte_is_refused() -> None:
    assert isinstance(parse(data="x" * (2**20 - 2)), Event)
    assert fields_refused(parse(data="x" * (2**20 - 1))) == ["data"]


def test_the_last_of_a_repeated_key_counts() -> None:
    raw = b'{"id":"1","id":"2","source":"s","type":"t","subject":"x"}'
    found = parse_event(raw, RECEPTION)
    assert isinstance(found, Event)
    assert found.id == "2"


def test_every_fault_of_an_event_is_named_at_once() -> None:
    found = parse(id="", source=..., time="now", data_base64="eA==")
    assert fields_refused(found) == ["id", "source", "time", "data_base64"]


def test_events_become_a_batch_that_a_record_carries() -> None:
    events = [event(id="1", time="2025-11-23T11:00:00Z"), event(id="2", data={"a": 1})]
    batch = decode_record(encode_record(to_batch("acme", events)))
    assert batch.schema.equals(EVENT_SCHEMA)
    assert batch.column("id").to_pylist() == ["1", "2"]
    assert batch.column("time").to_pylist()[1] == NOW
    assert batch.column("data").to_pylist() == [b"", b'{"a":1}']
