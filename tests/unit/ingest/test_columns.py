"""The fast way over a whole request decides exactly as the rule for one event does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.columns import (
    Columns,
    Decoded,
    MalformedBodyError,
    TooManyEventsError,
    _decode_exactly,
    _plain_columns,
    decode_events,
)
from ingest.event import NAMES, Event, Reception, microseconds, parse_event, parse_time
from ingest.scanning import TIME

NOW = datetime(2025, 11, 23, 12, tzinfo=UTC)
RECEPTION = Reception(NOW)


def decode(body: bytes, shape: str = "many") -> Decoded:
    return decode_events(body, shape, "acme", RECEPTION, 1_000)


def plain(number: int, **changes: Any) -> dict[str, Any]:
    moment = NOW - timedelta(seconds=number, microseconds=number)
    time = moment.isoformat().replace("+00:00", "Z" if number % 2 else "+00:00")
    return {
        "specversion": "1.0",
        "id": f"id-{number}",
        "source": "gateway",
        "type": "call",
        "subject": f"customer {number % 3}",
        "time": time,
        "data": {"tokens": number, "path": "/v1 x"},
        **changes,
    }


_names = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["a", "\x7f", "\x85", "\u00a0", "é", "a\\b", '"', "x" * 256, "x" * 257, ""]),
)
_times = st.sampled_from(
    [
        None,
        "2025-11-23T11:59:59Z",
        "2025-11-23 11:59:59Z",
        "2025-11-23t11:59:59z",
        "2025-11-23T11:59:59.123456789Z",
        "2025-11-23T11:59Z",
        "2025-11-23T11:59+01:00:00",
        "2025-11-23T11:59:59.5+02:00",
        "2025-11-23T11:59:59+0200",
        "2025-11-23T11:59:59",
        "2025-11-23T11:59:59.+02:00",
        "2025-11-23T11:59:60Z",
        "2025-11-23T12:05:00Z",
        "2025-11-23T12:05:01Z",
        "2024-01-01T00:00:00Z",
        "not a time but long enough",
    ]
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
_odd = st.fixed_dictionaries(
    {},
    optional={
        "id": _names,
        "source": _names,
        "type": _names,
        "subject": _names,
        "time": _times,
        "data": _json,
        "specversion": st.sampled_from(["1.0", "0.3", None]),
        "datacontenttype": st.sampled_from([None, "application/json", "a/b+json", "text/xml"]),
        "ext": st.integers() | st.text(max_size=3),
    },
)


@settings(max_examples=80, deadline=None)
@given(
    odd=st.lists(_odd, min_size=1, max_size=3),
    filler=st.sampled_from([0, 3]),
    indent=st.sampled_from([-1, 0, 2]),
    shape=st.sampled_from(["many", "lines", "any"]),
)
def test_a_request_is_decided_as_its_events_would_be_one_by_one(
    odd: list[dict[str, Any]], filler: int, indent: int, shape: str
) -> None:
    events = [plain(number) for number in range(filler)]
    events += [plain(1000 + place, **changes) for place, changes in enumerate(odd)]
    texts = [msgspec.json.encode(one) for one in events]
    if shape == "lines":
        spaced = [msgspec.json.format(text, indent=min(indent, 0)) for text in texts]
        body = b"\r\n".join(spaced)
    else:
        body = msgspec.json.format(b"[" + b",".join(texts) + b"]", indent=indent)
    _assert_same(decode(body, shape), texts)


def _assert_same(decoded: Decoded, texts: list[bytes]) -> None:
    verdicts = [parse_event(text, RECEPTION, index) for index, text in enumerate(texts)]
    good = [verdict for verdict in verdicts if isinstance(verdict, Event)]
    refusals = [one for verdict in verdicts if isinstance(verdict, list) for one in verdict]
    columns = decoded.columns
    assert decoded.refusals == refusals
    assert _values(columns) == [
        (
            *(getattr(event, name).encode() for name in NAMES),
            event.data,
            event.extensions,
            microseconds(event.time),
            event.time_stamped,
        )
        for event in good
    ]
    if refusals:
        taken = [place for place, one in enumerate(verdicts) if isinstance(one, Event)]
        assert decoded.indexes == taken


def _values(columns: Columns) -> list[tuple[Any, ...]]:
    """Return each event's names, data, extensions, time, and whether that was stamped."""
    text = bytes(columns.text)
    return [
        (*(text[row[2 * place] : row[2 * place + 1]] for place in range(1, 7)), *row[TIME:])
        for row in columns.rows.tolist()
    ]


_PIECES = [
    *(bytes([byte]) for byte in b'"\\{}[]:,0123456789-+.eEtfnuTZ /\n\t\r\x00\x1f\x7f\xc2\x85\xff'),
    b"null", b"true", b"1.0", b"\\u00e9", b"\\ud800", b"\\n", b'"id":', b'"data":', b'"a":1,',
    b'"time":null', b'"datacontenttype":"application/json",', b"1e5", b"-0", b"01", b"[[]]", b"{}",
]  # fmt: skip


