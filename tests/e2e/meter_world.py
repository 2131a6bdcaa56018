"""Logs driven by hand through the real tables, and a naive model of what counts as of each cut.

No broker and no process: records are fed to the workers' own partitions, one at a time, and all
that they, audits and seeders write goes into databases of its own on the stack's real servers.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pyarrow as pa

from billing.declaration import Declarations, Meter
from billing.postgres_catalog import apply
from ingest.topic import (
    ARROW_CONTENT_TYPE,
    CORRECTION_CONTENT_TYPE,
    EVENT_SCHEMA,
    TICK_CONTENT_TYPE,
    Tick,
    encode_record,
)
from pipelines.audit import Auditor
from pipelines.chain import Chain
from pipelines.clickhouse_archive import ClickHouseArchive
from pipelines.clickhouse_audit import ClickHouseAudit
from pipelines.clickhouse_corrections import ClickHouseCorrections
from pipelines.clickhouse_history import ClickHouseHistory
from pipelines.clickhouse_progress import ClickHouseProgress
from pipelines.clickhouse_query import ClickHouseQuery
from pipelines.clickhouse_replacements import ClickHouseReplacements
from pipelines.clickhouse_writer import ClickHouseWriter
from pipelines.correction import Correction, CorrectionRecord
from pipelines.history import Seeder
from pipelines.meter import MeterDefinition
from pipelines.partition import Desk, Flush, PartitionLog
from pipelines.position import Log, LogPartition, Position
from pipelines.postgres_cuts import PostgresCuts
from pipelines.postgres_meters import PostgresMeters
from pipelines.postgres_segments import PostgresSegments
from pipelines.query import UsageQueries
from pipelines.reader import Reader
from pipelines.record import Record, decode
from pipelines.segment import SlicePlan
from pipelines.usage import Cut
from pipelines.verdict import Judge
from tests.unit.pipelines.fake_servers import FakeMemory

TENANT = "default"
START = datetime(2026, 3, 1, 9, tzinfo=UTC)
HOURS = 4
"""Events lie in so many hours from START on, and are sent after them."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Event = dict[str, Any]


class CrashError(Exception):
    """A seeder ends between two writes."""


@dataclass(frozen=True)
class Thought:
    """A correction as the model knows it: where it stands, of what, and what it leaves."""

    at: LogPartition
    offset: int
    of: Position
    after: Event | None


@dataclass
class Model:
    """Everything in the log, and what of it counts as of a cut."""

    events: dict[Position, Event] = field(default_factory=dict)
    appended_ms: dict[Position, int] = field(default_factory=dict)
    thoughts: list[Thought] = field(default_factory=list)
    cuts: dict[int, Mapping[LogPartition, int]] = field(default_factory=dict)

    def add(self, at: LogPartition, offset: int, ms: int, batch: Sequence[Event]) -> None:
        """Note events; a copy in the same partition is none."""
        known = {event["id"] for place, event in self.events.items() if place.at == at}
        for index, event in enumerate(batch):
            if event["id"] not in known:
                known.add(event["id"])
                place = Position(at, offset, index)
                self.events[place], self.appended_ms[place] = event, ms

    def live(self, number: int) -> list[Event]:
        """Return the events that count as of a cut, in their present form."""
        below = self.cuts[number]
        found = []
        for place in self._chosen(number).values():
            now: Event | None = self.events[place]
            for each in self.thoughts:
                if each.of == place and each.offset < below.get(each.at, 0):
                    now = each.after
            if now is not None:
                found.append(now)
        return found

    def _chosen(self, number: int) -> dict[str, Position]:
        """Return which copy of each id counts: the first in the first cut that has any."""
        chosen: dict[str, Position] = {}
        for cut in range(1, number + 1):
            seen = [at for at in self.events if at.offset < self.cuts[cut].get(at.at, 0)]
            for place in sorted(seen, key=lambda at: (self.appended_ms[at], at)):
                chosen.setdefault(self.events[place]["id"], place)
        return chosen


