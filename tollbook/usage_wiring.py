"""Wires the reading of usage to the servers of a stack."""

import time
from typing import Any

import clickhouse_connect
import psycopg

from pipelines.audit import Auditor
from pipelines.chain import Chain
from pipelines.clickhouse_audit import ClickHouseAudit
from pipelines.clickhouse_progress import ClickHouseProgress
from pipelines.clickhouse_query import ClickHouseQuery
from pipelines.kafka_ticks import KafkaTicks
from pipelines.postgres_cuts import PostgresCuts
from pipelines.postgres_segments import PostgresSegments
from pipelines.query import UsageQueries
from pipelines.reader import Reader


def open_clickhouse(clickhouse_url: str) -> Any:
    """Return a client that several threads may share, since it keeps no session."""
    return clickhouse_connect.get_client(dsn=clickhouse_url, autogenerate_session_id=False)


def open_reader(*, kafka_bootstrap: str, postgres_dsn: str, clickhouse_url: str) -> Reader:
    """Return a reader of usage with connections of its own."""
    connection = psycopg.connect(postgres_dsn, autocommit=True)
    clickhouse = open_clickhouse(clickhouse_url)
    return Reader(
        cuts=PostgresCuts(connection),
        chain=open_chain(connection, clickhouse, kafka_bootstrap),
        queries=open_queries(connection, clickhouse),
    )


def open_chain(
    connection: "psycopg.Connection[Any]", clickhouse: Any, kafka_bootstrap: str
) -> Chain:
    """Return what fixes cuts, over connections of the caller's."""
    cuts = PostgresCuts(connection)
    auditor = Auditor(ClickHouseAudit(clickhouse), PostgresSegments(connection), cuts.behind)
    return Chain(
        cuts=cuts,
        ticks=KafkaTicks(kafka_bootstrap),
        progress=ClickHouseProgress(clickhouse).next_offsets,
        audit=auditor.audit,
        pause=time.sleep,
    )


def open_queries(connection: "psycopg.Connection[Any]", clickhouse: Any) -> UsageQueries:
    """Return what answers questions of usage, over connections of the caller's."""
    return UsageQueries(
        cuts=PostgresCuts(connection),
        tables=ClickHouseQuery(clickhouse),
        progress=ClickHouseProgress(clickhouse).next_offsets,
    )