@settings(max_examples=1_000, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 2), st.sampled_from(_PIECES)), max_size=3
    ),
    shape=st.sampled_from(["one", "many", "lines"]),
    indent=st.sampled_from([-1, 0, 1]),
)
def test_a_damaged_body_is_decided_as_the_rule_decides(
    edits: list[tuple[float, int, bytes]], shape: str, indent: int
) -> None:
    data: dict[str, Any] = {"n": [1, -2.5e3, True, None, "\u00e9\n", {}], "s": {"t": []}}
    texts = [msgspec.json.encode(plain(number, data=data)) for number in range(2)]
    texts = [msgspec.json.format(text, indent=min(indent, 0)) for text in texts]
    body = {"one": texts[0], "lines": b"\n".join(texts)}.get(shape)
    body = body or msgspec.json.format(b"[" + b",".join(texts) + b"]", indent=indent)
    for where, cut, piece in edits:
        at = round(where * len(body))
        body = body[:at] + piece + body[at + cut :]
    plainly = _plain_columns(body, shape, "acme", RECEPTION, 1_000)
    if plainly is None:
        return
    exactly = _decode_exactly(body, shape, "acme", RECEPTION, 1_000)
    assert not exactly.refusals
    assert _values(plainly) == _values(exactly.columns)


@given(
    moment=st.datetimes(datetime(1970, 1, 1), datetime(2025, 11, 23)),  # noqa: DTZ001
    fraction=st.text("0123456789", max_size=10).map(lambda digits: f".{digits}" if digits else ""),
    zone=st.sampled_from(["Z", "+00:00", "-00:00", "+05:30", "-11:45", "+23:59"]),
)
def test_a_time_is_read_as_the_rule_reads_it(moment: datetime, fraction: str, zone: str) -> None:
    text = f"{moment.replace(microsecond=0).isoformat()}{fraction}{zone}"
    body = msgspec.json.encode(plain(1, time=text))
    history = Reception(NOW, open_for_history=True)
    columns = _plain_columns(body, "one", "acme", history, 1)
    expected = parse_time(text)
    assert expected is not None
    if columns is not None:
        assert columns.rows[0, TIME] == microseconds(expected)
    else:
        assert len(fraction) == 11 or microseconds(expected) < 0


def _never(*_arguments: Any) -> Any:
    raise AssertionError("the exact way was taken")


@pytest.mark.parametrize("count", [1, 300])
@pytest.mark.parametrize("shape", ["many", "lines"])
def test_plain_requests_take_the_fast_way(
    count: int, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.event.parse_event", _never)
    texts = [
        msgspec.json.encode(plain(number, data={"text": 'a "quoted" \u00e9', "none": None}))
        for number in range(count)
    ]
    body = b"[" + b",".join(texts) + b"]" if shape == "many" else b"\n".join(texts)
    assert len(decode(body, shape).columns) == count


@pytest.mark.parametrize("others", [{}, {"data": {"a": [{"b": "\n{["}]}}, {"data": None}], ids=str)
@pytest.mark.parametrize(("depth", "is_good"), [(32, True), (33, False)])
def test_how_deep_data_may_be_does_not_depend_on_its_neighbours(
    depth: int, is_good: bool, others: dict[str, Any]
) -> None:
    deep: Any = {}
    for _ in range(depth - 1):
        deep = {"a": deep}
    events = [plain(number, **others) for number in range(3)]
    decoded = decode(msgspec.json.encode([*events, plain(9, data=deep), *events]))
    assert not decoded.refusals if is_good else [each.index for each in decoded.refusals] == [3]


@pytest.mark.parametrize("count", [1, 300])
def test_deep_and_large_data_is_found_among_many_events(count: int) -> None:
    deep: Any = 1
    for _ in range(33):
        deep = [deep]
    for data in (deep, "x" * 2**20):
        events = [plain(number) for number in range(count)]
        events[-1]["data"] = data
        decoded = decode(msgspec.json.encode(events))
        assert [refusal.index for refusal in decoded.refusals] == [count - 1]


def test_a_lone_object_and_an_array_are_told_apart() -> None:
    one = msgspec.json.encode(plain(1))
    assert len(decode(b" " + one, "any").columns) == 1
    assert len(decode(b"\n[" + one + b"," + one + b"]", "any").columns) == 2
    assert len(decode(b"[]", "many").columns) == 0


def test_a_line_is_one_event_and_a_broken_line_spoils_no_other() -> None:
    one = msgspec.json.encode(plain(1))
    body = b"\n".join([one, b"{", one + one, b"", b"  ", one[:10], one, b"\xff"]) + b"\n"
    decoded = decode(body, "lines")
    assert len(decoded.columns) == 2
    assert [refusal.index for refusal in decoded.refusals] == [1, 2, 3, 5]
    assert decoded.indexes == [0, 4]


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (b"", "many"),
        (b"{}", "many"),
        (b"[{}", "many"),
        (b"[1,]", "many"),
        (b'["\\', "many"),
        (b"", "one"),
        (b"{} {}", "one"),
        (b"\xef\xbb\xbf{}", "one"),
        (b"[" * 100_000, "many"),
    ],
)
def test_a_body_that_is_not_json_of_its_shape_is_malformed(body: bytes, shape: str) -> None:
    with pytest.raises(MalformedBodyError):
        decode(body, shape)


@pytest.mark.parametrize("shape", ["many", "lines"])
@pytest.mark.parametrize("is_good", [True, False])
def test_too_many_events_are_refused_as_a_whole(shape: str, is_good: bool) -> None:
    one = msgspec.json.encode(plain(1)) if is_good else b"{}"
    ones = [one] * 1_001
    body = b"[" + b",".join(ones) + b"]" if shape == "many" else b"\n".join(ones)
    with pytest.raises(TooManyEventsError):
        decode(body, shape)
