"""Hostile bytes get a clear refusal or a closed line; nothing leaks and nothing stays behind."""

import socket
import time
from contextlib import closing
from typing import Any

import pytest

from tests.conformance.gateway_process import LOGIN, GatewayProcess, ask

AUTH = b"Authorization: " + LOGIN["Authorization"].encode() + b"\r\n"
HOST = b"Host: x\r\n"


def talk(gateway: GatewayProcess, *pieces: bytes, half_close: bool = False) -> bytes:
    with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as line:
        for piece in pieces:
            line.sendall(piece)
        if half_close:
            line.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while data := line.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer


def post(headers: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + AUTH + headers + b"\r\n" + body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /ping HTTP/1.1\r\nX: \x00\r\n\r\n", 400),
        (b"GET http://[broken/ping HTTP/1.1\r\n\r\n", 400),
        (post(b"Content-Length: 8\r\nContent-Length: 9\r\n", b"SELECT 1"), 400),
        (post(b"Content-Length: -1\r\n", b"SELECT 1"), 400),
        (
            post(
                b"Content-Length: 8\r\nTransfer-Encoding: chunked\r\n",
                b"8\r\nSELECT 1\r\n0\r\n\r\n",
            ),
            400,
        ),
        (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: chunked\r\n", b"zz\r\nSELECT 1\r\n0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked\r\n", b"8\r\nSELECT 1XX0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\nSELECT 1"), 400),
        (b"GET /ping HTTP/1.1\r\n" + b"X: " + b"y" * 400_000 + b"\r\n\r\n", 431),
        (b"GET /ping HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /?query=" + b"y" * 1_200_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /ping HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 400),
    ],
)
def test_malformed_requests_are_refused_and_the_line_closed(
    gateway: GatewayProcess, request_bytes: bytes, status: int
) -> None:
    answer = talk(gateway, request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Connection: close\r\n" in answer
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"Content-Length: 100\r\n", b"SELECT 1"),
        post(b"Transfer-Encoding: chunked\r\n", b"8\r\nSELECT 1\r\n"),
        post(b"Content-Length: 100\r\n", b"INSERT INTO cut FORMAT TSV\n1\n2\n"),
    ],
)
def test_a_body_that_ends_early_runs_nothing(
    gateway: GatewayProcess, client: Any, request_bytes: bytes
) -> None:
    client.command("CREATE OR REPLACE TABLE cut (n UInt64) ENGINE = MergeTree ORDER BY n")
    answer = talk(gateway, request_bytes, half_close=True)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Code: 33." in answer
    assert client.command("SELECT count() FROM cut") == 0


def test_a_client_that_leaves_in_mid_insert_stores_no_half_block(
    gateway: GatewayProcess, client: Any
) -> None:
    client.command("CREATE OR REPLACE TABLE cut (n UInt64) ENGINE = MergeTree ORDER BY n")
    head = post(b"Transfer-Encoding: chunked\r\n")
    lines = b"1\n" * 200_000
    for _ in range(5):
        line = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
        line.sendall(head + b"1b\r\nINSERT INTO cut FORMAT TSV\n\r\n")
        line.sendall(b"%x\r\n%b\r\n" % (len(lines), lines))
        line.close()
    time.sleep(0.3)
    assert client.command("SELECT count() FROM cut") == 0


def test_a_client_that_leaves_in_mid_answer_does_not_hurt_the_others(
    gateway: GatewayProcess, client: Any
) -> None:
    query = b"SELECT number, repeat('x', 100) FROM numbers(50000000)"
    for _ in range(5):
        line = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
        line.sendall(post(b"Content-Length: %d\r\n" % len(query), query))
        line.recv(1000)
        line.close()
    assert client.query("SELECT 1").result_rows == [(1,)]


def test_a_second_request_in_the_bytes_of_the_first_is_never_taken_for_its_body(
    gateway: GatewayProcess,
) -> None:
    one = post(b"Content-Length: 8\r\n", b"SELECT 1")
    two = post(b"Content-Length: 8\r\n", b"SELECT 2")
    answer = talk(gateway, one + two)
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert answer.endswith(b"\r\n\r\n1\n")
    assert b"Connection: close\r\n" in answer


def test_slow_but_whole_requests_are_served(gateway: GatewayProcess) -> None:
    request = post(b"Content-Length: 8\r\nConnection: close\r\n", b"SELECT 1")
    answer = talk(gateway, *(request[i : i + 1] for i in range(len(request))))
    assert answer.endswith(b"\r\n\r\n1\n")


def test_a_client_that_expects_100_continue_gets_it(gateway: GatewayProcess) -> None:
    head = post(b"Content-Length: 8\r\nExpect: 100-continue\r\nConnection: close\r\n")
    with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as line:
        line.sendall(head)
        assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(b"SELECT 1")
        assert line.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_peer_of_http_1_0_gets_a_plain_body(gateway: GatewayProcess) -> None:
    request = b"GET /?query=SELECT+number+FROM+numbers(500000) HTTP/1.0\r\n" + AUTH + b"\r\n"
    answer = talk(gateway, request)
    assert b"Transfer-Encoding" not in answer
    assert answer.endswith(b"\n499999\n")


def test_a_bad_login_is_answered_before_its_body_is_read(gateway: GatewayProcess) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    answer = talk(gateway, head, half_close=True)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"X-ClickHouse-Exception-Code: 516\r\n" in answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b\r\n\r\nno name\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\r\n--b',
        b'--b\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\r\n--b--\r\n',
    ],
)
def test_broken_forms_are_refused(gateway: GatewayProcess, body: bytes) -> None:
    headers = {**LOGIN, "Content-Type": "multipart/form-data; boundary=b"}
    response, text = ask(gateway, "POST", headers=headers, body=body, query="SELECT * FROM t")
    assert response.status == 400
    assert b"Code: 36." in text


def test_names_and_settings_cannot_smuggle_sql(gateway: GatewayProcess) -> None:
    database = "default` ; DROP TABLE x; --"
    assert ask(gateway, query="SELECT 1", database=database)[0].status == 404
    smuggled: dict[str, Any] = {"max_threads = 1, max_block_size": "5"}
    setting, _ = ask(gateway, query="SELECT 1", **smuggled)
    assert setting.headers["X-ClickHouse-Exception-Code"] == "115"
    value, _ = ask(gateway, query="SELECT 1", max_threads="1', max_block_size='5")
    assert value.status >= 400


def test_no_temporary_file_is_left_behind(gateway: GatewayProcess, client: Any) -> None:
    client.query("SELECT number, repeat('x', 50) FROM numbers(500000)")
    with pytest.raises(Exception, match="too far"):
        client.query("SELECT throwIf(number = 900000, 'too far') FROM numbers(1000000)")
    assert list((gateway.data_dir / "spool").iterdir()) == []
