"""Errors carry ClickHouse's code, name and status, before the first byte and after it."""

import asyncio
import http.client
from base64 import b64encode
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    DatabaseError,
    OperationalError,
    StreamFailureError,
)

from tests.conformance.gateway_process import PASSWORD, GatewayProcess, ask

BREAKS_LATE = "SELECT number, throwIf(number = 3000000, 'too far') FROM numbers(4000000)"


@pytest.mark.parametrize(
    ("statement", "code", "name", "status"),
    [
        ("SELECT absent", 47, "UNKNOWN_IDENTIFIER", 404),
        ("SELECT * FROM absent", 60, "UNKNOWN_TABLE", 404),
        ("SELECT * FROM absent.absent", 81, "UNKNOWN_DATABASE", 404),
        ("SELECT absent()", 46, "UNKNOWN_FUNCTION", 404),
        ("SELEC 1", 62, "SYNTAX_ERROR", 400),
        ("SELECT 1; SELECT 2", 62, "SYNTAX_ERROR", 400),
        ("SELECT 1 FORMAT Absent", 73, "UNKNOWN_FORMAT", 404),
        ("SELECT toDate('x')", 38, "CANNOT_PARSE_DATE", 400),
        ("SELECT throwIf(1)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", 500),
        ("SELECT 1 INTO OUTFILE '/tmp/gateway-out'", 358, "INTO_OUTFILE_NOT_ALLOWED", 500),
        ("INSERT INTO absent VALUES (1)", 60, "UNKNOWN_TABLE", 404),
        (
            "INSERT INTO absent FROM INFILE '/etc/passwd' FORMAT CSV",
            344,
            "SUPPORT_IS_DISABLED",
            500,
        ),
        ("SET no_such_setting = 1", 115, "UNKNOWN_SETTING", 404),
    ],
)
def test_a_failed_statement_tells_code_name_and_status(
    gateway: GatewayProcess, statement: str, code: int, name: str, status: int
) -> None:
    response, body = ask(gateway, "POST", body=statement.encode())
    assert response.status == status
    assert response.headers["X-ClickHouse-Exception-Code"] == str(code)
    assert body.startswith(f"Code: {code}. DB::Exception: ".encode())
    assert f"({name}) (version ".encode() in body


def test_clients_raise_database_errors_with_code_and_name(client: Any) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.command("SELECT * FROM absent")
    assert (caught.value.code, caught.value.name) == (60, "UNKNOWN_TABLE")


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_an_error_in_mid_stream_reaches_the_sync_client(
    gateway: GatewayProcess, compress: Any
) -> None:
    client = gateway.connect(compress=compress)
    rows: list[int] = []
    with (
        client.query_row_block_stream(BREAKS_LATE) as stream,
        pytest.raises(StreamFailureError, match="too far") as caught,
    ):
        rows.extend(len(block) for block in stream)
    assert caught.value.code == 395
    assert sum(rows) > 1_000_000
    assert client.query("SELECT 1").result_rows == [(1,)]
    client.close()


def test_an_error_in_mid_stream_reaches_the_async_client(gateway: GatewayProcess) -> None:
    async def read() -> int:
        connected = await gateway.connect_async()
        rows = 0
        try:
            async with await connected.query_row_block_stream(BREAKS_LATE) as stream:
                async for block in stream:
                    rows += len(block)
        finally:
            await connected.close()
        return rows

    # The client drops what it has not read when the connection ends: a slow one misses the reason.
    told: list[StreamFailureError] = []
    while not told or ("too far" not in str(told[-1]) and len(told) < 5):
        with pytest.raises(StreamFailureError) as caught:
            asyncio.run(read())
        told.append(caught.value)
    assert "too far" in str(told[-1])
    assert told[-1].code == 395


def test_an_error_in_mid_stream_breaks_the_transfer_of_raw_readers(
    gateway: GatewayProcess,
) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(gateway, "POST", body=f"{BREAKS_LATE} FORMAT TSV".encode())
    tail = caught.value.partial[-400:]
    assert b"__exception__\r\n" in tail
    assert b"Code: 395." in tail


def test_an_error_late_in_an_awaited_query_is_a_plain_error(client: Any) -> None:
    with pytest.raises(DatabaseError, match="too far") as caught:
        client.query(BREAKS_LATE)
    assert not isinstance(caught.value, StreamFailureError)
    assert caught.value.code == 395


