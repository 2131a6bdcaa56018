"""A connection without a network: answers in order, also those that come at once."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from ingest.bodies import Bodies
from ingest.counters import Counters
from ingest.flow import Flow
from ingest.httptools_protocol import HttpProtocol
from ingest.httptools_server import HttpServer
from ingest.intake import Intake
from ingest.limits import EventLimits, FlowLimits, RequestLimits
from tests.unit.ingest.stand_ins import HandLoop, HandProducer
from tests.unit.ingest.test_intake import keys

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
EVENT = b'{"id":"1","source":"s","type":"t","subject":"x"}'
POST = (
    b"POST /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT)
)


class ImpatientProducer(HandProducer):
    """Says at once that it can take nothing, as a driver does whose queue is full."""

    def produce(self, records: list[tuple[int, bytes]], on_delivered: Any) -> None:
        del records
        on_delivered("queue full")


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False
        self.is_reading = True

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def can_write_eof(self) -> bool:
        return False

    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.written)]


class Bench:
    """One connection of one server."""

    def __init__(self, producer: HandProducer | None = None) -> None:
        self.loop = HandLoop()
        self.producer = producer or HandProducer()
        limits = RequestLimits(pipeline_depth_max=4)
        flow_limits = FlowLimits(batch_bytes_max=1)
        counters = Counters()
        bodies = Bodies(EventLimits(), limits.request_events_max)
        self.flow = Flow(self.loop.as_loop(), bodies, self.producer, 2, flow_limits)
        self.keys = keys()
        intake = Intake(
            keys=self.keys,
            flow=self.flow,
            counters=counters,
            request_limits=limits,
            event_limits=EventLimits(),
            request_refresh=lambda: None,
        )
        self.server = HttpServer(
            loop=self.loop.as_loop(),
            intake=intake,
            flow=self.flow,
            counters=counters,
            limits=limits,
            wall_clock=lambda: datetime(2025, 11, 23, tzinfo=UTC),
        )
        self.transport = Transport()
        self.protocol = HttpProtocol(self.server)
        self.protocol.connection_made(cast("asyncio.BaseTransport", self.transport))


def test_a_log_that_refuses_at_once_is_answered_too() -> None:
    bench = Bench(ImpatientProducer())
    bench.protocol.data_received(POST)
    assert bench.transport.statuses() == [503]


def test_an_answer_waits_for_those_before_it() -> None:
    bench = Bench()
    bench.protocol.data_received(POST + HEALTH)
    assert bench.transport.statuses() == []
    bench.producer.settle()
    assert bench.transport.statuses() == [204, 200]


def test_a_deep_pipeline_is_held_back_until_answers_have_left() -> None:
    bench = Bench()
    bench.protocol.data_received(POST * 500)
    assert not bench.transport.is_reading
    produced = len(bench.producer.groups)
    assert produced < 120
    while bench.producer.groups:
        bench.producer.settle()
    assert bench.transport.statuses() == [204] * 500
    assert bench.transport.is_reading


def test_what_follows_a_refused_request_is_not_acted_upon() -> None:
    bench = Bench()
    doubted = b"POST /v1/events HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    bench.protocol.data_received(doubted + POST)
    bench.protocol.data_received(POST)
    assert bench.transport.statuses() == [400]
    assert bench.producer.groups == []
    assert bench.transport.is_closed


def test_a_broken_request_does_not_cut_the_answer_before_it() -> None:
    bench = Bench()
    bench.protocol.data_received(POST + b"nonsense\r\n\r\n")
    bench.server.now += 1000
    assert bench.protocol.deadline > bench.server.now
    bench.producer.settle()
    assert bench.transport.statuses() == [204, 400]
    assert bench.transport.is_closed


def test_a_lost_connection_releases_its_body_and_counts_what_was_cut() -> None:
    bench = Bench()
    bench.protocol.data_received(POST + POST[:-5])
    assert bench.flow.reading_bytes == len(EVENT) - 5
    bench.protocol.connection_lost(None)
    assert bench.flow.reading_bytes == 0
    assert bench.server.counters.requests_cut == 2
    bench.producer.settle()
    assert bench.transport.statuses() == []


@pytest.mark.parametrize("sent", [HEALTH[:20], POST[:-3]])
def test_a_dripping_request_does_not_push_its_deadline_ahead(sent: bytes) -> None:
    bench = Bench()
    bench.protocol.data_received(sent[:10])
    bench.protocol.data_received(sent[10:-2])
    first = bench.protocol.deadline
    bench.server.now += 1
    bench.protocol.data_received(sent[-2:-1])
    bench.protocol.data_received(sent[-1:])
    assert bench.protocol.deadline == first


def test_a_request_under_a_known_head_is_answered_as_the_first_was() -> None:
    bench = Bench()
    for _ in range(3):
        bench.protocol.data_received(POST)
        bench.producer.settle()
    bad = POST.replace(EVENT, b"?" * len(EVENT))
    bench.protocol.data_received(bad)
    assert len(bench.server.known_heads) == 1
    assert bench.transport.statuses() == [204, 204, 204, 400]


def test_a_known_head_is_looked_at_again_for_who_sends_and_whether_there_is_room() -> None:
    bench = Bench()
    bench.protocol.data_received(POST)
    bench.producer.settle("away")
    bench.protocol.data_received(POST)
    bench.protocol.data_received(POST)
    bench.producer.settle()
    bench.keys.replace({}, now=0.0)
    bench.protocol.data_received(POST)
    assert bench.transport.statuses() == [503, 204, 503, 401]


@pytest.mark.parametrize("cut", [3, 5, 60, len(POST) - len(EVENT), len(POST) - 1])
def test_a_request_in_pieces_makes_no_known_head(cut: int) -> None:
    bench = Bench()
    pieces = (POST[:cut], POST[cut:])
    for data in (*pieces, POST, *pieces, HEALTH, POST):
        bench.protocol.data_received(data)
        bench.producer.settle()
    assert all(head.endswith(b"\r\n\r\n") for head in bench.server.known_heads)
    assert bench.transport.statuses() == [204, 204, 204, 200, 204]


def test_what_follows_a_last_request_is_not_taken_under_a_known_head() -> None:
    bench = Bench()
    bench.protocol.data_received(POST)
    bench.producer.settle()
    last = POST.replace(b"Host: a\r\n", b"Host: a\r\nConnection: close\r\n")
    bench.protocol.data_received(last)
    bench.protocol.data_received(POST)
    bench.producer.settle()
    assert bench.transport.statuses()[:2] == [204, 204]
    assert 204 not in bench.transport.statuses()[2:]
    assert bench.server.counters.events_accepted == 2


@pytest.mark.parametrize("cuts", [(len(POST) - 4,), (len(POST) - len(EVENT), len(POST) - 1)])
def test_a_body_in_pieces_under_a_known_head_is_whole_again(cuts: tuple[int, ...]) -> None:
    bench = Bench()
    bench.protocol.data_received(POST)
    begin = 0
    for cut in (*cuts, len(POST)):
        data = POST[begin:cut] if cut < len(POST) else POST[begin:] + HEALTH + POST
        bench.protocol.data_received(data)
        begin = cut
    assert bench.flow.reading_bytes == 0
    bench.producer.settle()
    assert bench.transport.statuses() == [204, 204, 200, 204]


def test_a_body_in_pieces_under_a_known_head_is_bounded_in_time_and_memory() -> None:
    bench = Bench()
    bench.protocol.data_received(POST)
    bench.producer.settle()
    bench.protocol.data_received(POST[:-9])
    deadline = bench.protocol.deadline
    assert bench.server.now < deadline < bench.server.now + 100
    bench.server.now += 1
    bench.protocol.data_received(POST[-9:-5])
    assert bench.protocol.deadline == deadline
    bench.flow.waiting_bytes = 2**40
    bench.protocol.data_received(POST[-5:-2])
    bench.protocol.data_received(POST[-2:])
    assert bench.transport.statuses() == [204, 503]
    assert bench.flow.reading_bytes == 0
    assert bench.transport.is_closed


def test_a_body_under_a_known_head_that_stops_coming_is_408() -> None:
    bench = Bench()
    bench.protocol.data_received(POST)
    bench.producer.settle()
    bench.protocol.data_received(POST[:-9])
    bench.protocol.expire()
    bench.protocol.data_received(POST[-9:])
    assert bench.transport.statuses() == [204, 408]
    assert bench.flow.reading_bytes == 0
