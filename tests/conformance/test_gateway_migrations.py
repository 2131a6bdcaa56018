"""The schema applies through the gateway, and its tables behave as the pipelines rely on."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from infra.provision.migrations import read_migrations
from tests.conformance.gateway_process import GatewayProcess

AT = datetime(2013, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def usage(gateway: GatewayProcess) -> Iterator[Any]:
    gateway.connect().command("CREATE DATABASE tollbook")
    client = gateway.connect(database="tollbook")
    for migration in read_migrations("clickhouse"):
        for statement in migration.statements():
            client.command(statement)
    yield client
    client.close()


def test_every_migration_applies_and_applies_again(usage: Any) -> None:
    before = usage.query("SHOW TABLES").result_rows
    assert ("usage_events",) in before
    for migration in read_migrations("clickhouse"):
        for statement in migration.statements():
            usage.command(statement)
    assert usage.query("SHOW TABLES").result_rows == before


def _insert_window(client: Any, version: int, total: str) -> None:
    window: dict[str, Any] = {
        "tenant": "default",
        "meter": "calls",
        "meter_version": 1,
        "subject": "s1",
    }
    window |= {"window_start": AT, "window_end": AT, "segment": 5, "segment_at": AT}
    window |= {"version": version, "count": 1, "sum": Decimal(total)}
    client.insert("usage_windows", [list(window.values())], list(window))


def test_final_reads_see_only_the_greatest_version(usage: Any) -> None:
    for version, total in ((1, "1.5"), (2**100, "2.5"), (7, "9.5")):
        _insert_window(usage, version, total)
    query = "SELECT sum, version FROM usage_windows FINAL WHERE meter = 'calls'"
    assert usage.query(query).result_rows == [(Decimal("2.5"), 2**100)]
    with_setting = usage.query("SELECT sum FROM usage_windows", settings={"final": 1})
    assert with_setting.result_rows == [(Decimal("2.5"),)]
    usage.command("OPTIMIZE TABLE usage_windows FINAL")
    assert usage.command("SELECT count() FROM usage_windows") == 1


def test_insert_select_alter_and_views_work(usage: Any) -> None:
    usage.command("CREATE TABLE copies AS usage_progress ENGINE = MergeTree ORDER BY partition")
    usage.insert("usage_progress", [[0, 1, 10, AT], [0, 2, 20, AT]])
    written = usage.command("INSERT INTO copies SELECT * FROM usage_progress").written_rows
    assert written == 2
    usage.command("ALTER TABLE copies ADD COLUMN note String DEFAULT 'none'")
    usage.command(
        "ALTER TABLE copies UPDATE note = 'x' WHERE partition = 1 SETTINGS mutations_sync = 2"
    )
    usage.command("ALTER TABLE copies DELETE WHERE partition = 2", settings={"mutations_sync": 2})
    usage.command("CREATE VIEW noted AS SELECT partition, note FROM copies")
    assert usage.query("SELECT * FROM noted").result_rows == [(1, "x")]
    usage.command(
        "CREATE MATERIALIZED VIEW counted ENGINE = SummingMergeTree ORDER BY log "
        "AS SELECT log, toUInt64(1) AS n FROM copies"
    )
    usage.insert("copies", [[3, 5, 1, AT, "y"]])
    assert usage.query("SELECT log, sum(n) FROM counted GROUP BY log").result_rows == [(3, 1)]


def test_an_insert_over_too_many_partitions_is_refused_with_252(usage: Any) -> None:
    usage.command(
        "CREATE TABLE months (at Date) ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY at"
    )
    with pytest.raises(DatabaseError) as caught:
        usage.command(
            "INSERT INTO months SELECT addMonths(toDate('2000-01-01'), number) FROM numbers(150)"
        )
    assert caught.value.code == 252


def test_async_and_sync_clients_of_one_database_see_each_other_at_once(
    gateway: GatewayProcess, usage: Any
) -> None:
    usage.command("CREATE TABLE seen (n UInt32) ENGINE = MergeTree ORDER BY n")

    async def write() -> list[int]:
        client = await gateway.connect_async(database="tollbook")
        counts = []
        try:
            for n in range(10):
                await client.insert("seen", [[n]], ["n"])
                counts.append(usage.command("SELECT count() FROM seen"))
        finally:
            await client.close()
        return counts

    assert asyncio.run(write()) == list(range(1, 11))
