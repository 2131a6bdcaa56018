"""What goes back for a request, and when."""

import gzip
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from ingest.answers import Answer
from ingest.bodies import Bodies
from ingest.counters import Counters
from ingest.flow import Flow
from ingest.head import Head, check_form
from ingest.intake import Intake
from ingest.keys import ApiKey, KeyRing
from ingest.limits import EventLimits, FlowLimits, RequestLimits
from ingest.topic import decode_record
from tests.unit.ingest.stand_ins import HandLoop, HandProducer

NOW = datetime(2025, 11, 23, 12, tzinfo=UTC)
BATCH = b"application/cloudevents-batch+json"


def event(number: int, **changes: Any) -> dict[str, Any]:
    plain = {"id": str(number), "source": "s", "type": "t", "subject": "x", "data": {"n": number}}
    return {**plain, **changes}


def keys() -> KeyRing:
    ring = KeyRing()
    ring.replace(
        {
            hashlib.sha256(name).digest(): ApiKey("acme", role, revoked, history)
            for name, role, revoked, history in [
                (b"good", "ingest", False, False),
                (b"old", "owner", True, False),
                (b"reader", "reader", False, False),
                (b"history", "owner", False, True),
            ]
        },
        now=0.0,
    )
    return ring


class Bench:
    """An intake whose requests come from the test."""

    def __init__(self, flow_limits: FlowLimits | None = None, **limits: int) -> None:
        self.limits = RequestLimits(**limits)
        self.loop = HandLoop()
        self.producer = HandProducer()
        self.refreshes: list[bool] = []
        self.later: list[Answer] = []
        self.flow = Flow(
            self.loop.as_loop(),
            Bodies(EventLimits(), self.limits.request_events_max),
            self.producer,
            2,
            flow_limits or FlowLimits(),
        )
        self.counters = Counters()
        self.intake = Intake(
            keys=keys(),
            flow=self.flow,
            counters=self.counters,
            request_limits=self.limits,
            event_limits=EventLimits(),
            request_refresh=lambda: self.refreshes.append(True),
        )

    def ask(
        self,
        body: Any = b"",
        *,
        method: bytes = b"POST",
        target: bytes = b"/v1/events",
        key: bytes | None = b"good",
        **headers: bytes | None,
    ) -> Answer | None:
        """Return the answer so far: None while the broker has not spoken."""
        if not isinstance(body, bytes):
            body = msgspec.json.encode(body)
        named = {
            b"host": b"a",
            b"content-type": BATCH,
            b"content-length": b"%d" % len(body),
            **{name.replace("_", "-").encode(): value for name, value in headers.items()},
        }
        if key is not None:
            named[b"authorization"] = b"Bearer " + key
        given = {name: value for name, value in named.items() if value is not None}
        head = Head(method, target, "1.1", given, [])
        refusal = check_form(head, self.limits) or self.intake.judge_head(head)
        if refusal is not None:
            return refusal
        if head.path not in {b"/v1/events", b"/api/v1/events"}:
            return self.intake.status(head, {})
        return self.intake.receive(head, [body], NOW, self.later.append)

    def deliver(self, error: str | None = None) -> Answer:
        self.loop.ring()
        self.producer.settle(error)
        return self.later.pop()

    def status(self, *arguments: Any, **more: Any) -> int:
        return self.decided(*arguments, **more).status

    def decided(self, *arguments: Any, **more: Any) -> Answer:
        """Return the answer to a request of which nothing goes to the broker."""
        answer = self.ask(*arguments, **more)
        if answer is None:
            self.loop.ring()
            assert self.producer.groups == []
            answer = self.later.pop()
        return answer

    def produced(self) -> list[str]:
        self.loop.ring()
        records = [value for group, _ in self.producer.groups for _, value in group]
        return sorted(row["id"] for one in records for row in decode_record(one).to_pylist())


def test_nothing_is_answered_before_the_broker_has_the_events() -> None:
    bench = Bench()
    assert bench.ask([event(1), event(2)]) is None
    bench.loop.ring()
    assert bench.later == []
    assert bench.deliver().status == 204
    assert bench.counters.events_accepted == 2


@pytest.mark.parametrize("target", [b"/v1/events", b"/api/v1/events", b"/v1/events?x=1"])
def test_both_paths_take_events(target: bytes) -> None:
    assert Bench().ask([event(1)], target=target) is None


def test_an_unknown_outcome_is_a_503_that_asks_for_the_same_request_again() -> None:
    bench = Bench()
    bench.ask([event(1)])
    answer = bench.deliver("timed out")
    assert answer.status == 503
    assert b"Retry-After: " in answer.headers
    assert json.loads(answer.body)["code"] == "outcome-unknown"
    assert bench.counters.events_accepted == 0


def test_a_verdict_for_each_event_comes_when_asked_for() -> None:
    bench = Bench()
    bench.ask([event(1), event(2)], prefer=b"return=representation; wait=10")
    answer = bench.deliver()
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "accepted": 2,
        "events": [{"index": 0, "verdict": "accepted"}, {"index": 1, "verdict": "accepted"}],
    }


