"""One worker: `python -m pipelines --worker I --workers N` counts the partitions p mod N = I.

Ends with status 0 on SIGTERM, after writing what it has read; with another status on any fault,
for its supervisor to start it again. It keeps nothing that the log does not hold.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import psycopg
import redis
from bytewax.run import cli_main

from pipelines.bytewax_dataflow import Worker, build_dataflow
from pipelines.clickhouse_archive import ClickHouseArchive
from pipelines.clickhouse_corrections import ClickHouseCorrections
from pipelines.clickhouse_progress import ClickHouseProgress
from pipelines.clickhouse_writer import ClickHouseWriter
from pipelines.kafka_source import KafkaSource, LogAlarmError, verify_log
from pipelines.partition import Flush, PartitionLog, SegmentMismatchError
from pipelines.position import LogPartition
from pipelines.postgres_segments import PostgresSegments
from pipelines.progress import Mark
from pipelines.redis_identities import RedisIdentities
from pipelines.segment import SlicePlan
from pipelines.settings import WorkerSettings
from pipelines.verdict import Judge

_BROKER_PATIENCE_S = 60.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def main() -> int:
    """Run a worker until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m pipelines", description=__doc__)
    parser.add_argument("--worker", type=int, required=True, help="number of this worker, from 0")
    parser.add_argument("--workers", type=int, required=True, help="how many workers there are")
    options = parser.parse_args()
    if not 0 <= options.worker < options.workers:
        parser.error("--worker must be at least 0 and below --workers")
    try:
        worker = _build(options.worker, options.workers)
    except LogAlarmError as alarm:
        _say(f"alarm: {alarm}")
        return 3
    if worker is None:
        _say(f"worker {options.worker} of {options.workers} has no partition; nothing to do")
        signal.sigwait([signal.SIGTERM, signal.SIGINT])
        return 0

    def stop(*_: object) -> None:
        worker.is_stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # The supervisor takes a worker that says this for ready.
    _say("ready: reads partitions " + ",".join(str(at.partition) for at in worker.logs))
    try:
        cli_main(build_dataflow(worker))  # type: ignore[no-untyped-call]
    except (LogAlarmError, SegmentMismatchError) as alarm:
        _say(f"alarm: {alarm}")
        return 3
    return 0


def _build(number: int, workers: int) -> Worker | None:
    settings = WorkerSettings.model_validate({})
    book = PostgresSegments(psycopg.connect(settings.postgres_dsn, autocommit=True))
    clickhouse: Any = clickhouse_connect.get_client(
        dsn=settings.clickhouse_url,
        autogenerate_session_id=False,
        # Compressing for a server on the same machine costs both sides more than it saves.
        compress=urlsplit(settings.clickhouse_url).hostname not in _LOOPBACK,
    )
    seed, deployment = book.deployment()
    memory = RedisIdentities(redis.Redis.from_url(settings.redis_url), deployment)
    memory.check_settings()
    plan = SlicePlan(settings.slice_events, settings.slices_max)
    log = book.logs()[-1]
    stored = ClickHouseProgress(clickhouse).marks()
    partitions = [p for p in range(log.partitions) if p % workers == number]
    if not partitions:
        return None
    marks = {p: stored.get(LogPartition(log.log, p), Mark(0, 0)) for p in partitions}
    progress = {p: mark.next_offset for p, mark in marks.items()}
    verify_log(settings.kafka_bootstrap, log, progress, _BROKER_PATIENCE_S)
    resumed = {p: book.resume(LogPartition(log.log, p), end) for p, end in progress.items()}
    starts = {p: segment.start_offset if segment else 0 for p, (segment, _) in resumed.items()}
    worker = Worker(
        source=KafkaSource(settings.kafka_bootstrap, log, starts),
        corrections=ClickHouseCorrections(clickhouse, seed),
        writer=ClickHouseWriter(clickhouse),
        flushed=_log_flush,
    )
    for partition, (segment, slice_starts) in resumed.items():
        at, start = LogPartition(log.log, partition), starts[partition]
        worker.logs[at] = PartitionLog(
            at=at,
            book=book,
            judge=Judge(memory, ClickHouseArchive(clickhouse), archived=start, claimed=start),
            desk=worker,
            seed=seed,
            plan=plan,
            segment=segment,
            slice_starts=slice_starts,
            next_offset=start,
            time_max_us=marks[partition].time_max_us,
        )
    return worker


def _log_flush(flushes: Sequence[Flush], rows: dict[str, int], seconds: float) -> None:
    """Print the canonical line of one write."""
    places = " ".join(f"{flush.at}<{flush.next_offset}" for flush in flushes)
    counts = " ".join(f"{table}={count}" for table, count in rows.items())
    _say(f"wrote {places} {counts} ms={seconds * 1000:.0f}")


def _say(text: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{now} worker pid={os.getpid()} {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
