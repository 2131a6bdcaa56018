"""Bodies travel plain or coded, both ways, whole or in chunks, and bombs do not fill memory."""

import asyncio
import gzip
import http.client
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from backports import zstd

from tests.conformance.gateway_process import LOGIN, GatewayProcess, ask

MIB = 1024 * 1024
ENCODE = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
}
DECODE = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": zstd.decompress,
}
LINES = b"".join(b"%d\n" % number for number in range(20_000))
TOTAL = sum(range(20_000))


@pytest.fixture
def table(client: Any) -> Iterator[str]:
    client.command("CREATE OR REPLACE TABLE coded (n UInt64) ENGINE = MergeTree ORDER BY n")
    yield "coded"
    client.command("DROP TABLE coded")


@pytest.mark.parametrize("coding", [False, "gzip", "lz4", "zstd"])
def test_the_sync_client_inserts_and_reads_in_every_coding(
    gateway: GatewayProcess, table: str, coding: Any
) -> None:
    client = gateway.connect(compress=coding)
    assert client.insert(table, [[n] for n in range(20_000)]).written_rows == 20_000
    rows = client.query(f"SELECT n FROM {table}").result_rows
    assert sum(row[0] for row in rows) == TOTAL
    client.close()


@pytest.mark.parametrize("coding", [False, "gzip", "lz4", "zstd"])
def test_the_async_client_inserts_and_reads_in_every_coding(
    gateway: GatewayProcess, table: str, coding: Any
) -> None:
    async def round_trip() -> int:
        client = await gateway.connect_async(compress=coding)
        try:
            await client.insert(table, [[n] for n in range(20_000)])
            rows = (await client.query(f"SELECT n FROM {table}")).result_rows
            return sum(row[0] for row in rows)
        finally:
            await client.close()

    assert asyncio.run(round_trip()) == TOTAL


@pytest.mark.parametrize("coding", sorted(ENCODE))
@pytest.mark.parametrize("chunked", [True, False])
def test_coded_bodies_are_read_whole_and_chunked(
    gateway: GatewayProcess, client: Any, table: str, coding: str, *, chunked: bool
) -> None:
    coded = b"INSERT INTO coded FORMAT TSV\n" + LINES
    frames = ENCODE[coding](coded[:30_000]) + ENCODE[coding](coded[30_000:])
    body: Any = frames if not chunked else (frames[i : i + 999] for i in range(0, len(frames), 999))
    headers = {**LOGIN, "Content-Encoding": coding}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    connection.request("POST", "/", body, headers, encode_chunked=chunked)
    assert connection.getresponse().status == 200
    connection.close()
    assert client.command(f"SELECT sum(n) FROM {table}") == TOTAL


@pytest.mark.parametrize("coding", sorted(DECODE))
def test_answers_come_in_the_coding_that_was_asked_for(
    gateway: GatewayProcess, coding: str
) -> None:
    headers = {**LOGIN, "Accept-Encoding": f"br;q=1.0, {coding};q=0.5"}
    for rows in (10, 2_000_000):
        query = f"SELECT number FROM numbers({rows})"
        response, body = ask(gateway, headers=headers, query=query, enable_http_compression="1")
        assert response.headers["Content-Encoding"] == coding
        assert DECODE[coding](body).count(b"\n") == rows


def test_answers_are_plain_where_no_coding_is_wanted(gateway: GatewayProcess) -> None:
    headers = {**LOGIN, "Accept-Encoding": "zstd"}
    for asked in ({"headers": headers, "enable_http_compression": "0"}, {}):
        response, body = ask(gateway, query="SELECT 1", **asked)  # type: ignore[arg-type]
        assert "Content-Encoding" not in response.headers
        assert body == b"1\n"


@pytest.mark.parametrize("coding", sorted(ENCODE))
@pytest.mark.parametrize("fault", ["cut", "garbage"])
def test_a_broken_coded_body_stores_nothing(
    gateway: GatewayProcess, client: Any, table: str, coding: str, fault: str
) -> None:
    whole = ENCODE[coding](b"INSERT INTO coded FORMAT TSV\n" + LINES)
    body = whole[: len(whole) // 2] if fault == "cut" else b"not at all" + whole
    headers = {**LOGIN, "Content-Encoding": coding}
    response, text = ask(gateway, "POST", headers=headers, body=body)
    assert response.status == 400
    assert b"Traceback" not in text
    assert client.command(f"SELECT count() FROM {table}") == 0


def test_an_unknown_coding_is_refused(gateway: GatewayProcess) -> None:
    headers = {**LOGIN, "Content-Encoding": "br"}
    assert ask(gateway, "POST", headers=headers, body=b"SELECT 1")[0].status == 415


@pytest.mark.parametrize("coding", ["gzip", "lz4", "zstd"])
def test_a_bomb_is_refused_in_bounded_memory(gateway: GatewayProcess, coding: str) -> None:
    bomb = ENCODE[coding](b"SELECT '" + bytes(200 * MIB))
    proc = Path(f"/proc/{gateway.process.pid}")
    (proc / "clear_refs").write_text("5")
    before = _peak_bytes(proc)
    headers = {**LOGIN, "Content-Encoding": coding}
    response, _ = ask(gateway, "POST", headers=headers, body=bomb)
    assert response.status == 413
    assert _peak_bytes(proc) - before < 80 * MIB


def _peak_bytes(proc: Path) -> int:
    status = (proc / "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
