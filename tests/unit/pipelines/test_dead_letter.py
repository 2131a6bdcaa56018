"""What a dead letter shows, and what a replay of it sends."""

import base64

import msgspec
import pytest

from pipelines.dead_letter import KeptLetter, NotReplayableError, body_content, names_of, replayed
from pipelines.position import LogPartition, Position

EVENT = b'{ "id" : "a", "source":"s", "data": {"v": 1.50} }'


def letter(body: bytes, kind: str = "malformed") -> KeptLetter:
    place = Position(LogPartition(0, 1), 17, 2)
    return KeptLetter(place, kind, "because", body, len(body), "2026-03-01T12:00:00.000Z")


def test_bytes_are_text_where_they_are_utf8_else_base64() -> None:
    assert letter("ö{".encode()).to_content()["body"] == "ö{"
    content = letter(b"\xff\x00").to_content()
    assert base64.b64decode(content["body_base64"]) == b"\xff\x00"
    assert "body" not in content


def test_the_start_of_a_text_may_end_inside_a_character() -> None:
    start = "aö".encode()[:-1]
    assert body_content(start, is_whole=False) == {"body": "a", "body_truncated": True}
    assert "body_base64" in body_content(start, is_whole=True)
    assert "body_base64" in body_content(b"a\xffbcdefgh", is_whole=False)


def test_what_is_not_json_needs_a_correction() -> None:
    for body in (b"\xff", b"{", b"", b"{} {}"):
        with pytest.raises(NotReplayableError, match="--edit"):
            replayed(letter(body), None, force_new_id=False)
    assert replayed(letter(b"{"), EVENT, force_new_id=False) == [
        b'{"id":"a","source":"s","data":{"v":1.50}}'
    ]


def test_a_list_is_sent_event_by_event() -> None:
    assert replayed(letter(b'[{"id":"a"},\n7]'), None, force_new_id=False) == [b'{"id":"a"}', b"7"]


def test_a_conflict_is_sent_under_a_new_id_or_not_at_all() -> None:
    with pytest.raises(NotReplayableError, match="--force-new-id"):
        replayed(letter(EVENT, "conflict"), None, force_new_id=False)
    first, again = (replayed(letter(EVENT, "conflict"), None, force_new_id=True) for _ in range(2))
    assert first == again == [b'{"id":"a~0-1-17-2","source":"s","data":{"v":1.50}}']


def test_a_conflict_is_sent_corrected_where_the_correction_has_another_name() -> None:
    taken = letter(EVENT, "conflict")
    for edited in (EVENT, b'[7,{"id":"a","source":"s","data":{"v":2}}]'):
        with pytest.raises(NotReplayableError, match="another id in --edit FILE"):
            replayed(taken, edited, force_new_id=False)
    with pytest.raises(NotReplayableError, match="the file is not JSON"):
        replayed(taken, b"{", force_new_id=False)
    for edited in (b'{"id":"b","source":"s"}', b'{"id":"a","source":"other"}', b'{"id":"a"}'):
        assert replayed(taken, edited, force_new_id=False) == [edited]


def test_events_are_named_by_source_and_id_where_they_have_both() -> None:
    events = [EVENT, b"7", b'{"id":1,"source":"s"}', b'{"id":"b"}', b"{"]
    assert names_of(events) == [("s", "a"), None, None, None, None]


def test_a_new_id_is_short_enough_and_its_own() -> None:
    body = msgspec.json.encode([{"id": "x" * 256}, {"id": "x" * 256}])
    sent = replayed(letter(body, "conflict"), None, force_new_id=True)
    ids = {msgspec.json.decode(event)["id"] for event in sent}
    assert len(ids) == 2
    assert max(map(len, ids)) <= 256


@pytest.mark.parametrize("body", [b"7", b'{"id":7}', b'["a"]'])
def test_only_events_get_a_new_id(body: bytes) -> None:
    with pytest.raises(NotReplayableError, match="object with an id"):
        replayed(letter(body, "conflict"), None, force_new_id=True)
