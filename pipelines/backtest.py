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
from pipelines.fold import ActiveMeter, Fold, Worth, combine, fold_all, negated
from pipelines.history import HistoryTables
from pipelines.meter import VALUE_SCALE, MeterDefinition
from pipelines.position import LogPartition
from pipelines.question import TooMuchError
from pipelines.selection import EARLIEST_US, LATEST_US
from pipelines.values import EXACT

EVENTS_MAX = 2_000_000
"""What one request may fold."""
_WORTHS_MAX = 2_000_000
_EXAMPLES_MAX = 100
"""Of a reason, so many events are known by name: some of them may have been corrected."""
_DAY_US = 86_400_000_000
_MICROSECONDS = {"second": 10**6, "hour": 3_600 * 10**6}

Series = tuple[str, str]
"""(subject, dimensions as JSON)"""


@dataclass(slots=True)
class Reason:
    """Why events are rejected: how many as corrections left them, and of some of them which."""

    count: int = 0
    count_by_name: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def example(self) -> tuple[str, str]:
        """Source and id of an event that is rejected for it."""
        rejected = (name for name, count in self.count_by_name.items() if count > 0)
        return next(rejected, next(iter(self.count_by_name)))


@dataclass(slots=True)
class Backtest:
    """What was found, per subject and reason."""

    events: int = 0
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
        reasons = [(why, one) for why, one in self.reasons.items() if one.count]
        rejections = [
            {
                "reason": why,
                "events": one.count,
                "example": dict(zip(("source", "id"), one.example, strict=True)),
            }
            for why, one in sorted(reasons, key=lambda pair: -pair[1].count)
        ]
        return {
            "events": self.events,
            "rejected": sum(one.count for one in self.reasons.values()),
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
            for sign in (1, -1):
                part = signed.filter(pc.equal(signed.column("sign"), sign))
                found.events += sign * part.num_rows
                for fold in fold_all(part, [meter]):
                    _note_rejections(found, part, fold, sign)
                    _add(worths, fold if sign > 0 else negated(fold))
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
    if signed.num_rows:
        times = pc.min_max(signed.column("time").cast(pa.int64()))
        first, last = times["min"].as_py(), times["max"].as_py()
        found.first_us = first if found.first_us is None else min(found.first_us, first)
        found.last_us = last if found.last_us is None else max(found.last_us, last)


def _note_rejections(found: Backtest, part: Any, fold: Fold, sign: int) -> None:
    for rejection in fold.rejections:
        reason = found.reasons.setdefault(rejection.reason, Reason())
        reason.count += sign
        if len(reason.count_by_name) >= _EXAMPLES_MAX:
            continue
        is_it = pc.and_(
            pc.equal(part.column("offset"), pa.scalar(rejection.offset, pa.uint64())),
            pc.equal(part.column("index"), pa.scalar(rejection.index, pa.uint32())),
        )
        row = part.filter(is_it).select(["source", "id"]).slice(0, 1).to_pylist()[0]
        name = (row["source"], row["id"])
        reason.count_by_name[name] = reason.count_by_name.get(name, 0) + sign


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
