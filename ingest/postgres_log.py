"""Reads from Postgres which log is the newest."""

import psycopg

from ingest.postgres_keys import KeysUnavailableError
from ingest.usage_log import LogAlarmError, UsageLog

_NEWEST = """
    SELECT log, topic, topic_id, partitions FROM logs
    WHERE closed_at IS NULL ORDER BY log DESC LIMIT 1
"""


def read_log(dsn: str, timeout_seconds: int = 5) -> UsageLog:
    """Return the log that events go into.

    Raises:
        KeysUnavailableError: Postgres is away or refuses.
        LogAlarmError: no log is open.
    """
    options = f"-c statement_timeout={timeout_seconds * 1000}"
    try:
        with psycopg.connect(dsn, connect_timeout=timeout_seconds, options=options) as connection:
            row = connection.execute(_NEWEST).fetchone()
    except psycopg.Error as error:
        raise KeysUnavailableError(str(error).strip().replace("\n", " ")) from error
    if row is None:
        raise LogAlarmError("no log is open; open one with `tollbook log open`")
    return UsageLog(*row)