@dataclass
class Crashing(ClickHouseHistory):
    """Tables whose writer dies before or after some write."""

    rnd: random.Random = field(default_factory=random.Random)
    share: float = 0.0
    crashes: int = 0

    def write(self, at: LogPartition, windows: Any, rejections: Sequence[Any]) -> None:
        chance = self.rnd.random()
        if chance < self.share / 2:
            self.crashes += 1
            raise CrashError
        ClickHouseHistory.write(self, at, windows, rejections)
        if chance < self.share:
            self.crashes += 1
            raise CrashError


class World:
    """One tenant's logs, meters and cuts; time passes with each record."""

    def __init__(self, connection: "psycopg.Connection[Any]", clickhouse: Any, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.connection, self.clickhouse = connection, clickhouse
        self.now_ms = (START + timedelta(hours=HOURS) - EPOCH) // timedelta(milliseconds=1)
        self.model = Model()
        self.logs: list[Log] = []
        self.records: dict[LogPartition, list[Record]] = {}
        self.workers: dict[LogPartition, PartitionLog] = {}
        self.book = PostgresSegments(connection)
        self.cuts = PostgresCuts(connection)
        self.meters = PostgresMeters(connection)
        self.progress = ClickHouseProgress(clickhouse).next_offsets
        auditor = Auditor(ClickHouseAudit(clickhouse), self.book, self.cuts.behind)
        self.chain = Chain(self.cuts, self, self.progress, auditor.audit, lambda _: None, 1.0)
        self.queries = UsageQueries(self.cuts, ClickHouseQuery(clickhouse), self.progress)
        self.reader = Reader(cuts=self.cuts, chain=self.chain, queries=self.queries)
        self.tables = Crashing(clickhouse, self.rnd)
        self.revisions: dict[Position, int] = {}
        self.made = 0

    # The log.

    def open_log(self, partitions: int) -> None:
        number = len(self.logs)
        self.connection.execute(
            "INSERT INTO logs (log, topic, topic_id, partitions) VALUES (%s, %s, %s, %s)",
            (number, f"log-{number}", f"id-{number}", partitions),
        )
        log = Log(number, f"log-{number}", f"id-{number}", partitions)
        self.logs.append(log)
        for partition in range(partitions):
            at = LogPartition(number, partition)
            self.records[at], self.workers[at] = [], self._worker(at, partitions)

    def close_log(self, log: Log) -> None:
        for partition in range(log.partitions):
            end = len(self.records[LogPartition(log.log, partition)])
            self.connection.execute(
                "INSERT INTO log_ends VALUES (%s, %s, %s)", (log.log, partition, end)
            )
        self.connection.execute("UPDATE logs SET closed_at = now() WHERE log = %s", (log.log,))
        self.logs.remove(log)

    def _worker(self, at: LogPartition, partitions: int) -> PartitionLog:
        seed, _ = self.book.deployment()
        corrections = ClickHouseCorrections(self.clickhouse, seed)
        desk = Desk(
            self._write,
            corrections,
            ClickHouseReplacements(self.clickhouse, corrections),
            lambda _tenant, _name: None,
        )
        judge = Judge(FakeMemory(), ClickHouseArchive(self.clickhouse), archived=0, claimed=0)
        plan = SlicePlan()
        return PartitionLog(at, self.book, judge, desk, seed, plan, partitions, None, {}, 0)

    def _write(self, flush: Flush) -> None:
        ClickHouseWriter(self.clickhouse).write([flush])
        self.workers[flush.at].judge.archived_to(flush.next_offset)

    def append(self, at: LogPartition, content_type: bytes, value: bytes) -> int:
        """Put a record into the log, and count it."""
        self.now_ms += self.rnd.choice((1, 700, 9_000))
        offset, worker = len(self.records[at]), self.workers[at]
        record = Record(at, offset, self.now_ms, content_type, TENANT, value)
        self.records[at].append(record)
        for flush in worker.feed([decode(record)]):
            self._write(flush)
        self._write(worker.take_flush())
        return offset

    def somewhere(self) -> LogPartition:
        """Return a partition of an open log."""
        log = self.rnd.choice(self.logs)
        return LogPartition(log.log, self.rnd.randrange(log.partitions))

    def send_events(self) -> None:
        """Send new events, and copies of any before, to any partition."""
        at, batch = self.somewhere(), []
        for _ in range(self.rnd.randrange(1, 6)):
            if self.model.events and self.rnd.random() < 0.25:
                batch.append(self.rnd.choice(list(self.model.events.values())))
                continue
            self.made += 1
            batch.append(
                {
                    "tenant": TENANT,
                    "id": f"e{self.made}",
                    "source": "s",
                    "type": "use",
                    "subject": f"s{self.rnd.randrange(3)}",
                    "time": self._time(),
                    "time_stamped": False,
                    "data": self._data(),
                    "extensions": b"",
                }
            )
        value = encode_record(pa.RecordBatch.from_pylist(batch, schema=EVENT_SCHEMA))
        offset = self.append(at, ARROW_CONTENT_TYPE, value)
        self.model.add(at, offset, self.now_ms, batch)

    def _time(self) -> datetime:
        return START + timedelta(microseconds=self.rnd.randrange(HOURS * 3_600_000_000))

    def _data(self) -> bytes:
        data = {"region": self.rnd.choice("ab"), "other": str(self.rnd.randrange(50))}
        if self.rnd.random() < 0.9:
            data["units"] = str(Decimal(self.rnd.randrange(-50, 400)) / 8)
        return json.dumps(data, separators=(",", ":")).encode()

    def correct(self) -> None:
        """Void, amend or restore any event, wherever it lies."""
        place = self.rnd.choice(list(self.model.events))
        before = [each for each in self.model.thoughts if each.of == place]
        sent = self.model.events[place]
        now = before[-1].after if before else sent
        kind = self.rnd.choice(("void", "amend", "amend")) if now is not None else "restore"
        revision = len(before) + 1
        made = Correction(kind, str(place), "s", sent["id"], revision)  # type: ignore[arg-type]
        after: Event | None = None if kind == "void" else sent
        if kind == "amend":
            assert now is not None
            data, time = self._data(), self._time()
            after = now | {"data": data, "time": time}
            made = msgspec.structs.replace(made, data=msgspec.Raw(data), time=time.isoformat())
        is_open = any(log.log == place.at.log for log in self.logs)
        at = place.at if is_open else LogPartition(self.logs[-1].log, 0)
        value = CorrectionRecord(TENANT, "request", "somebody", "because", [made]).to_value()
        offset = self.append(at, CORRECTION_CONTENT_TYPE, value)
        self.model.thoughts.append(Thought(at, offset, place, after))

    # Ticks: what the chain asks of the broker.

    def send(self, log: Log, partitions: Sequence[int], tick: Tick) -> dict[int, int]:
        value = tick.to_value()
        return {
            number: self.append(LogPartition(log.log, number), TICK_CONTENT_TYPE, value)
            for number in partitions
        }

    def offsets_at(self, log: Log, partitions: Sequence[int], at_ms: int) -> dict[int, int]:
        found = {}
        for number in partitions:
            records = self.records[LogPartition(log.log, number)]
            later = [record.offset for record in records if record.append_ms >= at_ms]
            if later:
                found[number] = later[0]
        return found

    # Meters and cuts.

    def make(self, shape: Mapping[str, Any], effective_at: datetime | None = None) -> None:
        """Declare a meter or a version of one, as files and requests do."""
        definition = MeterDefinition.model_validate(dict(shape))
        declared = Declarations(meters={definition.key: Meter(definition, effective_at)})
        apply(self.connection, TENANT, declared, datetime.now(UTC))

    def seed(self, share: float) -> None:
        """Let a seeder work that dies in a share of its writes, with pieces of some size."""
        self.tables.share = share
        for seeding in self.meters.seedings():
            pieces = self.rnd.choice((40, 10**6, 10**6))
            seeder = Seeder(self.tables, self.meters, self.progress, piece_events=pieces)
            try:
                seeder.seed(seeding)
            except CrashError:
                continue

    def fix_cut(self, at_ms: int) -> Cut:
        """Fix a cut at a moment that may lie behind."""
        cut = self.chain.fix_cut(TENANT, EPOCH + timedelta(milliseconds=at_ms))
        self.model.cuts[cut.number] = self.cuts.offsets(cut)
        return cut

    def fixed(self) -> Iterator[Cut]:
        for number in self.model.cuts:
            cut = self.cuts.by_number(TENANT, number)
            assert cut is not None
            yield cut
