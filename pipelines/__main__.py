"""One worker: `python -m pipelines --worker I --workers N` counts the partitions p mod N = I.

It reads every open log, and looks again and again at which those are. Ends with status 0 on
SIGTERM, after writing what it has read; with another status on any fault, for its supervisor to
start it again. It keeps nothing that the log does not hold.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import psycopg
from bytewax.errors import BytewaxRuntimeError
from bytewax.run import cli_main

from ingest.without_pandas import keep_out_pandas

# Compiled: loaded before any event comes.
from pipelines import body_hash, plain_members, siphash, window_order  # noqa: F401
from pipelines.bytewax_dataflow import Worker, build_dataflow
from pipelines.clickhouse_archive import ClickHouseArchive
from pipelines.clickhouse_corrections import ClickHouseCorrections
from pipelines.clickhouse_progress import ClickHouseProgress
from pipelines.clickhouse_replacements import ClickHouseReplacements
from pipelines.clickhouse_writer import ClickHouseWriter
from pipelines.kafka_source import KafkaSource, LogAlarmError
from pipelines.kafka_topics import KafkaTopics
from pipelines.outage import TransientError
from pipelines.partition import Desk, Flush, PartitionLog, SegmentMismatchError
from pipelines.position import LogPartition
from pipelines.postgres_logs import PostgresLogs
from pipelines.postgres_replacements import PostgresReplacements
from pipelines.postgres_segments import PostgresSegments
from pipelines.progress import Mark
from pipelines.quarantine import Streams, alarms_of
from pipelines.redis_identities import RedisIdentities, open_redis
from pipelines.segment import Segment, SlicePlan
from pipelines.settings import WorkerSettings
from pipelines.verdict import Judge
from pipelines.worker_plan import Plan, Share, make_plan

_BROKER_PATIENCE_S = 60.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LOOK_SECONDS = 2.0
_RETRY_SECONDS = 1.0
_PULSE_SECONDS = 0.5
_STILL_SECONDS_MAX = 600.0
"""Nothing takes so long between two reads or writes, not even a memory of identities refilled."""


@dataclass(slots=True)
class Servers:
    """The servers of one worker, and what it knows of its partitions."""

    settings: WorkerSettings
    share: Share
    book: PostgresSegments
    clickhouse: Any
    topics: KafkaTopics
    suspended: dict[LogPartition, str] = field(default_factory=dict)
    """Partitions whose segments were not as agreed, and how; until this process ends."""
    alarms: Sequence[str] = ()
    quarantined: Mapping[LogPartition, Streams] = field(default_factory=dict)
    """What was told last."""

    @classmethod
    def connect(cls, settings: WorkerSettings, share: Share) -> "Servers":
        """Return connections of their own."""
        return cls(
            settings,
            share,
            PostgresSegments(psycopg.connect(settings.postgres_dsn, autocommit=True)),
            clickhouse_connect.get_client(
                dsn=settings.clickhouse_url,
                autogenerate_session_id=False,
                # Compressing for a server on the same machine costs both more than it saves.
                compress=urlsplit(settings.clickhouse_url).hostname not in _LOOPBACK,
            ),
            KafkaTopics(settings.kafka_bootstrap),
        )

    def plan(
        self,
        connection: "psycopg.Connection[Any]",
        starts: Mapping[LogPartition, int],
        counted: Mapping[LogPartition, int],
    ) -> Plan:
        """Return what to read now."""
        logs = PostgresLogs(connection).open_logs()
        topics = self.topics.find(logs, self.share.of(logs))
        return make_plan(self.share, logs, topics, starts, counted, self.suspended)

    def build(self) -> tuple[Plan, Worker]:
        """Return what is read, and the dataflow's state where each partition's segment starts."""
        memory, seed = self._memory()
        slices = SlicePlan(self.settings.slice_events, self.settings.slices_max)
        marks = ClickHouseProgress(self.clickhouse).marks()
        resumed = {}
        for at in self.share.of(PostgresLogs(self.book.connection).open_logs()):
            resumed[at] = self.book.resume(at, marks.get(at, Mark(0, 0)).next_offset)
        starts = {at: _start_of(segment) for at, (segment, _) in resumed.items()}
        plan = self._patient_plan(starts, {at: mark.next_offset for at, mark in marks.items()})
        worker = Worker(
            source=KafkaSource(
                self.settings.kafka_bootstrap, plan.logs, {at: starts[at] for at in plan.places}
            ),
            writer=ClickHouseWriter(self.clickhouse),
            flushed=lambda *written: self._flushed(worker, *written),
            delayed=_log_delay,
        )
        archive, desk = ClickHouseArchive(self.clickhouse), self._desk(worker, seed)
        partitions = {log.log: log.partitions for log in plan.logs}
        for at in plan.places:
            segment, slice_starts = resumed[at]
            worker.logs[at] = PartitionLog(
                at=at,
                book=self.book,
                judge=Judge(memory, archive, archived=starts[at], claimed=starts[at]),
                desk=desk,
                seed=seed,
                plan=slices,
                partitions=partitions[at.log],
                segment=segment,
                slice_starts=slice_starts,
                next_offset=starts[at],
                time_max_us=marks.get(at, Mark(0, 0)).time_max_us,
                bad_events_max=self.settings.bad_events_max,
            )
        self.alarms = plan.alarms
        return plan, worker

    def _flushed(
        self, worker: Worker, flushes: Sequence[Flush], rows: dict[str, int], seconds: float
    ) -> None:
        _log_flush(flushes, rows, seconds)
        if self.quarantined != _quarantined(worker):
            self.say_alarms(worker)

    def say_alarms(self, worker: Worker) -> None:
        """Say what a person has to mend, instead of what was said before."""
        self.quarantined = _quarantined(worker)
        _say("alarms end")
        for alarm in (*self.alarms, *alarms_of(self.quarantined)):
            _say(f"alarm: {alarm}")

    def _desk(self, worker: Worker, seed: int) -> Desk:
        corrections = ClickHouseCorrections(self.clickhouse, seed)
        return Desk(
            settle=worker.settle,
            corrections=corrections,
            replacing=ClickHouseReplacements(self.clickhouse, corrections),
            replacement=PostgresReplacements(self.book.connection).find,
        )

    def _memory(self) -> tuple[RedisIdentities, int]:
        seed, deployment = self.book.deployment()
        memory = RedisIdentities(
            open_redis(self.settings.redis_url), deployment, self.settings.slice_events
        )
        memory.check_settings()
        return memory, seed

    def _patient_plan(
        self, starts: Mapping[LogPartition, int], counted: Mapping[LogPartition, int]
    ) -> Plan:
        deadline = time.monotonic() + _BROKER_PATIENCE_S
        while True:
            try:
                plan = self.plan(self.book.connection, starts, counted)
                # A log that was opened in between is read from the next plan on.
                return Plan(plan.logs, tuple(p for p in plan.places if p in starts), plan.alarms)
            except TransientError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_SECONDS)


def main() -> int:
    """Run a worker until it is told to stop."""
    keep_out_pandas()
    parser = argparse.ArgumentParser(prog="python -m pipelines", description=__doc__)
    parser.add_argument("--worker", type=int, required=True, help="number of this worker, from 0")
    parser.add_argument("--workers", type=int, required=True, help="how many workers there are")
    options = parser.parse_args()
    if not 0 <= options.worker < options.workers:
        parser.error("--worker must be at least 0 and below --workers")
    settings = WorkerSettings.model_validate({})
    share = Share(options.worker, options.workers)
    servers = Servers.connect(settings, share)
    told_to_stop = threading.Event()
    running: list[Worker] = []

    def stop(*_: object) -> None:
        told_to_stop.set()
        for worker in running:
            worker.is_stopping = True

    if settings.pulse_file:
        path = Path(settings.pulse_file)
        threading.Thread(target=_beat, args=(path, running, told_to_stop), daemon=True).start()
    while not told_to_stop.is_set():
        plan, worker = servers.build()
        running[:] = [worker]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        _run(servers, plan, worker)
    return 0


def _run(servers: Servers, plan: Plan, worker: Worker) -> None:
    """Count by a plan until another one is needed."""
    # What the supervisor shows until there is other to be told.
    servers.say_alarms(worker)
    # The supervisor takes a worker that says this for ready.
    _say(f"ready: reads partitions {','.join(map(str, plan.places)) or '(none)'}")
    ended = threading.Event()
    watching = threading.Thread(target=_watch, args=(servers, plan, worker, ended), daemon=True)
    watching.start()
    try:
        cli_main(build_dataflow(worker))  # type: ignore[no-untyped-call]
    except BytewaxRuntimeError as error:
        cause = _cause_of(error)
        if isinstance(cause, SegmentMismatchError):
            servers.suspended[cause.at] = str(cause)
        elif not isinstance(cause, LogAlarmError):
            raise
        else:
            # The next plan says what is wrong.
            time.sleep(_RETRY_SECONDS)
    finally:
        ended.set()


def _beat(path: Path, running: list[Worker], told_to_stop: threading.Event) -> None:
    """Touch the pulse file again and again, unless the dataflow has stood still for too long."""
    while not told_to_stop.wait(_PULSE_SECONDS):
        if any(time.monotonic() - worker.turned_at > _STILL_SECONDS_MAX for worker in running):
            continue
        path.touch()


def _watch(servers: Servers, plan: Plan, worker: Worker, ended: threading.Event) -> None:
    """Stop the dataflow when the logs are no longer what it was planned for."""
    starts = {at: log.next_offset for at, log in worker.logs.items()}
    with ExitStack() as kept:
        connection: psycopg.Connection[Any] | None = None
        while not ended.wait(_LOOK_SECONDS):
            counted = {at: log.next_offset for at, log in worker.logs.items()}
            try:
                if connection is None:
                    connection = _connect(servers.settings.postgres_dsn)
                    kept.callback(connection.close)
                later = servers.plan(connection, starts, counted)
            except TransientError:
                # What is away is noticed by the dataflow itself, where it needs it.
                continue
            except psycopg.OperationalError:
                kept.close()
                connection = None
                continue
            if not plan.holds(later):
                _say("the logs have changed: plans anew")
                worker.is_sound = later.covers(plan)
                worker.is_stopping = True
                return


def _connect(dsn: str) -> "psycopg.Connection[Any]":
    """Return a connection that is kept: to log in costs Postgres' client and server milliseconds.

    A server that is gone without a word is noticed within seconds.
    """
    return psycopg.connect(
        dsn, autocommit=True, connect_timeout=5, keepalives_idle=5, tcp_user_timeout=5_000
    )


def _cause_of(error: BaseException) -> BaseException:
    """Return what a step raised, which Bytewax wraps once per layer."""
    while isinstance(error, BytewaxRuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _quarantined(worker: Worker) -> dict[LogPartition, Streams]:
    held = {at: log.segment.streams for at, log in worker.logs.items() if log.segment is not None}
    return {at: Streams(streams.quarantined) for at, streams in held.items() if streams.quarantined}


def _start_of(segment: Segment | None) -> int:
    return 0 if segment is None else segment.start_offset


def _log_flush(flushes: Sequence[Flush], rows: dict[str, int], seconds: float) -> None:
    """Print the canonical line of one write."""
    places = " ".join(f"{flush.at}<{flush.next_offset}" for flush in flushes)
    counts = " ".join(f"{table}={count}" for table, count in rows.items())
    _say(f"wrote {places} {counts} ms={seconds * 1000:.0f}")


def _log_delay(error: TransientError, pause: float) -> None:
    """Say, once per try, that a write has to wait."""
    _say(f"waiting {pause:.1f} s: {error}")


def _say(text: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{now} worker pid={os.getpid()} {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
