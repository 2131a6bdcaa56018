"""The process: one per directory, loopback only, bounded, and nothing acknowledged is ever lost."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from tests.conformance.gateway_process import PASSWORD, GatewayProcess, ask
from tests.embedded_stack import wait_until

SLOW = "SELECT sleep(1) SETTINGS function_sleep_max_microseconds_per_block = 2000000"


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "with a space" / "data")
    process.data_dir.parent.mkdir()
    yield process
    if process._process is not None and process.process.poll() is None:
        process.kill()


def run(arguments: list[str], password: str = PASSWORD) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "infra.embedded.gateway", *arguments],
        env={**os.environ, "TOLLBOOK_CLICKHOUSE_PASSWORD": password},
        capture_output=True,
        timeout=20,
        check=False,
    )


def test_a_second_gateway_on_the_same_directory_is_refused_by_name(
    gateway: GatewayProcess,
) -> None:
    second = run(["--data-dir", str(gateway.data_dir), "--port", "0"])
    assert second.returncode == 1
    assert str(gateway.data_dir) in second.stderr.decode()
    assert b"in use by another gateway" in second.stderr
    assert b"Traceback" not in second.stderr
    assert ask(gateway, query="SELECT 1")[1] == b"1\n"


def test_a_taken_port_and_a_missing_password_are_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run(["--data-dir", str(tmp_path), "--port", port])
    assert refused.returncode == 1
    assert f"port {port}".encode() in refused.stderr
    assert b"Traceback" not in refused.stderr
    unsafe = run(["--data-dir", str(tmp_path), "--port", "0"], password="")
    assert unsafe.returncode == 1
    assert b"TOLLBOOK_CLICKHOUSE_PASSWORD" in unsafe.stderr


def test_it_listens_on_loopback_only(gateway: GatewayProcess) -> None:
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(gateway.process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]


def test_sixteen_clients_read_and_write_at_once(gateway: GatewayProcess, client: Any) -> None:
    client.command(
        "CREATE OR REPLACE TABLE shared (c UInt8, n UInt32) ENGINE = MergeTree ORDER BY c"
    )

    def work(number: int) -> int:
        own = gateway.connect()
        for turn in range(10):
            rows = [[number, turn * 100 + i] for i in range(100)]
            own.insert("shared", rows, column_names=["c", "n"])
            found = own.query("SELECT count() FROM shared WHERE c = {c:UInt8}", {"c": number})
            assert found.result_rows == [((turn + 1) * 100,)]
        own.close()
        return number

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(work, range(16))) == list(range(16))
    assert client.command("SELECT count(), uniqExact(c, n) FROM shared") == ["16000", "16000"]


def test_no_acknowledged_row_is_lost_by_kill_9_in_mid_insert(own_gateway: GatewayProcess) -> None:
    own_gateway.start()
    client = own_gateway.connect()
    client.command(
        "CREATE TABLE kept (w UInt8, batch UInt32, i UInt32) ENGINE = MergeTree ORDER BY w"
    )
    acknowledged: set[tuple[int, int]] = set()
    for kill in range(3):
        threads = [
            threading.Thread(target=_insert_until_killed, args=(own_gateway, w, kill, acknowledged))
            for w in range(4)
        ]
        for thread in threads:
            thread.start()
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before + 1, 30)  # noqa: B023 - asked at once
        own_gateway.kill()
        for thread in threads:
            thread.join()
        own_gateway.start()
    found = own_gateway.connect().query("SELECT w, batch, count() FROM kept GROUP BY w, batch")
    rows_by_batch = {(w, batch): rows for w, batch, rows in found.result_rows}
    assert {key: rows_by_batch.get(key) for key in acknowledged} == dict.fromkeys(
        acknowledged, 2000
    )
    assert set(rows_by_batch.values()) == {2000}


def _insert_until_killed(
    gateway: GatewayProcess, worker: int, kill: int, acknowledged: set[tuple[int, int]]
) -> None:
    try:
        client = gateway.connect(query_retries=0)
        for batch in range(kill * 10_000, kill * 10_000 + 10_000):
            rows = [[worker, batch, i] for i in range(2000)]
            client.insert(
                "kept", rows, ["w", "batch", "i"], column_type_names=["UInt8", "UInt32", "UInt32"]
            )
            acknowledged.add((worker, batch))
    except ClickHouseError:
        return


def test_sigterm_lets_running_requests_finish_and_keeps_the_data(
    own_gateway: GatewayProcess,
) -> None:
    own_gateway.start()
    client = own_gateway.connect()
    client.command("CREATE DATABASE tollbook")
    client.command("CREATE TABLE tollbook.kept (n UInt8) ENGINE = MergeTree ORDER BY n")
    client.insert("kept", [[1]], ["n"], database="tollbook")
    answers: list[Any] = []
    running = threading.Thread(
        target=lambda: answers.append(ask(own_gateway, "POST", body=SLOW.encode()))
    )
    running.start()
    time.sleep(0.3)
    own_gateway.process.send_signal(signal.SIGTERM)
    running.join()
    assert answers[0][1] == b"0\n"
    assert own_gateway.process.wait(30) == 0
    own_gateway.start()
    assert own_gateway.connect().query("SELECT n FROM tollbook.kept").result_rows == [(1,)]


def test_idle_connections_make_room_and_busy_ones_refuse_the_next_with_503(
    own_gateway: GatewayProcess,
) -> None:
    own_gateway.arguments = ("--connections-max", "2")
    own_gateway.start()
    idle = [socket.create_connection(("127.0.0.1", own_gateway.port)) for _ in range(6)]
    assert ask(own_gateway, query="SELECT 1")[1] == b"1\n"
    running = [
        threading.Thread(target=ask, args=(own_gateway, "POST"), kwargs={"body": SLOW.encode()})
        for _ in range(2)
    ]
    for thread in running:
        thread.start()
    time.sleep(0.4)
    assert ask(own_gateway, query="SELECT 1")[0].status == 503
    for thread in running:
        thread.join()
    assert ask(own_gateway, query="SELECT 1")[1] == b"1\n"
    for line in idle:
        line.close()


def test_a_query_over_the_memory_cap_fails_and_the_gateway_lives(
    own_gateway: GatewayProcess,
) -> None:
    own_gateway.arguments = ("--memory-mib", "300")
    own_gateway.start()
    client = own_gateway.connect()
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT length(groupArray(number)) FROM numbers(200000000)")
    assert caught.value.code == 241
    assert client.query("SELECT 1").result_rows == [(1,)]


def test_requests_are_logged_at_debug_and_failures_at_info_without_statements(
    own_gateway: GatewayProcess,
) -> None:
    own_gateway.arguments = ("--log-level", "debug")
    own_gateway.start()
    ask(own_gateway, query="SELECT 'a secret'", query_id="good-one")
    ask(own_gateway, query="SELECT secret", query_id="bad-one")
    own_gateway.stop()
    lines = own_gateway.log_text().splitlines()
    good = [line for line in lines if "query_id=good-one" in line]
    bad = [line for line in lines if "query_id=bad-one" in line]
    assert [(" DEBUG " in line, "status=200" in line) for line in good] == [(True, True)]
    assert [(" INFO " in line, "code=47" in line) for line in bad] == [(True, True)]
    assert "secret" not in own_gateway.log_text()
