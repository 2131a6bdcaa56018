"""Who owns a subject when: what declarations add and withdraw, and that owners never overlap."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from itertools import pairwise
from zoneinfo import ZoneInfo

from billing.customer import Customer
from billing.declaration import Declarations
from billing.facts import Assignment, Facts
from billing.period import instant

_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class Transfers:
    """Assignments to withdraw and to add, and that in words for each customer."""

    withdrawn: list[Assignment] = field(default_factory=list)
    added: list[Assignment] = field(default_factory=list)
    words_by_customer: dict[str, str] = field(default_factory=dict)


def transfers(customers: Iterable[Customer], facts: Facts) -> Transfers:
    """Return how the known assignments become the declared ones.

    A customer's list is the whole of it: what it had and is not named any more is withdrawn, as
    if it had never been. A customer without a list keeps what it has.
    """
    found = Transfers()
    for customer in customers:
        wanted = _declared(customer)
        known = {_plain(owned): owned for owned in facts.assignments.get(customer.key, ())}
        if customer.subjects is None:
            wanted = set(known)
        added = [one for one in wanted if one not in known]
        withdrawn = [owned for plain, owned in known.items() if plain not in wanted]
        found.added += sorted(added, key=lambda one: (one.subject, one.start or _EVER))
        found.withdrawn += withdrawn
        parts = [
            f"{len(ranges):,} assignment{'s' * (len(ranges) > 1)} {verb}"
            for ranges, verb in ((added, "added"), (withdrawn, "withdrawn"))
            if ranges
        ]
        found.words_by_customer[customer.key] = ", ".join(parts)
    return found


def _zone_of(declared: Declarations, facts: Facts, customer: str) -> ZoneInfo:
    known = declared.customers.get(customer) or facts.customers.get(customer)
    return known.zone if known else ZoneInfo("UTC")


def check_owners(declared: Declarations, facts: Facts) -> None:
    """Note every subject that would have two owners at once, or whose interval is empty."""
    moves = transfers(declared.customers.values(), facts)
    gone = set(moves.withdrawn)
    by_subject: dict[str, list[Assignment]] = {one.subject: [] for one in moves.added}
    for owned in [*_all(facts.assignments, by_subject), *moves.added]:
        if owned not in gone:
            by_subject[owned.subject].append(owned)
    for subject, ranges in by_subject.items():
        for owned in ranges:
            if owned.start is not None and owned.end is not None and owned.start >= owned.end:
                message = f"subject {subject} would end before it begins"
                declared.fault("customers", owned.customer, message)
        ranges.sort(key=lambda owned: owned.start or _EVER)
        for one, other in pairwise(ranges):
            if (one.end or _NEVER) > (other.start or _EVER):
                culprit, rival = (other, one) if other in moves.added else (one, other)
                zone = _zone_of(declared, facts, rival.customer)
                message = (
                    f"subject {subject} of customer {culprit.customer} belongs to customer"
                    f" {rival.customer} {_words(rival, zone)}: say until when with to:"
                )
                declared.fault("customers", culprit.customer, message)


def _declared(customer: Customer) -> set[Assignment]:
    return {
        Assignment(
            subject.key,
            customer.key,
            subject.subscription,
            None if subject.start is None else instant(subject.start, customer.zone),
            None if subject.end is None else instant(subject.end, customer.zone),
        )
        for subject in customer.subjects or ()
    }


def _plain(owned: Assignment) -> Assignment:
    return Assignment(owned.subject, owned.customer, owned.subscription, owned.start, owned.end)


def _all(
    assignments: Mapping[str, Iterable[Assignment]], wanted: Mapping[str, object]
) -> list[Assignment]:
    return [owned for own in assignments.values() for owned in own if owned.subject in wanted]


def _words(owned: Assignment, zone: ZoneInfo) -> str:
    since = f"since {_written(owned.start, zone)}" if owned.start else "since ever"
    return f"{since} until {_written(owned.end, zone)}" if owned.end else since


def _written(at: datetime, zone: ZoneInfo) -> str:
    """Return an instant as a person would write it: a local midnight as its date."""
    local = at.astimezone(zone)
    return f"{local:%Y-%m-%d}" if local.time() == time() else local.isoformat()