def test_one_refused_event_refuses_the_request_and_all_refused_ones_are_listed() -> None:
    bench = Bench()
    answer = bench.decided([event(1), event(2, id=""), event(3), event(4, time="x", type=None)])
    assert (answer.status, answer.media_type) == (400, b"application/problem+json")
    document = json.loads(answer.body)
    assert [(one["index"], one["field"]) for one in document["refused"]] == [
        (1, "id"),
        (3, "type"),
        (3, "time"),
    ]
    assert all(one["reason"] for one in document["refused"])
    assert document["accepted"] == []
    assert bench.produced() == []
    assert bench.counters.events_refused == 2


def test_partial_takes_the_good_events_and_says_which() -> None:
    bench = Bench()
    assert (
        bench.ask([event(1, id=""), event(2), event(3)], target=b"/v1/events?partial=true") is None
    )
    assert bench.produced() == ["2", "3"]
    answer = bench.deliver()
    document = json.loads(answer.body)
    assert answer.status == 400
    assert document["accepted"] == [1, 2]
    assert [one["index"] for one in document["refused"]] == [0]


def test_partial_with_nothing_good_does_not_wait_for_the_broker() -> None:
    assert Bench().status([event(1, id="")], target=b"/v1/events?partial=true") == 400


@pytest.mark.parametrize(
    ("content_type", "body", "count"),
    [
        (b"application/cloudevents+json", event(1), 1),
        (b"application/cloudevents+json; charset=UTF-8", event(1), 1),
        (b"application/json", event(1), 1),
        (b"application/json", [event(1), event(2)], 2),
        (b"Application/X-NDJSON", msgspec.json.encode(event(1)) + b"\n", 1),
        (BATCH, [], 0),
    ],
)
def test_four_content_types_are_read(content_type: bytes, body: Any, count: int) -> None:
    bench = Bench()
    answer = bench.ask(body, content_type=content_type)
    if answer is None:
        answer = bench.deliver()
    assert answer.status == 204
    assert bench.counters.events_accepted == count


@pytest.mark.parametrize(
    "content_type", [b"", None, b"text/plain", b"application/json; charset=latin-1", b"application"]
)
def test_other_content_types_are_415(content_type: bytes | None) -> None:
    assert Bench().status([event(1)], content_type=content_type) == 415


def test_a_compressed_body_is_read_and_an_unknown_coding_is_415() -> None:
    packed = gzip.compress(msgspec.json.encode([event(1)]))
    assert Bench().ask(packed, content_encoding=b"gzip") is None
    assert Bench().status(packed, content_encoding=b"br") == 415
    assert Bench().status(packed[:-9], content_encoding=b"gzip") == 400


def test_a_body_over_the_limit_is_413_before_and_after_decompression() -> None:
    bench = Bench(body_bytes_max=1000)
    assert bench.status(b"x" * 1001) == 413
    assert bench.status(gzip.compress(b" " * 1001), content_encoding=b"gzip") == 413
    assert Bench(request_events_max=2).status([event(1), event(2), event(3)]) == 413


@pytest.mark.parametrize(
    ("key", "status"), [(None, 401), (b"bad", 401), (b"old", 403), (b"reader", 403)]
)
def test_keys_that_may_not_send_are_turned_away(key: bytes | None, status: int) -> None:
    bench = Bench()
    answer = bench.ask([event(1)], key=key)
    assert answer is not None
    assert answer.status == status
    assert (b"WWW-Authenticate: Bearer" in answer.headers) is (status == 401)
    assert bool(bench.refreshes) is (key == b"bad")


def test_a_tenant_open_for_history_may_send_old_events() -> None:
    old = [event(1, time="2013-01-01T00:00:00Z")]
    assert Bench().status(old) == 400
    assert Bench().ask(old, key=b"history") is None


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        (b"GET", b"/v1/events", 405),
        (b"PUT", b"/v1/events", 405),
        (b"POST", b"/healthz", 405),
        (b"OPTIONS", b"/v1/events", 204),
        (b"OPTIONS", b"*", 204),
        (b"POST", b"/v1/event", 404),
        (b"POST", b"/", 404),
        (b"GET", b"/healthz", 200),
        (b"HEAD", b"/readyz", 200),
        (b"GET", b"/metrics", 200),
        (b"GET", b"http://host/healthz", 200),
    ],
)
def test_routes_and_methods(method: bytes, target: bytes, status: int) -> None:
    answer = Bench().ask(method=method, target=target)
    assert answer is not None
    assert answer.status == status
    assert (b"Allow: " in answer.headers) is (status == 405 or method == b"OPTIONS")


def test_a_body_of_unknown_length_is_411_and_none_at_all_400() -> None:
    assert Bench().status(b"", content_length=None) == 411
    assert Bench().status(b"") == 400


def test_a_full_queue_is_503_with_retry_after() -> None:
    bench = Bench(FlowLimits(waiting_bytes_max=300))
    assert bench.ask([event(1), event(2), event(3)]) is None
    answer = bench.ask([event(4), event(5)])
    assert answer is not None
    assert (answer.status, b"Retry-After: " in answer.headers) == (503, True)


def test_readiness_follows_the_broker_and_the_drain() -> None:
    bench = Bench()
    bench.ask([event(1)])
    bench.deliver("away")
    assert bench.status(method=b"GET", target=b"/readyz") == 503
    assert bench.status(method=b"GET", target=b"/healthz") == 200
    bench.ask([event(1)])
    bench.deliver()
    assert bench.status(method=b"GET", target=b"/readyz") == 200
    bench.intake.is_draining = True
    assert bench.status(method=b"GET", target=b"/readyz") == 503
