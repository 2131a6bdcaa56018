"""What a definition would have counted over the events that are stored, before it is saved.

Events are folded by the workers' own `fold`, with corrections, and copies that audits found, taken
off; nothing is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.aggregation import answer
from pipelines.cut import Ranges
from pipelines.edges import Audited, RawRead
from pipelines.fold import ActiveMeter, Fold, Worth, combine, fold_signed
from pipelines.history import HistoryTables
from pipelines.meter import VALUE_SCALE, MeterDefinition
from pipelines.position import LogPartition
from pipelines.question import TooMuchError
from pipelines.selection import EARLIEST_US, LATEST_US
from pipelines.values import EXACT

EVENTS_MAX = 2_000_000
"""What one request may fold."""
_WORTHS_MAX = 2_000_000
_DAY_US = 86_400_000_000
_MICROSECONDS = {"second": 10**6, "hour": 3_600 * 10**6}

Series = tuple[str, str]
"""(subject, dimensions as JSON)"""


@dataclass(slots=True)
class Reason:
    """Why events were rejected: how many, and one of them."""

    count: int
    source: str
    id: str


@dataclass(slots=True)
class Backtest:
    """What was found, per subject and reason."""

    events: int = 0
    rejected: int = 0
    first_us: int | None = None
    last_us: int | None = None
    value_by_subject: dict[str, Decimal] = field(default_factory=dict)
    reasons: dict[str, Reason] = field(default_factory=dict)

    def to_content(self, current: Mapping[str, Decimal] | None) -> dict[str, Any]:
        """Return it as JSON content; `current` is what the meter of this key measures now."""
        subjects = []
        for subject in sorted({*self.value_by_subject, *(current or ())}):
            value = self.value_by_subject.get(subject)
            row: dict[str, Any] = {"subject": subject, "value": _text(value)}
            if current is not None:
                known = current.get(subject)
                row["current"] = _text(known)
                row["difference"] = _text((value or Decimal(0)) - (known or Decimal(0)))
            subjects.append(row)
        rejections = [
            {"reason": why, "events": one.count, "example": {"source": one.source, "id": one.id}}
            for why, one in sorted(self.reasons.items(), key=lambda pair: -pair[1].count)
        ]
        return {
            "events": self.events,
            "rejected": self.rejected,
            "rejections": rejections,
            "subjects": subjects,
        }


def run_backtest(
    tables: HistoryTables,
    meter: ActiveMeter,
    ends: Mapping[LogPartition, int],
    interval: tuple[int | None, int | None],
    events_max: int | None = EVENTS_MAX,
) -> Backtest:
    """Fold what is stored below `ends` of an interval in microseconds; None is open.

    Raises:
        TooMuchError: there are more events than `events_max`, or more values than memory holds.
    """
    start_us, end_us = interval
    definition = meter.definition
    given = (
        EARLIEST_US if start_us is None else start_us,
        LATEST_US if end_us is None else end_us,
    )
    read = RawRead(meter.tenant, definition.types, [given])
    ranges = {at: (0, end) for at, end in ends.items() if end}
    if events_max is not None:
        _check(tables, read, ranges, events_max)
    found = Backtest()
    worths: dict[tuple[Series, str], Worth] = {}
    for at, (_, end) in ranges.items():
        # What audits took back is read where that stood, so that each partition's sum is its own.
        for signed in tables.raw(read, {at: (0, end)}, Audited({at: (0, end)}, None)):
            _note_times(found, signed)
            for fold in fold_signed(signed, [meter]):
                _note_rejections(found, signed, fold)
                _add(worths, fold)
    until_us = found.last_us if end_us is None else end_us
    found.value_by_subject = _values(definition, worths, until_us or 0)
    return found


def _check(tables: HistoryTables, read: RawRead, ranges: Ranges, most: int) -> None:
    if not ranges:
        return
    events = sum(count for _, count in tables.counts(read, ranges, 0, _DAY_US))
    if events > most:
        raise TooMuchError(
            f"{events:,} events are stored of what it would count, and one request folds {most:,}:"
            " ask for a shorter interval"
        )


def _note_times(found: Backtest, signed: Any) -> None:
    found.events += signed.num_rows
    if signed.num_rows:
        times = pc.min_max(signed.column("time").cast(pa.int64()))
        first, last = times["min"].as_py(), times["max"].as_py()
        found.first_us = first if found.first_us is None else min(found.first_us, first)
        found.last_us = last if found.last_us is None else max(found.last_us, last)


def _note_rejections(found: Backtest, signed: Any, fold: Fold) -> None:
    for rejection in fold.rejections:
        found.rejected += 1
        known = found.reasons.get(rejection.reason)
        if known is not None:
            known.count += 1
            continue
        is_it = pc.and_(
            pc.equal(signed.column("offset"), pa.scalar(rejection.offset, pa.uint64())),
            pc.equal(signed.column("index"), pa.scalar(rejection.index, pa.uint32())),
        )
        row = signed.filter(is_it).select(["source", "id"]).slice(0, 1).to_pylist()[0]
        found.reasons[rejection.reason] = Reason(1, row["source"], row["id"])


def _add(worths: dict[tuple[Series, str], Worth], fold: Fold) -> None:
    for (subject, dimensions, item, _), worth in fold.worth_by_key().items():
        key = (subject, dimensions), item
        held = worths.get(key)
        worths[key] = worth if held is None else combine(held, worth)
    if len(worths) > _WORTHS_MAX:
        raise TooMuchError("it would keep more values than memory holds: ask for less at once")


def _values(
    definition: MeterDefinition, worths: Mapping[tuple[Series, str], Worth], until_us: int
) -> dict[str, Decimal]:
    by_subject: dict[str, list[tuple[str, Worth]]] = {}
    by_series: dict[Series, list[tuple[str, Worth]]] = {}
    for (series, item), worth in worths.items():
        by_subject.setdefault(series[0], []).append((item, worth))
        by_series.setdefault(series, []).append((item, worth))
    if definition.per is None:
        answers = {subject: answer(definition, items) for subject, items in by_subject.items()}
        return {subject: value for subject, value in answers.items() if value is not None}
    totals: dict[str, Decimal] = {}
    for (subject, _), items in by_series.items():
        held = totals.get(subject, Decimal(0))
        totals[subject] = EXACT.add(held, _integral(items, until_us))
    unit = Decimal(_MICROSECONDS[definition.per])
    return {
        subject: (total / unit).quantize(Decimal(1).scaleb(-VALUE_SCALE))
        for subject, total in totals.items()
    }


def _integral(items: list[tuple[str, Worth]], until_us: int) -> Decimal:
    """Return values times microseconds, each until the next sample of its series."""
    samples = sorted((item, worth) for item, worth in items if worth[0] > 0)
    instants = [int(item[:16]) for item, _ in samples]
    total = Decimal(0)
    for (_, worth), at, after in zip(samples, instants, [*instants[1:], until_us], strict=True):
        value = EXACT.divide(worth[1], Decimal(worth[0]))
        total = EXACT.add(total, EXACT.multiply(value, Decimal(max(0, after - at))))
    return total


def _text(value: Decimal | None) -> str | None:
    return None if value is None else f"{value.normalize():f}" if value else "0"
