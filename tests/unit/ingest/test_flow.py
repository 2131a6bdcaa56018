"""Requests wait for each other a moment, then for the broker, and never without bound."""

import msgspec
import pytest

from ingest.bodies import INTERNAL, Bodies, Body, Verdict
from ingest.flow import Flow
from ingest.limits import EventLimits, FlowLimits
from ingest.scanning import MANY
from ingest.topic import decode_record
from ingest.usage_log import UsageLog
from tests.unit.ingest.stand_ins import HandLoop, HandProducer
from tests.unit.ingest.test_bodies import RECEPTION, plain


def body_of(subjects: list[str]) -> Body:
    events = [plain(number, subject=subject) for number, subject in enumerate(subjects)]
    text = msgspec.json.encode(events)
    return Body([text], len(text), MANY, b"acme", RECEPTION)


class Bench:
    """A flow between stand-ins."""

    def __init__(self, limits: FlowLimits | None = None) -> None:
        self.loop = HandLoop()
        self.producer = HandProducer()
        self.fates: list[str | None] = []
        limits = limits or FlowLimits()
        bodies = Bodies(EventLimits(), 1_000)
        self.flow = Flow(self.loop.as_loop(), bodies, self.producer, 2, limits)

    def submit(self, *subjects: str) -> None:
        self.send(body_of(list(subjects or ["s"])))

    def send(self, body: Body) -> None:
        self.flow.submit(body, self.settle)

    def settle(self, verdict: Verdict, error: str | None) -> None:
        self.fates.append(verdict.fault or error)


def test_requests_within_the_linger_share_one_flush() -> None:
    bench = Bench()
    bench.submit()
    bench.submit()
    assert bench.producer.groups == []
    bench.loop.ring()
    assert len(bench.producer.groups) == 1
    assert bench.fates == []
    bench.producer.settle()
    assert bench.fates == [None, None]


def test_requests_that_come_while_records_are_under_way_gather_longer() -> None:
    bench = Bench(FlowLimits(linger_ms=3, linger_busy_ms=20))
    bench.submit()
    bench.loop.ring()
    bench.submit()
    bench.submit()
    assert bench.loop.waits == [0.003, 0.02]
    bench.producer.settle()
    assert bench.loop.waits == [0.003, 0.02, 0.003]
    assert len(bench.loop.timers) == 1
    bench.loop.ring()
    assert len(bench.producer.groups) == 1
    bench.producer.settle()
    assert bench.fates == [None, None, None]
    assert bench.loop.timers == []


def test_a_full_batch_does_not_wait() -> None:
    bench = Bench(FlowLimits(batch_bytes_max=100))
    bench.submit()
    assert len(bench.producer.groups) == 1
    assert bench.loop.timers == []


def test_every_request_of_a_failed_flush_learns_of_it() -> None:
    bench = Bench()
    bench.submit()
    bench.submit()
    bench.loop.ring()
    bench.producer.settle("timed out")
    assert bench.fates == ["timed out", "timed out"]


def test_what_waits_is_counted_until_its_fate_is_known() -> None:
    size = body_of(["s"]).size
    bench = Bench(FlowLimits(waiting_bytes_max=2 * size + 50))
    bench.submit()
    bench.submit()
    assert bench.flow.has_room(50)
    assert not bench.flow.has_room(51)
    bench.loop.ring()
    assert not bench.flow.has_room(51)
    bench.producer.settle("lost")
    assert bench.flow.has_room(2 * size + 50)


def test_bodies_that_are_still_coming_in_count_too() -> None:
    bench = Bench(FlowLimits(waiting_bytes_max=250))
    bench.flow.reading_bytes = 200
    assert not bench.flow.has_room(51)


def test_while_the_broker_is_away_one_flush_at_a_time_tries_it() -> None:
    bench = Bench()
    bench.submit()
    bench.loop.ring()
    bench.producer.settle("away")
    assert bench.flow.is_broker_away
    assert bench.flow.takes_more()
    bench.submit()
    assert not bench.flow.takes_more()
    bench.loop.ring()
    assert not bench.flow.takes_more()
    bench.producer.settle()
    assert bench.flow.takes_more()
    assert not bench.flow.is_broker_away


def test_what_waits_goes_to_the_log_it_was_taken_for_and_what_follows_to_the_next() -> None:
    bench = Bench()
    bench.submit()
    bench.flow.follow(UsageLog(1, "usage.events.1", "id", 50))
    bench.submit(*(f"s{n}" for n in range(200)))
    bench.loop.ring()
    assert bench.producer.topics == ["usage.events", "usage.events.1"]
    assert {partition for partition, _ in bench.producer.groups[0][0]} <= {0, 1}
    assert max(partition for partition, _ in bench.producer.groups[1][0]) > 40


def test_nothing_is_taken_while_the_topic_is_not_the_one_on_record() -> None:
    bench = Bench()
    bench.flow.refused_because = "topic usage.events was made anew"
    assert not bench.flow.takes_more()


def test_what_is_refused_does_not_wait_for_the_broker() -> None:
    bench = Bench()
    bench.submit()
    bench.send(Body([b"["], 1, MANY, b"acme", RECEPTION))
    bench.loop.ring()
    assert len(bench.fates) == 1
    bench.producer.settle()
    assert bench.fates[1:] == [None]
    assert bench.flow.waiting_bytes == 0


def test_an_error_of_ours_is_told_to_every_request_of_its_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_arguments: object) -> list[tuple[int, bytes]]:
        raise MemoryError("no room")

    monkeypatch.setattr("ingest.flow.pack", broken)
    bench = Bench()
    bench.submit()
    bench.submit()
    bench.loop.ring()
    assert bench.fates == [INTERNAL, INTERNAL]
    assert bench.flow.waiting_bytes == 0


def test_who_is_answered_at_once_does_not_overtake_what_was_sent_before() -> None:
    bench = Bench(FlowLimits(batch_bytes_max=100))

    def send_more(verdict: Verdict, _error: str | None) -> None:
        assert verdict.fault
        bench.submit("second")

    bench.flow.submit(Body([b"["], 1, MANY, b"acme", RECEPTION), send_more)
    bench.submit("first")
    sent = [decode_record(group[0][0][1]).to_pylist() for group in bench.producer.groups]
    assert [rows[0]["subject"] for rows in sent] == ["first", "second"]


def test_it_is_quiet_until_much_has_come_in_since_the_last_flush() -> None:
    bench = Bench()
    bench.submit()
    assert bench.flow.is_quiet()
    bench.flow.reading_bytes = 100_000
    assert not bench.flow.is_quiet()
    bench.flow.reading_bytes = 0
    bench.submit(*(["subject"] * 300))
    assert not bench.flow.is_quiet()
    bench.loop.ring()
    assert bench.flow.is_quiet()
