"""Hostile and broken clients get a clear answer or a closed door, and harm nobody else."""

import gzip
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from backports import zstd

from tests.conformance.ingest.conftest import TENANT
from tests.conformance.ingest.ingest_process import IngestProcess, TopicReader
from tests.conformance.ingest.raw_http import RawClient, chunked, event, post

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /v1/events HTTP/1.1", "Host: a", *lines, "", ""]).encode()


BROKEN = {
    "length with transfer coding": head("Content-Length: 4", "Transfer-Encoding: chunked"),
    "transfer coding with length": head("Transfer-Encoding: chunked", "Content-Length: 4"),
    "two lengths": head("Content-Length: 4", "Content-Length: 4"),
    "two different lengths": head("Content-Length: 4", "Content-Length: 5"),
    "a list of lengths": head("Content-Length: 4, 4"),
    "a signed length": head("Content-Length: +4"),
    "a negative length": head("Content-Length: -1"),
    "a hexadecimal length": head("Content-Length: 0x4"),
    "an overflowing length": head("Content-Length: 99999999999999999999"),
    "a folded header": head("X-A: 1", " 2", "Content-Length: 0"),
    "space before the colon": head("Content-Length : 4"),
    "a tab before the colon": head("Transfer-Encoding\t: chunked"),
    "a NUL in a header": head("X-A: \0"),
    "a bare carriage return": head("X-A: 1\rX-B: 2"),
    "bare line feeds": b"POST /v1/events HTTP/1.1\nHost: a\n\n",
    "an unknown transfer coding": head("Transfer-Encoding: xchunked"),
    "identity transfer coding": head("Transfer-Encoding: identity"),
    "two transfer codings": head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "no host": b"POST /v1/events HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "two hosts": head("Host: b", "Content-Length: 0"),
    "two authorizations": head("Authorization: Bearer a", "Authorization: Bearer b"),
    "an unknown method": b"EAT /v1/events HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bad version": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "no version": b"GET /v1/events\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 2": b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n",
    "a control character in the target": b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303"),
    "a broken chunk size": head("Transfer-Encoding: chunked") + b"zz\r\n",
    "an overflowing chunk size": head("Transfer-Encoding: chunked") + b"f" * 17 + b"\r\n",
    "an upgrade": head("Connection: Upgrade", "Upgrade: websocket", "Content-Length: 2") + b"hi",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "data after close": head("Connection: close", "Content-Length: 0") + HEALTH,
    "a doubled content type": head("Content-Type: a", "Content-Type: b", "Content-Length: 0"),
    "a gzip transfer coding": head("Transfer-Encoding: gzip, chunked"),
    "an unmet expectation": head("Expect: tea", "Content-Length: 4"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_request_in_doubt_is_refused_and_the_connection_closed(
    ingest: IngestProcess, name: str
) -> None:
    with RawClient(ingest.port) as client:
        answer = client.ask(BROKEN[name] + b"smuggled")
        assert answer.status in {400, 401, 417, 501, 505}, answer
        assert answer.headers["connection"] == "close"
        assert client.is_closed()


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_request_may_come_in_any_pieces(ingest: IngestProcess, key: str, size: int) -> None:
    request = post(key, event("pieces"))
    with RawClient(ingest.port) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), size):
            client.send(request[start : start + size])
        assert client.read().status == 204


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_chunked_body_is_read_and_its_trailers_are_not(
    ingest: IngestProcess, key: str, topic: TopicReader, size: int
) -> None:
    body = chunked(event(f"chunked {size}"), size)[:-2] + b"Authorization: Bearer x\r\n\r\n"
    with RawClient(ingest.port) as client:
        request = post(key, body, "Transfer-Encoding: chunked")
        assert client.ask(request).status == 204
        assert client.ask(HEALTH).status == 200
    assert [row["id"] for row in topic.events(TENANT)] == [f"chunked {size}"]


def test_pipelined_requests_are_answered_in_their_order(
    ingest: IngestProcess, key: str, topic: TopicReader
) -> None:
    count = 200
    requests = [
        post(key, event(f"p{number}") if number % 5 else b"{}") if number % 7 else HEALTH
        for number in range(count)
    ]
    expected = [(204 if number % 5 else 400) if number % 7 else 200 for number in range(count)]
    with RawClient(ingest.port) as client:
        client.send(b"".join(requests))
        assert [client.read().status for _ in range(count)] == expected
    assert len(topic.events(TENANT)) == expected.count(204)


def test_a_pipeline_longer_than_its_bound_does_not_pile_up(ingest: IngestProcess) -> None:
    count = 10_000
    with RawClient(ingest.port, seconds=20) as client, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.send, HEALTH * count)
        for _ in range(count):
            assert client.read().status == 200
        sending.result()


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/events HT", b"POST /v1/events HTTP/1.1\r\nHost: a\r\nX-Slow: "],
    ids=["nothing", "a request line", "a header"],
)
def test_a_slow_head_is_ended_in_time(ingest: IngestProcess, sent: bytes) -> None:
    with RawClient(ingest.port) as client:
        began = time.monotonic()
        client.send(sent)
        if sent:
            assert client.read().status == 408
        assert client.is_closed()
        assert 0.5 < time.monotonic() - began < 10


def test_a_dripping_head_and_a_dripping_body_are_ended_in_time(
    ingest: IngestProcess, key: str
) -> None:
    for start in (b"GET /healthz HTTP/1.1\r\nX: ", post(key, b"", length=999)):
        with RawClient(ingest.port) as client:
            client.send(start)
            client.socket.settimeout(0.1)
            began = time.monotonic()
            answer = b""
            while not answer and time.monotonic() - began < 10:
                client.send(b"x")
                try:
                    answer = client.socket.recv(1000)
                except TimeoutError:
                    continue
            assert answer.startswith(b"HTTP/1.1 408 "), answer


