"""Named sessions keep their state to themselves, serve one request at a time, and end."""

import threading
import time
from typing import Any
from uuid import uuid4

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

from tests.conformance.gateway_process import GatewayProcess, ask

SLOW = "SELECT sleep(0.6) SETTINGS function_sleep_max_microseconds_per_block = 1000000"


def code_of(response: Any) -> str | None:
    code: str | None = response.headers["X-ClickHouse-Exception-Code"]
    return code


def test_temporary_tables_stay_in_their_session(gateway: GatewayProcess) -> None:
    one, other = gateway.connect(session_id=str(uuid4())), gateway.connect()
    one.command("CREATE TEMPORARY TABLE mine (a UInt8)")
    one.insert("mine", [[1], [2]], column_names=["a"], column_type_names=["UInt8"])
    assert one.query("SELECT sum(a) FROM mine").result_rows == [(3,)]
    with pytest.raises(DatabaseError) as caught:
        other.query("SELECT * FROM mine")
    assert caught.value.code == 60
    one.close()
    other.close()


def test_set_and_use_last_for_the_session_only(gateway: GatewayProcess) -> None:
    session: dict[str, Any] = {"session_id": str(uuid4())}
    for statement in (
        "CREATE DATABASE IF NOT EXISTS elsewhere",
        "USE elsewhere",
        "SET max_threads = 5",
    ):
        assert ask(gateway, "POST", body=statement.encode(), **session)[0].status == 200
    query = b"SELECT currentDatabase(), getSetting('max_threads') = 5"
    assert ask(gateway, "POST", body=query, **session)[1] == b"elsewhere\t1\n"
    assert ask(gateway, "POST", body=query, database="default", **session)[1] == b"default\t1\n"
    assert ask(gateway, "POST", body=query, **session)[1] == b"elsewhere\t1\n"
    assert ask(gateway, "POST", body=query)[1] == b"default\t0\n"


def test_settings_of_a_request_end_with_it_even_in_a_session(gateway: GatewayProcess) -> None:
    session: dict[str, Any] = {"session_id": str(uuid4())}
    query = b"SELECT getSetting('max_block_size'), getSetting('max_threads')"
    ask(gateway, "POST", body=b"SET max_threads = 5", **session)
    default = ask(gateway, "POST", body=query, **session)[1]
    changed = ask(gateway, "POST", body=query, max_block_size="77", max_threads="3", **session)[1]
    assert changed == b"77\t3\n"
    assert ask(gateway, "POST", body=query, **session)[1] == default
    assert default.endswith(b"\t5\n")
    refused, _ = ask(gateway, "POST", body=query, max_block_size="77", no_such="1", **session)
    assert code_of(refused) == "115"
    assert ask(gateway, "POST", body=query, **session)[1] == default


def test_a_read_only_request_does_not_lock_its_session(gateway: GatewayProcess) -> None:
    session: dict[str, Any] = {"session_id": str(uuid4())}
    table = b"CREATE TEMPORARY TABLE mine (a UInt8)"
    assert ask(gateway, "GET", query="SELECT 1", **session)[1] == b"1\n"
    assert code_of(ask(gateway, "POST", body=table, readonly="1", **session)[0]) == "164"
    assert ask(gateway, "POST", body=table, **session)[0].status == 200


def test_a_session_in_use_is_refused_with_373(gateway: GatewayProcess) -> None:
    session: dict[str, Any] = {"session_id": str(uuid4())}
    answers: list[Any] = []
    running = threading.Thread(
        target=lambda: answers.append(ask(gateway, "POST", body=SLOW.encode(), **session))
    )
    running.start()
    time.sleep(0.2)
    refused, body = ask(gateway, "POST", body=b"SELECT 1", **session)
    running.join()
    assert code_of(refused) == "373"
    assert b"SESSION_IS_LOCKED" in body
    assert answers[0][0].status == 200
    assert ask(gateway, "POST", body=b"SELECT 1", **session)[1] == b"1\n"


def test_session_check_refuses_an_unknown_session_with_372(gateway: GatewayProcess) -> None:
    name = str(uuid4())
    unknown, _ = ask(gateway, query="SELECT 1", session_id=name, session_check="1")
    assert code_of(unknown) == "372"
    assert ask(gateway, query="SELECT 1", session_id=name)[1] == b"1\n"
    assert ask(gateway, query="SELECT 1", session_id=name, session_check="1")[1] == b"1\n"


def test_a_session_ends_after_its_timeout(gateway: GatewayProcess) -> None:
    session: dict[str, Any] = {"session_id": str(uuid4()), "session_timeout": "1"}
    ask(gateway, "POST", body=b"CREATE TEMPORARY TABLE mine (a UInt8)", **session)
    assert ask(gateway, "POST", body=b"SELECT count() FROM mine", **session)[1] == b"0\n"
    time.sleep(1.2)
    gone, _ = ask(gateway, "POST", body=b"SELECT count() FROM mine", **session)
    assert code_of(gone) == "60"


@pytest.mark.parametrize("seconds", ["never", "-1", "3601", "9" * 30])
def test_a_bad_session_timeout_is_refused_with_374(gateway: GatewayProcess, seconds: str) -> None:
    refused, _ = ask(gateway, query="SELECT 1", session_id="s", session_timeout=seconds)
    assert code_of(refused) == "374"


def test_external_tables_leave_a_session_as_they_found_it(gateway: GatewayProcess) -> None:
    client = gateway.connect(session_id=str(uuid4()))
    data = ExternalData(file_name="ids", data=b"1\n2\n", fmt="TSV", structure="id UInt8")
    for _ in range(2):
        found = client.query("SELECT sum(id) FROM ids", external_data=data)
        assert found.result_rows == [(3,)]
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT sum(id) FROM ids")
    assert caught.value.code == 60
    client.close()


def test_a_request_without_a_session_finds_nothing_of_those_before(
    gateway: GatewayProcess,
) -> None:
    ask(gateway, "POST", body=b"CREATE DATABASE IF NOT EXISTS elsewhere")
    query = b"SELECT currentDatabase(), getSetting('max_threads') = 5"
    before: list[tuple[bytes, dict[str, Any]]] = [
        (b"USE elsewhere", {}),
        (b"SET max_threads = 5", {}),
        (b"SELECT 1 SETTINGS max_threads = 5", {}),
        (b"SELECT 1", {"max_threads": "5"}),
        (b"CREATE TEMPORARY TABLE kept (a UInt8)", {}),
        (b"SELECT {given:UInt8}", {"param_given": "7"}),
        (b"INSERT INTO FUNCTION null('a UInt8') FORMAT TSV\n1", {"param_given": "7"}),
    ]
    for statement, given in before:
        assert ask(gateway, "POST", body=statement, **given)[0].status == 200, statement
        assert ask(gateway, "POST", body=query)[1] == b"default\t0\n"
        assert code_of(ask(gateway, "POST", body=b"SELECT {given:UInt8}")[0]) == "456"
        assert code_of(ask(gateway, "POST", body=b"SELECT * FROM kept")[0]) == "60"
    for second in (b"SET max_threads = 5", b"USE elsewhere"):
        assert ask(gateway, "POST", body=b"SELECT 1; " + second)[0].status == 400
        assert ask(gateway, "POST", body=query)[1] == b"default\t0\n"
