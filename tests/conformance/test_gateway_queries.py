"""Statements through clickhouse-connect: streams, bound values, settings, external data."""

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clickhouse_connect import common
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

from tests.conformance.gateway_process import GatewayProcess

MILLION = "SELECT number, toString(number) AS text FROM numbers(1000000)"
TOTAL = sum(range(1_000_000))


def test_row_blocks_stream_every_row_once(client: Any) -> None:
    with client.query_row_block_stream(MILLION) as stream:
        blocks = [(len(block), sum(row[0] for row in block)) for block in stream]
    assert len(blocks) > 5
    assert sum(total for _, total in blocks) == TOTAL
    with client.query_rows_stream(MILLION) as rows:
        assert sum(row[0] for row in rows) == TOTAL


def test_column_blocks_and_data_frames_stream_every_row_once(client: Any) -> None:
    with client.query_column_block_stream(MILLION) as stream:
        assert sum(sum(block[0]) for block in stream) == TOTAL
    with client.query_df_stream(MILLION) as frames:
        assert sum(int(frame["number"].sum()) for frame in frames) == TOTAL


def test_arrow_streams_hold_every_row_once(client: Any) -> None:
    with client.query_arrow_stream(MILLION) as stream:
        batches = list(stream)
    assert len(batches) > 5
    assert sum(sum(batch.column("number").to_pylist()) for batch in batches) == TOTAL