def test_an_idle_connection_is_closed(ingest: IngestProcess) -> None:
    with RawClient(ingest.port) as client:
        assert client.ask(HEALTH).status == 200
        assert not client.is_closed(2.0)
        assert client.is_closed(10.0)


def test_a_client_that_reads_no_answers_is_cut_off_and_fills_no_memory(
    ingest: IngestProcess,
) -> None:
    worker = psutil.Process(ingest.worker_pids()[0])
    before = worker.memory_info().rss
    metrics = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 1000
    with RawClient(ingest.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.settimeout(8)
        with pytest.raises((ConnectionError, BrokenPipeError)):
            _send_for_ever(client, metrics)
    assert worker.memory_info().rss - before < 50_000_000


def _send_for_ever(client: RawClient, data: bytes) -> None:
    while True:
        client.send(data)


def test_hundreds_of_idle_connections_do_not_hinder_a_healthy_one(
    ingest: IngestProcess, key: str
) -> None:
    idle = [RawClient(ingest.port) for _ in range(300)]
    try:
        with RawClient(ingest.port) as client:
            began = time.monotonic()
            for number in range(20):
                assert client.ask(post(key, event(f"healthy {number}"))).status == 204
            assert time.monotonic() - began < 10
    finally:
        for one in idle:
            one.socket.close()


def test_connections_over_the_cap_are_turned_away_with_503(ingest: IngestProcess) -> None:
    many = [RawClient(ingest.port) for _ in range(400)]
    try:
        with RawClient(ingest.port) as late:
            answer = late.read()
            assert (answer.status, "retry-after" in answer.headers) == (503, True)
            assert late.is_closed()
    finally:
        for one in many:
            one.socket.close()


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_bomb_is_413_and_fills_no_memory(ingest: IngestProcess, key: str, coding: str) -> None:
    worker = psutil.Process(ingest.worker_pids()[0])
    plain = bytes(100_000_000)
    bomb = gzip.compress(plain) if coding == "gzip" else zstd.compress(plain)
    before = worker.memory_info().rss
    with RawClient(ingest.port) as client:
        assert client.ask(post(key, bomb, f"Content-Encoding: {coding}")).status == 413
        assert client.ask(HEALTH).status == 200
    assert worker.memory_info().rss - before < 50_000_000


def test_an_announced_oversize_body_is_refused_unread(ingest: IngestProcess, key: str) -> None:
    with RawClient(ingest.port) as client:
        answer = client.ask(post(key, b"", length=2_000_001))
        assert (answer.status, answer.headers["connection"]) == (413, "close")


def test_an_oversize_body_is_refused_even_while_it_is_still_sent(
    ingest: IngestProcess, key: str
) -> None:
    with RawClient(ingest.port) as client:
        client.send(post(key, b"x" * 2_000_001))
        assert client.read().status == 413
    with RawClient(ingest.port) as client:
        client.send(post(key, b"", "Transfer-Encoding: chunked"))
        client.send(chunked(b"x" * 2_100_000, 50_000))
        assert client.read().status == 413


def test_a_head_without_end_is_refused(ingest: IngestProcess) -> None:
    for flood in (b"X-A: " + b"a" * 60_000, b"X-A: a\r\n" * 5000, b"A" * 60_000):
        with RawClient(ingest.port) as client:
            client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + flood)
            assert client.read().status in {400, 431}
            assert client.is_closed()


def test_a_refused_small_body_leaves_the_connection_usable(ingest: IngestProcess) -> None:
    with RawClient(ingest.port) as client:
        assert client.ask(post("wrong", event("1"))).status == 401
        assert client.ask(HEALTH).status == 200


def test_a_body_is_asked_for_only_when_it_will_be_read(ingest: IngestProcess, key: str) -> None:
    body = event("expected")
    with RawClient(ingest.port) as client:
        client.send(post(key, b"", "Expect: 100-continue", length=len(body)))
        assert client.read().status == 100
        assert client.ask(body).status == 204
    with RawClient(ingest.port) as client:
        client.send(post("wrong", b"", "Expect: 100-continue", length=len(body)))
        answer = client.read()
        assert (answer.status, answer.headers["connection"]) == (401, "close")


def test_a_shorter_body_than_announced_is_no_request(
    ingest: IngestProcess, key: str, topic: TopicReader
) -> None:
    with RawClient(ingest.port) as client:
        client.send(post(key, event("short"), length=len(event("short")) + 1))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_closed()
    assert topic.events(TENANT) == []


def test_a_client_that_stops_sending_still_gets_its_answer(ingest: IngestProcess, key: str) -> None:
    with RawClient(ingest.port) as client:
        client.send(post(key, event("half closed")))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read().status == 204
        assert client.is_closed()


def test_head_and_http_1_0_are_answered_as_they_should(ingest: IngestProcess) -> None:
    with RawClient(ingest.port) as client:
        client.send(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + HEALTH)
        client.socket.settimeout(2)
        answer = client.socket.recv(65536)
        assert answer.count(b"Content-Length: 3\r\n") == 2
        assert answer.count(b"ok\n") == 1
    with RawClient(ingest.port) as client:
        answer_1_0 = client.ask(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (answer_1_0.status, answer_1_0.headers["connection"]) == (200, "close")
        assert client.is_closed()
