"""Values of every type that Tollbook stores come back as they went in, by Native and by Arrow."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from tests.conformance.gateway_process import GatewayProcess

PARIS = ZoneInfo("Europe/Paris")
COLUMNS = """
    id UInt64, small Decimal(10, 2), exact Decimal(38, 12), huge Decimal(76, 20),
    at DateTime64(6, 'UTC'), local DateTime64(3, 'Europe/Paris'), born Date32,
    kind LowCardinality(String), maybe Nullable(String),
    maybe_kind LowCardinality(Nullable(String)),
    tags Array(String), nested Array(Array(UInt8)), counts Map(String, UInt64),
    pair Tuple(String, Int32), hash FixedString(4), flag Bool, key UUID, wide UInt128,
    state Enum8('open' = 1, 'closed' = 2)
"""
ROWS: list[list[Any]] = [
    [
        *(1, Decimal("-0.01"), Decimal("12345678901234567890123456.123456789012")),
        *(Decimal("1.00000000000000000001"), datetime(2013, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        *(datetime(2013, 3, 31, 3, 30, tzinfo=PARIS), date(1930, 5, 5), "a", None, None),
        *(["x", "é\n'"], [[1], [], [2, 3]], {"a": 2**63}, ("t", -1), b"\x00\xff\x01 ", True),
        *(UUID("61f0c404-5cb3-11e7-907b-a6006ad3dba0"), 2**127 + 1, "closed"),
    ],
    [
        *(2**64 - 1, Decimal("99999999.99"), Decimal(0), Decimal(0)),
        *(datetime(1970, 1, 1, tzinfo=UTC), datetime(2030, 6, 1, 12, 0, tzinfo=PARIS)),
        *(date(2200, 1, 1), "", "", "b", [], [], {}, ("", 0), b"abcd", False),
        *(UUID(int=0), 0, "open"),
    ],
]


@pytest.fixture
def table(client: Any) -> Iterator[str]:
    client.command("DROP TABLE IF EXISTS every_type")
    client.command(f"CREATE TABLE every_type ({COLUMNS}) ENGINE = MergeTree ORDER BY id")
    yield "every_type"
    client.command("DROP TABLE every_type")


def _rows(result: Any) -> list[list[Any]]:
    return [list(row) for row in result.result_rows]


def test_every_type_survives_a_native_insert_and_read(client: Any, table: str) -> None:
    summary = client.insert(table, ROWS)
    assert summary.written_rows == 2
    assert _rows(client.query(f"SELECT * FROM {table} ORDER BY id")) == ROWS


def test_every_type_survives_the_async_client(gateway: GatewayProcess, table: str) -> None:
    async def round_trip() -> list[list[Any]]:
        connected = await gateway.connect_async()
        try:
            await connected.insert(table, ROWS)
            return _rows(await connected.query(f"SELECT * FROM {table} ORDER BY id"))
        finally:
            await connected.close()

    assert asyncio.run(round_trip()) == ROWS


def test_the_same_values_are_read_by_arrow_as_by_native(client: Any, table: str) -> None:
    client.insert(table, ROWS)
    columns = "id, small, exact, huge, at, local, kind, maybe, tags, counts, flag"
    found = client.query_arrow(f"SELECT {columns} FROM {table} ORDER BY id", use_strings=True)
    native = client.query(f"SELECT {columns} FROM {table} ORDER BY id").result_rows
    values = [tuple(row.values()) for row in found.to_pylist()]
    as_maps = [(*row[:9], dict(row[9]), row[10]) for row in values]
    assert as_maps == [tuple(row) for row in native]


def test_an_arrow_insert_keeps_decimals_times_nulls_and_lists(client: Any, table: str) -> None:
    block = pa.table(
        {
            "id": pa.array([7, 8], pa.uint64()),
            "exact": pa.array([Decimal("0.000000000001"), Decimal(-5)], pa.decimal128(38, 12)),
            "at": pa.array([datetime(2013, 7, 1, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC")),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "maybe": pa.array(["x", None]),
            "tags": pa.array([["p"], []], pa.list_(pa.string())),
            "hash": pa.array([b"0123", b"\x00\x01\x02\x03"], pa.binary(4)),
        }
    )
    assert client.insert_arrow(table, block).written_rows == 2
    found = client.query(f"SELECT {', '.join(block.column_names)} FROM {table} ORDER BY id")
    at = datetime(2013, 7, 1, tzinfo=UTC)
    assert _rows(found) == [
        [7, Decimal("0.000000000001"), at, "a", "x", ["p"], b"0123"],
        [8, Decimal(-5), at, "b", None, [], b"\x00\x01\x02\x03"],
    ]


def test_a_time_with_a_zone_comes_back_in_that_zone(client: Any, table: str) -> None:
    client.insert(table, ROWS)
    local = client.query(f"SELECT local FROM {table} ORDER BY id LIMIT 1").result_rows[0][0]
    assert local.tzinfo == PARIS
    assert local.isoformat() == "2013-03-31T03:30:00+02:00"


def test_json_columns_keep_their_paths(client: Any) -> None:
    client.command("DROP TABLE IF EXISTS documents")
    client.command("CREATE TABLE documents (id UInt8, data JSON) ENGINE = MergeTree ORDER BY id")
    document = {"model": "large", "usage": {"tokens": 12}, "tags": ["a", "b"]}
    client.insert("documents", [[1, document], [2, {}]])
    found = client.query("SELECT data, data.usage.tokens FROM documents ORDER BY id")
    assert _rows(found) == [[document, 12], [{}, None]]


def test_data_frames_and_numpy_arrays_are_read_and_written(client: Any) -> None:
    frame = client.query_df("SELECT number AS n, toString(number) AS s FROM numbers(3)")
    client.command("DROP TABLE IF EXISTS frames")
    client.command("CREATE TABLE frames (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    assert client.insert_df("frames", frame).written_rows == 3
    assert client.query_np("SELECT n FROM frames ORDER BY n").ravel().tolist() == [0, 1, 2]
    assert client.query_df_arrow("SELECT s FROM frames ORDER BY n")["s"].tolist() == ["0", "1", "2"]
