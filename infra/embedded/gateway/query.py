"""Runs one statement on a prepared connection and writes what it returns.

Formats whose blocks can stand one after another are streamed from the engine; the others, which
open and close a document, are made whole first.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from infra.embedded.gateway.answer import Answer, Summary
from infra.embedded.gateway.chdb_engine import EngineConnection, fetch_all
from infra.embedded.gateway.errors import EngineError, GatewayError
from infra.embedded.gateway.options import Options
from infra.embedded.gateway.statement import STREAMED_KINDS, Statement

_STREAMED_FORMATS = frozenset(
    {
        *("native", "rowbinary", "arrowstream", "msgpack"),
        *("tabseparated", "tsv", "tabseparatedraw", "tsvraw", "raw", "csv", "lineasstring"),
        *("jsoneachrow", "jsonlines", "ndjson", "jsoncompacteachrow", "jsonstringseachrow"),
        *("jsoncompactstringseachrow",),
    }
)
# What chdb makes into objects of this process, instead of bytes.
_NO_BYTES = frozenset({"dataframe", "arrowtable"})
_PIECE_BYTES = 1024 * 1024
_ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def run_insert(
    connection: EngineConnection,
    statement: Statement,
    rest: Iterator[bytes],
    bytes_max: int,
    summary: Summary,
) -> None:
    """Stores the data of an insert; what the summary then counts is on disk."""
    data = chain((statement.data or b"",), rest)
    chunks = _bounded(data, bytes_max)
    result = connection.insert(statement.head, str(statement.format), chunks)
    summary.read_rows = summary.written_rows = result.rows_written
    summary.read_bytes = summary.written_bytes = result.bytes_written


def run_query(
    connection: EngineConnection, statement: Statement, options: Options, answer: Answer
) -> None:
    """Runs a statement and writes its result into the answer."""
    output_format = statement.format or options.output_format
    if output_format.lower() in _NO_BYTES:
        raise GatewayError(73, "UNKNOWN_FORMAT", f"Unknown format {output_format}")
    if statement.has_result:
        answer.headers["X-ClickHouse-Format"] = output_format
    name = output_format.lower()
    if statement.kind in STREAMED_KINDS and name in _STREAMED_FORMATS:
        try:
            running = connection.stream(statement.head, output_format, options.bound)
        except EngineError as error:
            if "Streaming query is not supported" not in error.text:
                raise
        else:
            if _write_stream(running, name == "arrowstream", answer) or name != "arrowstream":
                return
    result = connection.query(statement.head, output_format, options.bound)
    _count(answer.summary, result)
    answer.summary.written_rows += result.rows_written()
    answer.summary.written_bytes += result.bytes_written()
    if not statement.has_result and result.size():
        answer.headers["X-ClickHouse-Format"] = output_format
    view = result.get_memview().view()
    for at in range(0, len(view), _PIECE_BYTES):
        answer.write(view[at : at + _PIECE_BYTES])


def _write_stream(running: Any, is_arrow: bool, answer: Answer) -> bool:
    """Writes the blocks of a running query; returns False where there were none."""
    has_rows = False
    for block in fetch_all(running):
        _count(answer.summary, block)
        data = block.bytes()
        answer.write(_join_arrow(data, is_first=not has_rows) if is_arrow else data)
        has_rows = True
    if is_arrow and has_rows:
        answer.write(_ARROW_END)
    return has_rows


def _join_arrow(stream: bytes, *, is_first: bool) -> bytes:
    """Returns a block's Arrow stream without its end, and without the schema after the first."""
    body = stream.removesuffix(_ARROW_END)
    if is_first:
        return body
    schema_bytes = 8 + int.from_bytes(body[4:8], "little")
    return body[schema_bytes:]


def _count(summary: Summary, result: Any) -> None:
    summary.read_rows += result.storage_rows_read()
    summary.read_bytes += result.storage_bytes_read()
    summary.result_rows += result.rows_read()
    summary.result_bytes += result.bytes_read()


def _bounded(chunks: Iterator[bytes], bytes_max: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > bytes_max:
            message = f"The insert is larger than {bytes_max} bytes"
            raise GatewayError(307, "TOO_MANY_BYTES", message, status=413)
        if chunk:
            yield chunk
