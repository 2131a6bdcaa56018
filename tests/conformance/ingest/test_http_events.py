"""Events over HTTP into the real log: accepted ones are there, refused ones accounted for."""

import gzip
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest
from backports import zstd

from ingest.topic import partition_of
from tests.conformance.ingest.conftest import TENANT
from tests.conformance.ingest.ingest_process import IngestProcess, TopicReader, make_key
from tests.conformance.ingest.raw_http import RawAnswer, RawClient, event, post
from tests.embedded_stack import wait_until
from tollbook.stack_file import Stack


def ask(ingest: IngestProcess, body: bytes, *more: str, **options: Any) -> RawAnswer:
    with RawClient(ingest.port) as client:
        return client.ask(post(options.pop("key", ingest.key), body, *more, **options))


def array(*events: bytes) -> bytes:
    return b"[" + b",".join(events) + b"]"


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["id"] for row in rows)


@pytest.mark.parametrize(
    ("content_type", "body", "taken"),
    [
        ("application/cloudevents+json", event("a"), ["a"]),
        ("application/cloudevents-batch+json", array(event("a"), event("b")), ["a", "b"]),
        ("application/json", event("a"), ["a"]),
        ("application/json; charset=utf-8", array(event("a"), event("b")), ["a", "b"]),
        ("application/x-ndjson", event("a") + b"\n" + event("b") + b"\n", ["a", "b"]),
    ],
)
def test_each_content_type_reaches_the_log(
    ingest: IngestProcess, topic: TopicReader, content_type: str, body: bytes, taken: list[str]
) -> None:
    assert ask(ingest, body, content_type=content_type).status == 204
    assert ids(topic.events(TENANT)) == taken


@pytest.mark.parametrize("target", ["/v1/events", "/api/v1/events"])
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_compressed_bodies_reach_the_log_on_both_paths(
    ingest: IngestProcess, topic: TopicReader, target: str, coding: str
) -> None:
    plain = array(*(event(f"{number:04}") for number in range(1000)))
    body = gzip.compress(plain) if coding == "gzip" else zstd.compress(plain)
    assert ask(ingest, body, f"Content-Encoding: {coding}", target=target).status == 204
    assert ids(topic.events(TENANT)) == [f"{number:04}" for number in range(1000)]


def test_an_event_arrives_as_it_was_sent_in_the_partition_of_its_subject(
    ingest: IngestProcess, topic: TopicReader
) -> None:
    sent = event(
        "whole",
        subject="küste \U0001f600",
        time="2025-01-01T00:00:00.123456+01:00",
        traceparent="00-1",
    ).replace(b'{"n":1}', b'{ "n": 1.10, "m": [1e400, -0, "\\u0000"] }')
    now = datetime.now(UTC)
    fresh = (now - timedelta(days=1)).isoformat()
    sent = sent.replace(b"2025-01-01T00:00:00.123456+01:00", fresh.encode())
    assert ask(ingest, sent).status == 204
    (row,) = topic.events(TENANT)
    assert row == {
        "tenant": TENANT,
        "id": "whole",
        "source": "test",
        "type": "call",
        "subject": "küste \U0001f600",
        "time": now - timedelta(days=1),
        "time_stamped": False,
        "data": b'{"n":1.10,"m":[1e400,-0,"\\u0000"]}',
        "extensions": b'{"traceparent":"00-1"}',
        "partition": partition_of(TENANT, "küste \U0001f600", 4),
    }


def test_an_event_without_time_gets_the_time_of_its_arrival(
    ingest: IngestProcess, topic: TopicReader
) -> None:
    before = datetime.now(UTC)
    assert ask(ingest, event("untimed")).status == 204
    (row,) = topic.events(TENANT)
    assert row["time_stamped"]
    assert before <= row["time"] <= datetime.now(UTC)


