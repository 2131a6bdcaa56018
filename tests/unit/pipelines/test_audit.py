"""Whatever copies lie wherever, each identity counts once as of every cut, for ever.

Random logs with copies in several partitions and logs, corrected here and there; a naive recount
says what each cut has to answer.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pipelines.audit import Auditor, Copy, Vector
from pipelines.correcting import Row, position_of
from pipelines.cut import Proposal
from pipelines.fold import ActiveMeter
from pipelines.meter import MeterDefinition
from pipelines.position import LogPartition, Position
from pipelines.record import DeadLetter
from pipelines.segment import AUDIT_SEGMENTS

START = datetime(2026, 3, 1, tzinfo=UTC)
PLACES = [LogPartition(log, partition) for log in (0, 1) for partition in range(3)]
METER = ActiveMeter(
    1,
    "t",
    1,
    MeterDefinition.model_validate(
        {"key": "units", "event_type": "use", "aggregation": "sum", "value": "$.units"}
    ),
)


class CrashError(RuntimeError):
    """A kill between two writes."""


@dataclass
class Tables:
    """Rows replace rows of the same key, as the tables of ClickHouse do."""

    added: list[Row] = field(default_factory=list)
    bodies: dict[Position, bytes] = field(default_factory=dict)
    voids: dict[Any, Row] = field(default_factory=dict)
    windows: dict[Any, Row] = field(default_factory=dict)
    letters: dict[Position, DeadLetter] = field(default_factory=dict)
    crashes: bool = False

    def suspects(self, proposal: Proposal, behind: Vector) -> Iterable[Sequence[bytes]]:  # noqa: ARG002
        yield sorted({row["identity"] for row in self.added})

    def copies(self, proposal: Proposal, identities: Sequence[bytes]) -> Iterable[Copy]:
        for row in self.contributions(proposal, identities):
            if row["revision"] == 0:
                at = position_of(row)
                yield Copy(row["identity"], at, self.bodies[at])

    def voided(self, proposal: Proposal, identities: Sequence[bytes]) -> set[Position]:
        return {
            position_of(row)
            for row in self.voids.values()
            if row["identity"] in identities
            and row["audit"] < proposal.number
            and row["revision"] == 0
        }

    def contributions(self, proposal: Proposal, identities: Sequence[bytes]) -> list[Row]:
        return [
            row
            for row in self.added
            if row["identity"] in identities and _stands_below(row, proposal.offsets)
        ]

    def write_voids(self, voids: Any, letters: Sequence[DeadLetter]) -> None:
        for row in voids.to_pylist():
            key = (row["audit"], position_of(row), row["at_offset"], row["sign"])
            assert self.voids.setdefault(key, row) == row
        for letter in letters:
            self.letters[Position(letter.at, letter.offset, letter.index)] = letter
        if self.crashes:
            raise CrashError

    def write_windows(self, windows: Any) -> None:
        for row in windows.to_pylist():
            names = ("meter", "subject", "window_start", "log", "partition", "segment")
            key = tuple(row[name] for name in names)
            assert self.windows.setdefault(key, row) == row

    def meters(self, definitions: Sequence[int]) -> list[ActiveMeter]:
        return [METER] if 1 in definitions else []


def _stands_below(row: Row, ends: Vector) -> bool:
    at = LogPartition(row["at_log"], row["at_partition"])
    return bool(row["at_offset"] < ends.get(at, 0))


def _event(rnd: random.Random, at: LogPartition, offset: int, identity: int) -> Row:
    return {
        "tenant": "t",
        "id": str(identity),
        "source": "s",
        "type": "use",
        "subject": f"c{rnd.randrange(3)}",
        "time": START + timedelta(minutes=rnd.randrange(60)),
        "time_stamped": False,
        "data": f'{{"units":{rnd.randrange(1, 1000)}}}'.encode(),
        "extensions": b"",
        "ingested_at": START + timedelta(seconds=offset // 2),
        "offset": offset,
        "index": 0,
        "identity": identity.to_bytes(16, "big"),
        "log": at.log,
        "partition": at.partition,
        "sign": 1,
        "revision": 0,
        "at_log": at.log,
        "at_partition": at.partition,
        "at_offset": offset,
        "at_index": 0,
    }


def make_logs(rnd: random.Random, records: int) -> Tables:
    """Write logs of events, some of them copies, and of voids and amendments of events."""
    tables = Tables()
    counting: dict[LogPartition, list[Row]] = defaultdict(list)
    for offset in range(records):
        for at in PLACES:
            if counting[at] and rnd.random() < 0.2:
                before = rnd.choice(counting[at])
                counting[at].remove(before)
                signed = before | {"revision": before["revision"] + 1, "at_offset": offset}
                tables.added.append(signed | {"sign": -1})
                if rnd.random() < 0.5:
                    after = signed | {"sign": 1, "data": b'{"units":7}'}
                    tables.added.append(after)
                    counting[at].append(after)
                continue
            event = _event(rnd, at, offset, rnd.randrange(records * 2))
            if (
                any(
                    row["identity"] == event["identity"] and row["offset"] != offset
                    for row in counting[at]
                )
                and rnd.random() < 0.8
            ):
                continue
            tables.added.append(event)
            tables.bodies[position_of(event)] = bytes([rnd.randrange(2)]) * 8
            counting[at].append(event)
    return tables


def make_proposals(rnd: random.Random, records: int, count: int) -> list[Proposal]:
    proposals = []
    ends = dict.fromkeys(PLACES[:3], 0)
    for number in range(1, count + 1):
        if number == count // 2:
            ends |= dict.fromkeys(PLACES[3:], 0)
        ends = {at: min(records, end + rnd.randrange(records // 2)) for at, end in ends.items()}
        proposals.append(Proposal("t", number, START + timedelta(hours=number), dict(ends), (1,)))
    return proposals


def totals(rows: Iterable[Row]) -> dict[Any, Decimal]:
    """Add up signed events per subject and window, the naive way."""
    found: dict[Any, Decimal] = defaultdict(Decimal)
    for row in rows:
        window = row["time"].replace(minute=row["time"].minute // 15 * 15)
        units = Decimal(bytes(row["data"]).decode().removeprefix('{"units":').removesuffix("}"))
        found[row["subject"], window] += row["sign"] * units
    return {key: value for key, value in found.items() if value}


def audited(tables: Tables, proposal: Proposal) -> dict[Any, Decimal]:
    """Return usage as of a cut: what the log adds below it, and what audits up to it took back."""
    found: dict[Any, Decimal] = defaultdict(Decimal)
    below = totals(row for row in tables.added if _stands_below(row, proposal.offsets))
    found.update(below)
    for row in tables.windows.values():
        if AUDIT_SEGMENTS < row["segment"] <= AUDIT_SEGMENTS + proposal.number:
            found[row["subject"], row["window_start"]] += row["sum"]
    return {key: value for key, value in found.items() if value}


def counting_once(tables: Tables, proposals: Sequence[Proposal]) -> list[dict[Any, Decimal]]:
    """Recount: per identity one event counts, chosen when the first cut reaches one."""
    chosen: dict[bytes, Position] = {}
    answers = []
    for proposal in proposals:
        seen = [row for row in tables.added if _stands_below(row, proposal.offsets)]
        events = [row for row in seen if row["revision"] == 0]
        for row in sorted(events, key=lambda row: (row["ingested_at"], position_of(row))):
            chosen.setdefault(row["identity"], position_of(row))
        kept = [row for row in seen if position_of(row) == chosen[row["identity"]]]
        answers.append(totals(kept))
    return answers


@pytest.mark.parametrize("seed", range(8))
def test_each_identity_counts_once_as_of_every_cut_whatever_is_killed(seed: int) -> None:
    rnd = random.Random(seed)
    records = 60
    tables = make_logs(rnd, records)
    proposals = make_proposals(rnd, records, 8)
    vectors: dict[int, Vector] = {0: {}} | {p.number: p.offsets for p in proposals}
    auditor = Auditor(tables, tables, lambda proposal: vectors[proposal.number - 1])
    expected = counting_once(tables, proposals)
    for number, proposal in enumerate(proposals):
        tables.crashes = rnd.random() < 0.5
        if tables.crashes:
            try:
                auditor.audit(proposal)
            except CrashError:
                tables.crashes = False
        auditor.audit(proposal)
        auditor.audit(proposal)
        for earlier in range(number + 1):
            assert audited(tables, proposals[earlier]) == expected[earlier]
    assert len(tables.voids) > 20
    assert tables.letters
    for letter in tables.letters.values():
        assert letter.kind == "conflict"
    alone = totals(row for row in tables.added if _stands_below(row, proposals[-1].offsets))
    assert alone != expected[-1], "the harness can fail: without audits copies count twice"
