"""Wires billing to a stack: usage, the database, and files of YAML."""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from billing.customer import parse_moment
from billing.declaration import Declarations, read_declarations
from billing.yaml_text import Fault, Tree, read_yaml
from infra.embedded.errors import StackError
from tollbook.stack_file import Stack

if TYPE_CHECKING:
    from pipelines.reader import Reader

Connection = psycopg.Connection[Any]

FILE_BYTES_MAX = 64 << 20


def open_database(stack: Stack) -> Connection:
    """Return a connection in autocommit."""
    try:
        return psycopg.connect(stack.postgres_dsn, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise StackError(
            f"Postgres does not answer: {str(error).strip()}", "See `tollbook status`."
        ) from error


def open_usage(stack: Stack) -> "Reader":
    """Return what billing reads usage from; its drivers are imported only now."""
    from tollbook.usage_wiring import open_reader  # noqa: PLC0415

    return open_reader(
        kafka_bootstrap=stack.kafka_bootstrap,
        postgres_dsn=stack.postgres_dsn,
        clickhouse_url=stack.clickhouse_url,
    )


def activate_meters(stack: Stack) -> None:
    """Return when every partition counts every meter of the tenant from its next event on."""
    try:
        open_usage(stack).activate_meters(stack.tenant)
    except TimeoutError as error:
        raise StackError(str(error), "Apply again to wait for it once more.") from error


def read_files(files: Sequence[Path]) -> Declarations:
    """Return what files declare, with all their faults."""
    return read_declarations([_read_file(file) for file in files])


def _read_file(file: Path) -> Tree:
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            return _unread(file, f"larger than {FILE_BYTES_MAX >> 20} MiB")
        return read_yaml(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as error:
        return _unread(file, f"not UTF-8 text (byte {error.start})")
    except OSError as error:
        return _unread(file, error.strerror or str(error))


def _unread(file: Path, reason: str) -> Tree:
    return Tree(str(file), faults=[Fault(str(file), 0, reason)])


def read_moment(text: str) -> date | datetime:
    """Return a date (local midnight of each customer), or an instant."""
    try:
        return parse_moment(text)
    except ValueError as error:
        raise StackError(
            f"not a moment: {text}", "Write 2013-02-01, or 2013-02-01T00:00:00Z."
        ) from error
