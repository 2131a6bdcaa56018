"""Usage that nobody pays for: what subjects used while no assignment covered them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from billing.facts import Assignment, Facts
from pipelines.usage import Cut, Span, UsageReader

_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Unassigned:
    """A quantity of a meter that a subject used while it had no owner."""

    meter: str
    subject: str
    quantity: Decimal


def unassigned(
    usage: UsageReader,
    facts: Facts,
    cut: Cut,
    meters: Iterable[str],
    interval: tuple[datetime, datetime],
) -> list[Unassigned]:
    """Return what no customer pays for in an interval, per meter and subject."""
    start, end = interval
    owned: dict[str, list[Assignment]] = {}
    for own in facts.assignments.values():
        for assignment in own:
            owned.setdefault(assignment.subject, []).append(assignment)
    found = []
    for meter in sorted(meters):
        spans = [
            Span(subject, subject, *gap)
            for subject in usage.subjects(cut, meter, start, end)
            for gap in gaps(owned.get(subject, ()), start, end)
        ]
        if spans:
            rows = usage.quantities(cut, meter, spans, start, end)
            found += [Unassigned(meter, row.owner, row.value) for row in rows]
    return found


def gaps(
    owned: Sequence[Assignment], start: datetime, end: datetime
) -> list[tuple[datetime, datetime]]:
    """Return the parts of an interval that no assignment covers."""
    found = []
    at = start
    for assignment in sorted(owned, key=lambda one: one.start or _EVER):
        begins, ends = assignment.start or _EVER, assignment.end or _NEVER
        if at < min(begins, end):
            found.append((at, min(begins, end)))
        at = max(at, ends)
    if at < end:
        found.append((at, end))
    return found
