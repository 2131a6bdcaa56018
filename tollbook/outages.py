"""Tells a server that is away in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.embedded.errors import StackError


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
