"""Usage that nobody pays for: no customer owned the subject, or no subscription covered it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from billing.facts import Facts, spans
from pipelines.usage import Cut, Span, UsageReader

NO_CUSTOMER = "no customer"
NO_SUBSCRIPTION = "no subscription"

_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)

Interval = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Unassigned:
    """A quantity of a meter that a subject used while it had no owner, or no subscription."""

    meter: str
    subject: str
    lacks: str
    quantity: Decimal


def unassigned(
    usage: UsageReader, facts: Facts, cut: Cut, meters: Iterable[str], interval: Interval
) -> list[Unassigned]:
    """Return what no customer pays for in an interval, per meter, what it lacks, and subject."""
    owned, covered = _owned(facts), _covered(facts, interval)
    found = []
    for meter in sorted(meters):
        lacking: dict[str, list[Span]] = {NO_CUSTOMER: [], NO_SUBSCRIPTION: []}
        for subject in usage.subjects(cut, meter, *interval):
            own, billed = owned.get(subject, []), covered.get(subject, [])
            for gap in gaps(own, *interval):
                lacking[NO_CUSTOMER].append(Span(subject, subject, *gap))
            for start, end in own:
                for gap in gaps(billed, max(start, interval[0]), min(end, interval[1])):
                    lacking[NO_SUBSCRIPTION].append(Span(subject, subject, *gap))
        for lacks, those in lacking.items():
            rows = usage.quantities(cut, meter, those, *interval) if those else ()
            found += [Unassigned(meter, row.owner, lacks, row.value) for row in rows]
    return found


def _owned(facts: Facts) -> Mapping[str, list[Interval]]:
    """Return when each subject belongs to a customer."""
    found: dict[str, list[Interval]] = {}
    for own in facts.assignments.values():
        for one in own:
            found.setdefault(one.subject, []).append((one.start or _EVER, one.end or _NEVER))
    return found


def _covered(facts: Facts, interval: Interval) -> Mapping[str, list[Interval]]:
    """Return when each subject's usage counts for a subscription."""
    found: dict[str, list[Interval]] = {}
    for subscription in facts.subscriptions.values():
        for span in spans(facts, subscription, *interval):
            within = (span.start or _EVER, span.end or _NEVER)
            found.setdefault(span.subject, []).append(within)
    return found


def gaps(covered: Sequence[Interval], start: datetime, end: datetime) -> list[Interval]:
    """Return the parts of an interval that none of some intervals covers."""
    found = []
    at = start
    for begins, ends in sorted(covered):
        if at < min(begins, end):
            found.append((at, min(begins, end)))
        at = max(at, ends)
    if at < end:
        found.append((at, end))
    return found
