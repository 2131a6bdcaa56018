"""The body of an insert holds a table as Arrow would read it, without a copy of what is large."""

from typing import Any

import pyarrow as pa
import pytest

from pipelines.clickhouse_writer import Body

LARGE = pa.table({"text": [f"text {n}" for n in range(9_000)], "number": range(9_000)})
TABLES = {
    "large": LARGE,
    "small": pa.table({"text": ["", "a"], "flag": [True, False]}),
    "chunks": pa.concat_tables([LARGE, LARGE.slice(7, 4_000), LARGE.slice(8_990)]),
    "texts as a dictionary": pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()}),
    "no rows": LARGE.slice(0, 0),
}


def sent(body: Body) -> bytes:
    return b"".join(bytes(piece) for piece in body)


@pytest.mark.parametrize("compression", [None, "lz4", "gzip"])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_arrow_reads_the_table_back(table: Any, compression: str | None) -> None:
    body = Body.of(table, compression)
    assert body.size == len(sent(body))
    assert pa.ipc.open_stream(sent(body)).read_all().equals(table)


def test_a_body_can_be_sent_again() -> None:
    body = Body.of(TABLES["chunks"], None)
    assert sent(body) == sent(body)


def test_large_columns_are_sent_from_where_they_lie() -> None:
    lies = {buffer.address for buffer in LARGE.column("number").chunk(0).buffers() if buffer}
    pieces = Body.of(LARGE, None).pieces
    assert lies <= {piece.address for piece in pieces if isinstance(piece, pa.Buffer)}