def test_arrow_streams_keep_dictionaries_that_differ_from_block_to_block(client: Any) -> None:
    query = "SELECT toLowCardinality(toString(intDiv(number, 1000))) AS k FROM numbers(300000)"
    settings = {"output_format_arrow_low_cardinality_as_dictionary": 1}
    with client.query_arrow_stream(query, settings=settings, use_strings=True) as stream:
        keys = [key for batch in stream for key in batch.column("k").to_pylist()]
    assert sorted(keys) == sorted(str(number // 1000) for number in range(300_000))


def test_an_arrow_stream_says_where_it_ends(client: Any) -> None:
    raw = client.raw_query(MILLION, fmt="ArrowStream")
    assert raw.endswith(b"\xff\xff\xff\xff\x00\x00\x00\x00")
    assert pa.ipc.open_stream(raw).read_all().num_rows == 1_000_000


def test_an_empty_arrow_stream_still_has_its_schema(client: Any) -> None:
    raw = client.raw_query("SELECT toInt32(1) AS a FROM numbers(0)", fmt="ArrowStream")
    table = pa.ipc.open_stream(raw).read_all()
    assert table.schema.names == ["a"]
    assert table.num_rows == 0


def test_the_async_client_streams_every_row_once(gateway: GatewayProcess) -> None:
    async def add_up() -> tuple[int, int]:
        connected = await gateway.connect_async()
        try:
            total = 0
            async with await connected.query_row_block_stream(MILLION) as stream:
                async for block in stream:
                    total += sum(row[0] for row in block)
            arrow = await connected.query_arrow(MILLION)
            return total, sum(arrow.column("number").to_pylist())
        finally:
            await connected.close()

    assert asyncio.run(add_up()) == (TOTAL, TOTAL)


def test_an_abandoned_stream_leaves_the_client_usable(client: Any) -> None:
    with client.query_row_block_stream("SELECT number FROM numbers(5000000)") as stream:
        next(iter(stream))
    assert client.query("SELECT 1").result_rows == [(1,)]


def test_bound_values_arrive_exactly_as_they_were_sent(client: Any) -> None:
    given = {
        "text": 'tab\t newline\n quote\' "double" back\\slash {x:Int8} é',
        "list": ["x'", "\\", "\n", ""],
        "at": datetime(2013, 1, 1, 0, 0, 0, 123456, tzinfo=UTC),
        "none": None,
        "exact": Decimal("12345678901234567890.123456789012"),
        "table": "numbers",
    }
    found = client.query(
        "SELECT {text:String}, {list:Array(String)}, {at:DateTime64(6, 'UTC')}, "
        "{none:Nullable(String)}, {exact:Decimal(38, 12)} FROM system.{table:Identifier} LIMIT 1",
        parameters=given,
    )
    assert list(found.result_rows[0]) == [given[key] for key in list(given)[:-1]]


def test_bound_values_work_in_inserts(client: Any) -> None:
    client.command(
        "CREATE OR REPLACE TABLE bound (a UInt8, b String) ENGINE = MergeTree ORDER BY a"
    )
    given = {"a": 7, "b": "x'\n"}
    client.command("INSERT INTO bound VALUES ({a:UInt8}, {b:String})", parameters=given)
    client.command("INSERT INTO bound SELECT {a:UInt8} + 1, {b:String}", parameters=given)
    assert client.query("SELECT * FROM bound ORDER BY a").result_rows == [(7, "x'\n"), (8, "x'\n")]


def test_a_missing_bound_value_is_refused(client: Any) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT {absent:UInt8}")
    assert caught.value.code == 456


def test_settings_hold_for_their_query_only(client: Any) -> None:
    query = "SELECT getSetting('max_threads')"
    before = client.query(query).result_rows
    assert client.query(query, settings={"max_threads": 7}).result_rows == [(7,)]
    assert client.query(query).result_rows == before != [(7,)]


def test_settings_change_what_the_engine_does(client: Any) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT number FROM numbers(100)", settings={"max_result_rows": 10})
    assert caught.value.code == 396


def test_an_unknown_setting_is_refused_with_115(client: Any) -> None:
    before = common.get_setting("invalid_setting_action")
    common.set_setting("invalid_setting_action", "send")
    try:
        with pytest.raises(DatabaseError, match="Unknown setting 'no_such_setting'") as caught:
            client.query("SELECT 1", settings={"no_such_setting": 1})
    finally:
        common.set_setting("invalid_setting_action", before)
    assert caught.value.code == 115


@pytest.mark.parametrize("output", ["JSON", "JSONEachRow", "CSVWithNames", "Parquet", "Pretty"])
def test_formats_that_open_and_close_a_document_come_whole(client: Any, output: str) -> None:
    raw = client.raw_query("SELECT number AS n FROM numbers(200000)", fmt=output)
    if output == "JSON":
        assert len(json.loads(raw)["data"]) == 200_000
    elif output == "Parquet":
        assert pq.read_table(pa.BufferReader(raw)).num_rows == 200_000
    elif output == "CSVWithNames":
        assert raw.decode().split("\n")[:2] == ['"n"', "0"]
        assert raw.count(b'"n"') == 1
    elif output == "JSONEachRow":
        assert raw.count(b"\n") == 200_000
    else:
        assert raw


def test_external_data_joins_as_a_table_and_leaves_nothing(client: Any) -> None:
    data = ExternalData(
        file_name="rates.csv",
        data=b"a,1.50\nb,2.25\n",
        fmt="CSV",
        structure="k String, r Decimal(9,2)",
    )
    data.add_file(
        file_name="names.tsv", data=b"a\tAnn\n", types=["String", "LowCardinality(String)"]
    )
    found = client.query(
        "SELECT k, r * {n:UInt8}, _2 FROM rates LEFT JOIN names ON k = _1 ORDER BY k",
        parameters={"n": 2},
        external_data=data,
    )
    assert found.result_rows == [("a", Decimal("3.00"), "Ann"), ("b", Decimal("4.50"), "")]
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT * FROM rates")
    assert caught.value.code == 60


def test_external_data_works_for_raw_queries_and_commands(client: Any) -> None:
    data = ExternalData(file_name="ids", data=b"1\n2\n", fmt="TSV", structure="id UInt8")
    assert client.raw_query("SELECT sum(id) FROM ids", external_data=data) == b"3\n"
    assert client.command("SELECT count() FROM ids", external_data=data) == 2


def test_long_statements_and_form_encoded_values_pass(gateway: GatewayProcess) -> None:
    client = gateway.connect(form_encode_query_params=True)
    many = list(range(20_000))
    found = client.query("SELECT length({ids:Array(UInt32)})", parameters={"ids": many})
    assert found.result_rows == [(20_000,)]
    text = "x" * 200_000
    assert client.query(f"SELECT length('{text}')").result_rows == [(200_000,)]
    client.close()


def test_summaries_count_what_was_read_written_and_returned(client: Any) -> None:
    client.command("CREATE OR REPLACE TABLE counted (n UInt64) ENGINE = MergeTree ORDER BY n")
    written = client.command("INSERT INTO counted SELECT number FROM numbers(1234)")
    assert written.written_rows == 1234
    read = client.query("SELECT n FROM counted WHERE n < 10")
    assert read.summary["read_rows"] == "1234"
    assert read.summary["result_rows"] == "10"
    assert int(read.summary["elapsed_ns"]) > 0


def test_a_query_id_is_echoed(client: Any) -> None:
    found = client.query("SELECT 1", settings={"query_id": "my-id-1"})
    assert found.query_id == "my-id-1"