HOSTILE = {
    "bad UTF-8": event("x").replace(b'"n"', b'"\xff"'),
    "NaN": event("x").replace(b'"n":1', b'"n":NaN'),
    "Infinity": event("x").replace(b'"n":1', b'"n":-Infinity'),
    "a NUL in the subject": event("x", subject="a\0b"),
    "a line end in the id": event("x\ny"),
    "no subject": event("x", subject=None),
    "an empty source": event("x", source=""),
    "a long type": event("x", type="t" * 257),
    "deep nesting": event("x").replace(b"1}", b"[" * 32 + b"]" * 32 + b"}"),
    "absurd nesting": event("x").replace(b"1}", b"[" * 9000 + b"]" * 9000 + b"}"),
    "a megabyte": event("x", data="x" * 1_000_000),
    "binary data": event("x", data_base64="aGk="),
    "the future": event("x", time="2999-01-01T00:00:00Z"),
    "the past": event("x", time="2013-01-01T00:00:00Z"),
    "no zone": event("x", time="2025-11-23T12:00:00"),
    "a wrong version": event("x", specversion="0.3"),
    "not an object": b"[1]",
    "a number": b"5",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_event_is_refused_with_its_index_and_spoils_only_its_request(
    ingest: IngestProcess, topic: TopicReader, name: str
) -> None:
    body = b"\n".join([event("good"), HOSTILE[name], event("fine")])
    answer = ask(ingest, body, content_type="application/x-ndjson")
    document = answer.json()
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert {one["index"] for one in document["refused"]} == {1}
    assert all(one["reason"] for one in document["refused"])
    assert topic.events(TENANT) == []
    assert ask(ingest, event("next")).status == 204


def test_refused_events_are_accounted_for_one_by_one(
    ingest: IngestProcess, topic: TopicReader
) -> None:
    bad = {number for number in range(1000) if number % 13 == 5}
    events = [event(f"{n:04}", **({"subject": ""} if n in bad else {})) for n in range(1000)]
    whole = ask(ingest, array(*events))
    assert whole.status == 400
    assert {one["index"] for one in whole.json()["refused"]} == bad
    assert whole.json()["accepted"] == []
    assert topic.events(TENANT) == []
    partial = ask(ingest, array(*events), target="/v1/events?partial=true").json()
    assert {one["index"] for one in partial["refused"]} == bad
    assert set(partial["accepted"]) == set(range(1000)) - bad
    assert ids(topic.events(TENANT)) == [f"{n:04}" for n in range(1000) if n not in bad]


@pytest.mark.parametrize("body", [b"", b"{", b"[{}", b"[1,]", b"\xff", b"{} {}"])
def test_a_body_that_is_no_json_is_400(ingest: IngestProcess, body: bytes) -> None:
    answer = ask(ingest, body)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")


def test_a_body_of_too_many_events_is_413(ingest: IngestProcess) -> None:
    body = gzip.compress(array(*[b"{}"] * 20_001))
    assert ask(ingest, body, "Content-Encoding: gzip").status == 413


def test_events_near_the_size_limit_reach_the_log(
    ingest: IngestProcess, topic: TopicReader
) -> None:
    big = "x" * 900_000
    assert ask(ingest, array(event("1", data=big), event("2", data=big))).status == 204
    assert ids(topic.events(TENANT)) == ["1", "2"]


def test_a_verdict_comes_for_each_event_when_preferred(ingest: IngestProcess) -> None:
    answer = ask(ingest, array(event("1"), event("2")), "Prefer: return=representation")
    assert (answer.status, answer.headers["preference-applied"]) == (200, "return=representation")
    assert answer.json()["events"] == [
        {"index": 0, "verdict": "accepted"},
        {"index": 1, "verdict": "accepted"},
    ]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 401),
        (["Authorization: Bearer tb_unknown"], 401),
        (["Authorization: Basic dTpw"], 401),
        (["Authorization: Bearer"], 401),
    ],
)
def test_a_request_without_a_known_key_is_401(
    ingest: IngestProcess, lines: list[str], status: int
) -> None:
    start = ["POST /v1/events HTTP/1.1", "Host: a", "Content-Type: application/json"]
    with RawClient(ingest.port) as client:
        answer = client.ask("\r\n".join([*start, *lines, "Content-Length: 2", "", "{}"]).encode())
        assert answer.status == status
        assert answer.headers["www-authenticate"].startswith("bearer")


def test_a_new_key_works_within_seconds_and_a_revoked_one_stops(
    ingest: IngestProcess, addresses: Stack, topic: TopicReader
) -> None:
    key = make_key(addresses, "http-history", history=True)
    _wait_for(ingest, key, 204)
    assert ask(ingest, event("old", time="1999-01-01T00:00:00Z"), key=key).status == 204
    assert {row["tenant"] for row in topic.events("http-history")} == {"http-history"}
    with psycopg.connect(addresses.postgres_dsn) as connection:
        connection.execute("UPDATE api_keys SET revoked_at = now() WHERE tenant = 'http-history'")
    _wait_for(ingest, key, 403)


def _wait_for(ingest: IngestProcess, key: str, status: int) -> None:
    wait_until(lambda: ask(ingest, event("again"), key=key).status == status, 30)


def test_metrics_count_what_was_taken_and_refused(ingest: IngestProcess) -> None:
    before = _metrics(ingest)
    assert ask(ingest, array(event("1"), event("2"))).status == 204
    assert ask(ingest, event("")).status == 400
    after = _metrics(ingest)
    assert after["events_accepted_total"] - before["events_accepted_total"] == 2
    assert after["events_refused_total"] - before["events_refused_total"] == 1
    assert after["waiting_bytes"] == 0


def _metrics(ingest: IngestProcess) -> dict[str, float]:
    with RawClient(ingest.port) as client:
        text = client.ask(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").body.decode()
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("tollbook_ingest_"): float(value) for name, value in lines}


def test_problem_documents_have_the_members_of_rfc_9457(ingest: IngestProcess) -> None:
    document = msgspec.json.decode(ask(ingest, event("")).body)
    assert {"type", "title", "status", "detail"} <= set(document)
    assert document["status"] == 400
