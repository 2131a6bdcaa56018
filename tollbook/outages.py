"""Connects commands to a stack's servers; tells one that is away in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.embedded.errors import StackError
from tollbook.stack_file import Stack, read_stack


@contextmanager
def outages_told() -> Iterator[None]:
    """Turn outages into errors for people."""
    import psycopg  # noqa: PLC0415
    from clickhouse_connect.driver.exceptions import OperationalError  # noqa: PLC0415

    from pipelines.outage import TransientError  # noqa: PLC0415

    try:
        yield
    except TransientError as error:
        raise StackError(str(error), "See `tollbook status`.") from error
    except (OperationalError, psycopg.OperationalError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise StackError(f"a server does not answer: {reason}", "See `tollbook status`.") from error


@contextmanager
def servers(data_dir: Path) -> Iterator[tuple[Stack, Any, Any]]:
    """Connect to a stack's Postgres and ClickHouse; an outage is told in one line."""
    import psycopg  # noqa: PLC0415

    from tollbook.usage_wiring import open_clickhouse  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with outages_told(), psycopg.connect(stack.postgres_dsn, autocommit=True) as connection:
        yield stack, connection, open_clickhouse(stack.clickhouse_url)
