"""What metering costs, from the log to acknowledged inserts: CPU-seconds per million events.

CPU is the figure that stays the same on a busy machine; the rate is that of the wall clock.
"""

import json
import time
from collections.abc import Mapping

import psutil
import psycopg

from pipelines.clickhouse_progress import ClickHouseProgress
from pipelines.position import LogPartition
from tollbook.bench.figure import Figure
from tollbook.bench.load import Shape, definitions, produce, records
from tollbook.billing_wiring import activate_meters
from tollbook.stack_file import Stack
from tollbook.usage_wiring import open_clickhouse

WORKERS_TARGET = 2.0
REDIS_TARGET = 2.0
_SERVERS = ("clickhouse", "redis", "kafka")


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU-seconds of a stack's processes so far; the workers' together."""
    spent = {"workers": 0.0}
    for name, pid in pids.items():
        kind = "workers" if name.startswith("worker-") else name
        if kind == "workers" or kind in _SERVERS:
            times = psutil.Process(pid).cpu_times()
            spent[kind] = spent.get(kind, 0.0) + times.user + times.system
    return spent


def create_meters(stack: Stack, event_type: str, prefix: str) -> None:
    """Store the meters and wait until every partition counts them."""
    with psycopg.connect(stack.postgres_dsn) as connection:
        for definition in definitions(event_type, prefix):
            connection.execute(
                "INSERT INTO meters (tenant, key, version, definition) VALUES (%s, %s, 1, %s)",
                (stack.tenant, definition["key"], json.dumps(definition)),
            )
    activate_meters(stack)


def partitions_of(stack: Stack) -> int:
    """Return how many partitions the newest log has."""
    with psycopg.connect(stack.postgres_dsn) as connection:
        row = connection.execute("SELECT partitions FROM logs ORDER BY log DESC LIMIT 1").fetchone()
    assert row is not None  # noqa: S101 - a stack that is up has a log
    return int(row[0])


def _covers(found: Mapping[LogPartition, int], ends: Mapping[int, int]) -> bool:
    newest = max((at.log for at in found), default=0)
    return all(found.get(LogPartition(newest, p), 0) >= end for p, end in ends.items())


def measure_metering(stack: Stack, shape: Shape) -> list[Figure]:
    """Fill the log, and take CPU and time until everything is counted."""
    name = shape.event_type
    create_meters(stack, name, name.replace(".", "_"))
    progress = ClickHouseProgress(open_clickhouse(stack.clickhouse_url)).next_offsets
    made = list(records(shape, stack.tenant, name, partitions_of(stack)))
    before, started = cpu_seconds(stack.pids), time.monotonic()
    ends = produce(stack, made)
    while not _covers(progress(), ends):
        time.sleep(0.2)
    seconds = time.monotonic() - started
    after = cpu_seconds(stack.pids)
    workers = sum(part.startswith("worker-") for part in stack.pids)
    where = f"{shape}, {workers} worker{'s' * (workers > 1)}"
    targets = {"workers": WORKERS_TARGET, "redis": REDIS_TARGET}
    figures = [
        Figure(
            f"metering: {part}",
            (after[part] - before[part]) / shape.events * 1e6,
            "CPU-s per million events",
            where,
            targets.get(part),
        )
        for part in ("workers", *_SERVERS)
    ]
    memory = max(
        psutil.Process(pid).memory_info().rss
        for part, pid in stack.pids.items()
        if part.startswith("worker-")
    )
    figures.append(Figure("metering: the largest worker", memory / 2**20, "MiB RSS", where, 1024))
    rate = shape.events / seconds
    figures.append(Figure("metering: wall time", 1e6 / rate, "s per million events", where))
    return figures
