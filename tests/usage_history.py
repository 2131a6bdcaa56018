"""A random history of events in the tables of usage, and its naive recount.

The rows of windows are made by the workers' own code, segment by segment; the recount looks at
nothing but the events.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from pipelines.cut import AsOf, EffectiveMeter
from pipelines.fold import ActiveMeter, fold_all, negated
from pipelines.meter import MeterDefinition
from pipelines.position import LogPartition
from pipelines.record import COUNTED_SCHEMA
from pipelines.segment import Segment
from pipelines.usage import Cut, Span
from pipelines.windows import SegmentWindows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SEGMENT_EVENTS = 16


@dataclass(frozen=True)
class Use:
    """An event, or with sign -1 the correction that takes one back; and where that stands."""

    at: LogPartition
    offset: int
    subject: str
    time_us: int
    identity: bytes
    region: str
    value: Decimal
    sign: int = 1

    @property
    def time(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.time_us)


@dataclass
class History:
    """Events of a few partitions, cut into segments of equal length."""

    tenant: str
    meter: ActiveMeter
    uses: list[Use] = field(default_factory=list)
    cuts: dict[int, tuple[datetime, dict[LogPartition, int]]] = field(default_factory=dict)

    def write(self, client: Any) -> None:
        """Store every event and every segment's windows; some of them twice."""
        for at in sorted({use.at for use in self.uses}):
            own = [use for use in self.uses if use.at == at]
            events = [use for use in own if use.sign > 0]
            client.insert_arrow("usage_events", _stored(self.tenant, events))
            client.insert_arrow("usage_corrections", _corrections(self.tenant, own))
            for start in range(0, max(use.offset for use in own) + 1, SEGMENT_EVENTS):
                those = [use for use in own if start <= use.offset < start + SEGMENT_EVENTS]
                for held in (those[: len(those) // 2], those):
                    self._write_windows(client, at, start, held)

    def _write_windows(
        self, client: Any, at: LogPartition, start: int, uses: Sequence[Use]
    ) -> None:
        windows = SegmentWindows(
            Segment(at, start // SEGMENT_EVENTS, start, 1_700_000_000_000 + start, 0, 0, 0, 0, 0)
        )
        added = fold_all(_counted(self.tenant, uses, 1), [self.meter])
        windows.add(
            [*added, *map(negated, fold_all(_counted(self.tenant, uses, -1), [self.meter]))]
        )
        last = max((use.offset for use in uses), default=start)
        rows = windows.take_rows(last)
        if rows.num_rows:
            client.insert_arrow("usage_windows", rows)

    def live(self, cut: int | None) -> list[Use]:
        """Return the events as of a cut that are not taken back."""
        seen = self.uses
        if cut is not None:
            offsets = self.cuts[cut][1]
            seen = [use for use in self.uses if use.offset < offsets[use.at]]
        gone = {use.identity for use in seen if use.sign < 0}
        return [use for use in seen if use.identity not in gone]

    # What the engine asks of the chain of cuts.

    def progress(self) -> dict[LogPartition, int]:
        return {use.at: 1 << 40 for use in self.uses}

    def meter_versions(self, tenant: str, key: str, cut: Cut | None = None) -> list[EffectiveMeter]:
        del cut
        assert (tenant, key) == (self.tenant, self.meter.definition.key)
        return [EffectiveMeter(self.meter, -(1 << 62), 1 << 62)]

    def by_number(self, tenant: str, number: int) -> Cut | None:
        return Cut(tenant, number, self.cuts[number][0], 0) if number in self.cuts else None

    def offsets(self, cut: Cut) -> dict[LogPartition, int]:
        return self.cuts[cut.number][1]

    def as_of(self, cut: Cut) -> AsOf:
        offsets = self.offsets(cut)
        whole = {at: end // SEGMENT_EVENTS * SEGMENT_EVENTS for at, end in offsets.items()}
        return AsOf(dict(offsets), whole)


def _counted(tenant: str, uses: Sequence[Use], sign: int) -> Any:
    signed = [use for use in uses if use.sign == sign]
    return _stored(tenant, signed).select(COUNTED_SCHEMA.names).cast(COUNTED_SCHEMA)


def _corrections(tenant: str, uses: Sequence[Use]) -> Any:
    own = [use for use in uses if use.sign < 0]
    table = _stored(tenant, own)
    places = {"at_log": "log", "at_partition": "partition", "at_offset": "offset"}
    for name, column in {**places, "at_index": "index"}.items():
        table = table.append_column(name, table.column(column))
    return table.append_column("sign", pa.array([use.sign for use in own], pa.int8()))


def _stored(tenant: str, uses: Sequence[Use]) -> Any:
    rows = [
        {
            "tenant": tenant,
            "id": use.identity.hex(),
            "source": "tests",
            "type": "use",
            "subject": use.subject,
            "time": use.time,
            "time_stamped": False,
            "data": json.dumps({"region": use.region, "units": str(use.value)}),
            "extensions": "",
            "ingested_at": EPOCH + timedelta(seconds=1_700_000_000 + use.offset),
            "offset": use.offset,
            "index": 0,
            "identity": use.identity,
            "log": use.at.log,
            "partition": use.at.partition,
        }
        for use in uses
    ]
    places = [pa.field("log", pa.uint16()), pa.field("partition", pa.uint16())]
    return pa.Table.from_pylist(rows, pa.schema([*COUNTED_SCHEMA, *places]))


def history(
    seed: int, definition: Mapping[str, Any], start: datetime, *, days: int, count: int
) -> History:
    """Return a random history of a meter, with cuts that divide segments."""
    rnd = random.Random(seed)
    meter = MeterDefinition.model_validate(
        {"event_type": "use", "dimensions": {"region": "$.region"}, **definition}
    )
    made = History(f"t{seed}", ActiveMeter(seed, f"t{seed}", 1, meter))
    places = [LogPartition(0, 0), LogPartition(0, 1), LogPartition(1, 0)]
    offsets = dict.fromkeys(places, 0)
    first_us = (start - EPOCH) // timedelta(microseconds=1)
    for _ in range(count):
        at = rnd.choice(places)
        if made.uses and rnd.random() < 0.15:
            other = rnd.choice(made.uses)
            if [use.sign for use in made.uses if use.identity == other.identity] == [1]:
                # Taken back, or a copy that its partition could not see.
                sign = rnd.choice((1, -1, -1))
                at = other.at if sign < 0 else at
                made.uses.append(replace(other, at=at, offset=offsets[at], sign=sign))
                offsets[at] += 1
            continue
        time_us = first_us + rnd.randrange(days * 86_400) * 1_000_000
        time_us += rnd.choice((0, 0, rnd.randrange(1_000_000)))
        made.uses.append(
            Use(
                at,
                offsets[at],
                f"s{rnd.randrange(4)}",
                time_us,
                rnd.randbytes(16),
                rnd.choice("ab"),
                Decimal(rnd.choice((0, rnd.randrange(-50, 50), rnd.randrange(10**6)))) / 10**3,
            )
        )
        offsets[at] += 1
    for number in (1, 2, 3):
        share = [rnd.uniform(number - 1, number) / 3 for _ in places]
        cut = {at: int(offsets[at] * part) for at, part in zip(places, share, strict=True)}
        until = start + timedelta(seconds=int(days * 86_400 * share[0]), microseconds=number)
        made.cuts[number] = (until, cut)
    return made


def local_start(moment: datetime, window: str | None, zone: ZoneInfo) -> str:
    """Return where a local window starts by the wall clock, as text; empty for the whole."""
    if window is None:
        return ""
    wall = moment.astimezone(zone)
    if window in ("minute", "hour"):
        size = {"minute": 60, "hour": 3600}[window]
        ahead = int((wall.utcoffset() or timedelta()).total_seconds())
        seconds = (int(moment.timestamp() // 1) + ahead) // size * size - ahead
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    day = wall.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    day = day.replace(day=1) if window == "month" else day
    return day.astimezone(UTC).isoformat()


def local_bounds(
    start: datetime, end: datetime, window: str | None, zone: ZoneInfo
) -> list[datetime]:
    """Return the instants from start to end at which local windows start, minute by minute."""
    if window is None:
        return []
    at = start.replace(second=0, microsecond=0)
    found, before = [], ""
    while at <= end:
        found += [at] if local_start(at, window, zone) != before else []
        before = local_start(at, window, zone)
        at += timedelta(minutes=1)
    return found


def lasting(uses: Iterable[Use], until: datetime) -> Iterator[tuple[Use, datetime, datetime]]:
    """Yield each event with the interval for which its value holds."""
    series = defaultdict(list)
    for use in uses:
        series[use.subject, use.region].append(use)
    for own in series.values():
        own.sort(key=lambda use: (use.time_us, use.identity))
        ends = [use.time for use in own[1:]]
        for use, end in zip(own, [*ends, until], strict=True):
            if use.time < min(end, until):
                yield use, use.time, min(end, until)


def owners(spans: Sequence[Span] | None, subject: str, moment: datetime) -> Iterator[str]:
    """Yield whose usage something is; nobody's in particular where there are no spans."""
    if spans is None:
        yield ""
    for span in spans or ():
        after = span.start is None or span.start <= moment
        if span.subject == subject and after and (span.end is None or moment < span.end):
            yield span.owner


def groups() -> defaultdict[tuple[str, ...], list[Use]]:
    """Return an empty grouping of events."""
    return defaultdict(list)
