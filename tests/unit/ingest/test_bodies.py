"""The fast way over a whole request decides exactly as the rule for one event does."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.bodies import MALFORMED, TOO_MANY, Bodies, Body, Events
from ingest.event import NAMES, Event, Reception, Refusal, microseconds, parse_event, parse_time
from ingest.exact import decide
from ingest.limits import EventLimits
from ingest.scanning import ANY, LINES, MANY, ONE, TIME

NOW = datetime(2025, 11, 23, 12, tzinfo=UTC)
RECEPTION = Reception(NOW)
SHAPES = {"one": ONE, "many": MANY, "lines": LINES, "any": ANY}


def read(*bodies: bytes, shape: str = "many", is_partial: bool = True) -> Events:
    """Return what is read of bodies that wait together."""
    waiting = Bodies(EventLimits(), 1_000)
    for body in bodies:
        pieces: list[bytes | memoryview] = [body[:50], memoryview(body)[50:]]
        waiting.add(Body(pieces, len(body), SHAPES[shape], b"acme", RECEPTION, is_partial))
    return waiting.read()


def decode(body: bytes, shape: str = "many") -> Events:
    """Return what is read of one body, which is not refused as a whole."""
    events = read(body, shape=shape)
    (verdict,) = events.verdicts
    assert not verdict.fault
    assert verdict.accepted == len(events.rows)
    return events


def refusals_of(events: Events) -> list[Refusal]:
    return [refusal for verdict in events.verdicts for refusal in verdict.refusals]


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


def _assert_same(decoded: Events, texts: list[bytes]) -> None:
    verdicts = [parse_event(text, RECEPTION, index) for index, text in enumerate(texts)]
    good = [verdict for verdict in verdicts if isinstance(verdict, Event)]
    refusals = [one for verdict in verdicts if isinstance(verdict, list) for one in verdict]
    assert refusals_of(decoded) == refusals
    assert _values(decoded) == [_values_of(event) for event in good]
    if refusals:
        taken = [place for place, one in enumerate(verdicts) if isinstance(one, Event)]
        assert decoded.verdicts[0].indexes == taken


def _values_of(event: Event) -> tuple[Any, ...]:
    return (
        b"acme",
        *(getattr(event, name).encode() for name in NAMES),
        event.data,
        event.extensions,
        microseconds(event.time),
        event.time_stamped,
    )


def _values(events: Events) -> list[tuple[Any, ...]]:
    """Return each event's tenant, names, data, extensions, time, and whether that was stamped."""
    text = events.text.tobytes()
    return [
        (*(text[row[2 * place] : row[2 * place + 1]] for place in range(7)), *row[TIME:])
        for row in events.rows.tolist()
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
    before = msgspec.json.encode([plain(8)])
    wrapped = {"one": before[1:-1], "lines": before[1:-1]}.get(shape, before)
    found = read(wrapped, body, wrapped, shape=shape)
    try:
        good, refusals = decide(body, SHAPES[shape], RECEPTION, 1_000)
        fault = ""
    except ValueError as error:
        good, refusals, fault = [], [], str(error)
    assert found.verdicts[1].detail == fault
    assert refusals_of(found) == refusals
    around = _values_of(cast("Event", parse_event(before[1:-1], RECEPTION, 0)))
    assert _values(found) == [around, *(_values_of(event) for _, event in good), around]


_DATA = [
    b"null",
    b"1",
    b'" a"',
    b"[ null, {}]",
    b"{}",
    b'{"a":1,"b":{"a":2}}',
    b'{ "a" : 2,"bc":[1]}',
]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_events_are_read_as_the_rule_reads_them_whatever_their_order_and_spaces(seed: int) -> None:
    rnd = random.Random(seed)
    spaces = rnd.choices(["", " ", "\n", "\t  "], k=2)

    def spaced(number: int) -> bytes:
        members = list(plain(number, data=msgspec.Raw(rnd.choice(_DATA))).items())
        if rnd.random() < 0.3:
            rnd.shuffle(members)
        texts = [
            b"".join(
                rnd.choice(spaces).encode() + part
                for part in (msgspec.json.encode(name), b":", msgspec.json.encode(value), b"")
            )
            for name, value in members
        ]
        return b"{" + b",".join(texts) + b"}"

    texts = [spaced(number) for number in range(4)]
    _assert_same(decode(b"[" + b",".join(texts) + b"]"), texts)


@given(
    moment=st.datetimes(datetime(1970, 1, 1), datetime(2025, 11, 23)),  # noqa: DTZ001
    fraction=st.text("0123456789", max_size=10).map(lambda digits: f".{digits}" if digits else ""),
    zone=st.sampled_from(["Z", "+00:00", "-00:00", "+05:30", "-11:45", "+23:59"]),
)
def test_a_time_is_read_as_the_rule_reads_it(moment: datetime, fraction: str, zone: str) -> None:
    text = f"{moment.replace(microsecond=0).isoformat()}{fraction}{zone}"
    body = msgspec.json.encode(plain(1, time=text))
    history = Reception(NOW, open_for_history=True)
    expected = parse_time(text)
    assert expected is not None
    waiting = Bodies(EventLimits(), 1)
    waiting.add(Body([body], len(body), ONE, b"acme", history))
    events = waiting.read()
    if microseconds(expected) < 0:
        assert [refusal.field for refusal in refusals_of(events)] == ["time"]
    else:
        assert events.rows[0, TIME] == microseconds(expected)


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
    assert len(decode(body, shape).rows) == count


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
    assert [each.index for each in refusals_of(decoded)] == ([] if is_good else [3])


@pytest.mark.parametrize("count", [1, 300])
def test_deep_and_large_data_is_found_among_many_events(count: int) -> None:
    deep: Any = 1
    for _ in range(33):
        deep = [deep]
    for data in (deep, "x" * 2**20):
        events = [plain(number) for number in range(count)]
        events[-1]["data"] = data
        decoded = decode(msgspec.json.encode(events))
        assert [refusal.index for refusal in refusals_of(decoded)] == [count - 1]


def test_a_lone_object_and_an_array_are_told_apart() -> None:
    one = msgspec.json.encode(plain(1))
    assert len(decode(b" " + one, "any").rows) == 1
    assert len(decode(b"\n[" + one + b"," + one + b"]", "any").rows) == 2
    assert len(decode(b"[]", "many").rows) == 0


def test_a_line_is_one_event_and_a_broken_line_spoils_no_other() -> None:
    one = msgspec.json.encode(plain(1))
    body = b"\n".join([one, b"{", one + one, b"", b"  ", one[:10], one, b"\xff"]) + b"\n"
    decoded = decode(body, "lines")
    assert len(decoded.rows) == 2
    assert [refusal.index for refusal in refusals_of(decoded)] == [1, 2, 3, 5]
    assert decoded.verdicts[0].indexes == [0, 4]


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
    (verdict,) = read(body, shape=shape).verdicts
    assert verdict.fault == MALFORMED
    assert verdict.detail


@pytest.mark.parametrize("shape", ["many", "lines"])
@pytest.mark.parametrize("is_good", [True, False])
def test_too_many_events_are_refused_as_a_whole(shape: str, is_good: bool) -> None:
    one = msgspec.json.encode(plain(1)) if is_good else b"{}"
    ones = [one] * 1_001
    body = b"[" + b",".join(ones) + b"]" if shape == "many" else b"\n".join(ones)
    (verdict,) = read(body, shape=shape).verdicts
    assert verdict.fault == TOO_MANY


def test_one_body_does_not_change_what_is_decided_about_its_neighbours() -> None:
    good = msgspec.json.encode([plain(1), plain(2)])
    spaced = msgspec.json.format(good, indent=2)
    unusual = msgspec.json.encode([plain(3, ext=1)])
    refused = msgspec.json.encode([plain(4), plain(5, id="")])
    latin = msgspec.json.encode([plain(6, subject="caf\u00e9")]).replace("\u00e9".encode(), b"\xe9")
    bodies = [good, b"[", unusual, spaced, latin, refused, good, b"[]", unusual]
    found = read(*bodies, is_partial=False)
    assert [verdict.accepted for verdict in found.verdicts] == [2, 0, 1, 2, 0, 0, 2, 0, 1]
    faulty = [place for place, verdict in enumerate(found.verdicts) if verdict.fault]
    assert faulty == [1]
    alone = [_values(read(body, is_partial=False)) for body in bodies]
    assert _values(found) == [value for values in alone for value in values]


def test_keys_are_told_apart_whatever_came_before_in_their_place() -> None:
    def body(data: bytes) -> bytes:
        return msgspec.json.encode([plain(1, data=msgspec.Raw(data))])

    # Without its white space, the first has "a":1, where its first key and colon stood.
    spaced, broken = body(b'{ "a" : 1, "bc": 2}'), body(b'{"a":1,7}')
    longer, other = body(b'{"tokens":1,"tokens2":2}'), body(b'{"tokenz":1,"tokens":2}')
    nothing, nothing_far = body(b"null"), body(b" \t null ")
    same_names = msgspec.json.encode([plain(1), dict(reversed(plain(2).items()))])
    bodies = [spaced, broken, longer, other, longer, nothing, nothing_far, same_names, spaced]
    found = read(*bodies, is_partial=False)
    assert [verdict.accepted for verdict in found.verdicts] == [1, 0, 1, 1, 1, 1, 1, 2, 1]
    alone = [_values(read(each, is_partial=False)) for each in bodies]
    assert alone[5] == alone[6]
    assert _values(found) == [value for values in alone for value in values]


def test_what_was_read_does_not_come_again() -> None:
    waiting = Bodies(EventLimits(), 10)
    body = msgspec.json.encode(plain(1))
    waiting.add(Body([body], len(body), ONE, b"acme", RECEPTION))
    assert waiting.size == len(body)
    assert len(waiting.read().rows) == 1
    assert waiting.size == 0
    assert len(waiting.read().rows) == 0
