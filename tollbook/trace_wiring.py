"""Wires the search for events, dead letters and progress to the servers of a stack."""

import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg

from pipelines.clickhouse_corrections import ClickHouseCorrections
from pipelines.clickhouse_progress import ClickHouseProgress
from pipelines.clickhouse_quarantine import ClickHouseQuarantine
from pipelines.clickhouse_trace import ClickHouseTrace
from pipelines.kafka_ends import KafkaEnds
from pipelines.kafka_second_thoughts import KafkaSecondThoughts
from pipelines.postgres_cuts import PostgresCuts
from pipelines.postgres_logs import PostgresLogs
from pipelines.postgres_quarantine import PostgresQuarantine
from pipelines.postgres_replacements import PostgresReplacements
from pipelines.postgres_segments import PostgresSegments
from pipelines.progress import ProgressReader
from pipelines.releaser import Releaser
from pipelines.replacer import Replacer
from pipelines.second_thoughts import Corrector
from pipelines.trace import Tracer


def open_progress(
    connection: "psycopg.Connection[Any]", clickhouse: Any, kafka_bootstrap: str
) -> ProgressReader:
    """Return what compares the tables with the log, over connections of the caller's."""
    return ProgressReader(
        logs=PostgresLogs(connection).open_logs,
        ends=KafkaEnds(kafka_bootstrap),
        marks=ClickHouseProgress(clickhouse).marks,
        now_ms=lambda: time.time_ns() // 1_000_000,
    )


def open_tracer(
    connection: "psycopg.Connection[Any]", clickhouse: Any, kafka_bootstrap: str
) -> Tracer:
    """Return what finds events, over connections of the caller's."""
    segments = PostgresSegments(connection)
    seed, _ = segments.deployment()
    return Tracer(
        tables=ClickHouseTrace(clickhouse, PostgresQuarantine(connection).released),
        definitions=segments,
        next_offsets=ClickHouseProgress(clickhouse).next_offsets,
        progress=open_progress(connection, clickhouse, kafka_bootstrap).read,
        versions=PostgresCuts(connection).meter_versions,
        seed=seed,
    )


def open_corrector(
    connection: "psycopg.Connection[Any]", clickhouse: Any, kafka_bootstrap: str
) -> Corrector:
    """Return what corrects events, over connections of the caller's."""
    segments = PostgresSegments(connection)
    seed, _ = segments.deployment()
    progress = open_progress(connection, clickhouse, kafka_bootstrap)
    return Corrector(
        events=ClickHouseCorrections(clickhouse, seed),
        log=PostgresLogs(connection).newest,
        send=KafkaSecondThoughts(kafka_bootstrap).send,
        progress=ClickHouseProgress(clickhouse).next_offsets,
        lag=lambda: sum(each.lag for each in progress.read()),
        pause=time.sleep,
        now=lambda: datetime.now(UTC),
    )


def open_replacer(
    connection: "psycopg.Connection[Any]", clickhouse: Any, kafka_bootstrap: str
) -> Replacer:
    """Return what closes and reverts replacements, over connections of the caller's."""
    return Replacer(
        store=PostgresReplacements(connection),
        log=PostgresLogs(connection).newest,
        send=KafkaSecondThoughts(kafka_bootstrap).send,
        progress=ClickHouseProgress(clickhouse).next_offsets,
        pause=time.sleep,
    )


def open_releaser(
    connection: "psycopg.Connection[Any]", clickhouse: Any, kafka_bootstrap: str
) -> Releaser:
    """Return what releases quarantined streams, over connections of the caller's."""
    logs, log_writer = PostgresLogs(connection), KafkaSecondThoughts(kafka_bootstrap)
    return Releaser(
        store=PostgresQuarantine(connection),
        tables=ClickHouseQuarantine(clickhouse),
        logs=logs.open_logs,
        closed_ends=logs.closed_ends,
        end=log_writer.send,
        send=log_writer.send_events,
        progress=ClickHouseProgress(clickhouse).next_offsets,
        pause=time.sleep,
    )


def new_replacement_name() -> str:
    """Return a name that nobody can guess and that sorts by time."""
    return str(uuid.UUID(int=(time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)))