def test_a_bad_value_fails_its_insert_and_stores_nothing_of_the_block(
    gateway: GatewayProcess, client: Any
) -> None:
    client.command("CREATE OR REPLACE TABLE strict (a UInt8) ENGINE = MergeTree ORDER BY a")
    with pytest.raises(DatabaseError) as caught:
        client.raw_insert("strict", ["a"], b"1\n2\nthree\n", fmt="TSV")
    assert caught.value.code == 27
    response, _ = ask(
        gateway, "POST", query="INSERT INTO strict FORMAT Native", body=b"\x01garbage"
    )
    assert response.status >= 400
    assert client.command("SELECT count() FROM strict") == 0


def test_a_serialization_error_of_the_client_fails_its_insert(client: Any) -> None:
    client.command("CREATE OR REPLACE TABLE strict (a UInt8) ENGINE = MergeTree ORDER BY a")
    with pytest.raises(ClickHouseError):
        client.insert("strict", [[1], ["not a number"]], column_names=["a"])
    assert client.command("SELECT count() FROM strict") == 0


def test_every_way_to_log_in_is_taken(gateway: GatewayProcess) -> None:
    keys = {"X-ClickHouse-User": "owner", "X-ClickHouse-Key": PASSWORD.encode().decode("latin-1")}
    assert ask(gateway, query="SELECT 1")[1] == b"1\n"
    assert ask(gateway, headers=keys, query="SELECT 1")[1] == b"1\n"
    found = ask(gateway, headers={}, query="SELECT 1", user="owner", password=PASSWORD)
    assert found[1] == b"1\n"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic " + b64encode(b"owner:wrong").decode()},
        {"Authorization": "Basic " + b64encode(f"default:{PASSWORD}".encode()).decode()},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer token"},
        {"X-ClickHouse-User": "owner", "X-ClickHouse-Key": ""},
        {"X-ClickHouse-User": "owner", "X-ClickHouse-Key": "wrong"},
    ],
)
def test_a_bad_login_is_refused_with_516_and_leaks_nothing(
    gateway: GatewayProcess, headers: dict[str, str]
) -> None:
    response, body = ask(gateway, headers=headers, query="SELECT 42")
    assert response.status == 403
    assert response.headers["X-ClickHouse-Exception-Code"] == "516"
    assert b"42" not in body
    assert PASSWORD.encode() not in body
    assert PASSWORD not in gateway.log_text()


def test_clients_with_a_wrong_password_raise_with_code_516(gateway: GatewayProcess) -> None:
    with pytest.raises((DatabaseError, OperationalError)) as caught:
        gateway.connect(password="wrong")
    assert caught.value.code == 516


def test_get_and_head_only_read(gateway: GatewayProcess) -> None:
    statement = "CREATE TABLE made_by_get (a UInt8) ENGINE = Memory"
    response, _ = ask(gateway, "GET", query=statement)
    assert response.status == 500
    assert response.headers["X-ClickHouse-Exception-Code"] == "164"
    response, _ = ask(gateway, "GET", query=statement, session_id="get", session_timeout="5")
    assert response.headers["X-ClickHouse-Exception-Code"] == "164"
    response, body = ask(gateway, "HEAD", query="SELECT 1")
    assert (response.status, body) == (200, b"")
    assert ask(gateway, query="EXISTS made_by_get")[1] == b"0\n"


def test_other_paths_and_methods_are_refused(gateway: GatewayProcess) -> None:
    assert ask(gateway, path="/absent")[0].status == 404
    assert ask(gateway, "PUT", body=b"SELECT 1")[0].status == 405
    assert ask(gateway, "POST", body=b"  ")[0].headers["X-ClickHouse-Exception-Code"] == "62"


def test_ping_answers_without_a_login(gateway: GatewayProcess, client: Any) -> None:
    response, body = ask(gateway, path="/ping", headers={})
    assert (response.status, body) == (200, b"Ok.\n")
    assert ask(gateway, "HEAD", path="/ping", headers={})[0].status == 200
    assert client.ping()


def test_answers_name_query_format_and_time_zone(gateway: GatewayProcess) -> None:
    response, body = ask(
        gateway, query="SELECT 1 AS a", default_format="JSONEachRow", query_id="q-1"
    )
    assert body == b'{"a":1}\n'
    assert response.headers["X-ClickHouse-Query-Id"] == "q-1"
    assert response.headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert response.headers["X-ClickHouse-Timezone"] == "UTC"
    broken, _ = ask(gateway, query="SELECT 1", query_id="a\r\nX-Injected: 1")
    assert broken.status == 400
    assert "X-Injected" not in broken.headers
