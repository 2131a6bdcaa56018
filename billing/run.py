"""A bill run: fix a cut, rate what is due and what changed, issue document by document.

A run is stored before it does anything, so one that was killed goes on with the same cut. Each
document is one transaction; what is committed is not due any more, so running again bills nothing
twice. One run at a time per tenant.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Protocol

from billing.answers import Answers
from billing.charge_period import ChargeKey, ChargePeriod
from billing.document import Document, Draft, Rated
from billing.due import BilledPeriod, Scope, agreed_anew, changes_of, due, line_order, touched
from billing.facts import LATEST, Assignment, Facts
from billing.period import local_date
from billing.pricing import Dimensions
from billing.rating import PeriodInputs, State, rate
from billing.spending import PeriodKey, Spending, with_followers
from pipelines.usage import ChangedUsage, Cut, UsageReader


@dataclass(frozen=True, slots=True)
class Run:
    """A stored bill run."""

    run_id: int
    scope: Scope
    cut_number: int


class Carried(Protocol):
    """What earlier periods leave to those that are rated."""

    def issued(self, subscription: str) -> Mapping[PeriodKey, int]:
        """Return what all issued lines of each charge and period of a subscription add up to."""

    def state_after(self, key: ChargeKey, before: datetime) -> State:
        """Return the state that the charge's last period before a moment ended with."""


class RunStore(Carried, Protocol):
    """What a run needs of the database, for one tenant."""

    tenant: str

    def has_virtual_clock(self) -> bool:
        """Return whether the tenant's time is not the world's."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep other runs of the tenant waiting."""

    def unfinished(self) -> Run | None:
        """Return the run that was begun and not finished."""

    def begin(self, scope: Scope, cut: Cut) -> Run:
        """Store a run before it does anything."""

    def finish(self, run: Run) -> None:
        """Store that all of a run is done."""

    def facts(self, revision: int) -> Facts:
        """Return the facts known at a revision."""

    def moved(self, after: int, until: int) -> list[Assignment]:
        """Return the assignments made known or withdrawn after one revision, until another."""

    def billed(self) -> Mapping[ChargeKey, Sequence[BilledPeriod]]:
        """Return the periods that are billed, in order."""

    def settled(self) -> Mapping[str, int]:
        """Return up to which cut each subscription's billed periods have been corrected."""

    def issue(self, run: Run, cut: Cut, draft: Draft) -> list[Document]:
        """Issue a draft in one transaction; returns the documents."""


@dataclass(slots=True)
class Report:
    """What a run did."""

    runs: list[Run] = field(default_factory=list)
    resumed: bool = False
    documents: list[Document] = field(default_factory=list)
    periods: int = 0

    @property
    def did_nothing(self) -> bool:
        """True where nothing was due."""
        return not self.documents and not self.periods


Progress = Callable[[int, int], None]
"""Called with how many documents are done, of how many."""


def bill(
    store: RunStore,
    usage: UsageReader,
    scope: Scope,
    now: datetime,
    progress: Progress,
    report: Report,
) -> None:
    """Bill all that is due in a scope, after finishing a run that was killed; fills a report."""
    with store.hold():
        begun = store.unfinished()
        if begun is not None:
            report.resumed = True
            _execute(store, usage, begun, report, progress)
        if begun is None or begun.scope != scope:
            facts = store.facts(LATEST)
            billed = store.billed()
            until_now = clocked(store, scope, now)
            if due(facts, billed, until_now) or _ended(facts, billed, until_now):
                run = store.begin(scope, usage.fix_cut(store.tenant, now))
                _execute(store, usage, run, report, progress)


def clocked(store: RunStore, scope: Scope, at: datetime) -> Scope:
    """Return a scope that leaves out what has not come yet by the tenant's clock."""
    return replace(scope, clock=None if store.has_virtual_clock() else at)


def _ended(
    facts: Facts, billed: Mapping[ChargeKey, Sequence[BilledPeriod]], scope: Scope
) -> set[str]:
    """Return the subscriptions that have no next invoice: their corrections are issued alone."""
    with_bills = {key[0] for key in billed}
    return {
        subscription.key
        for subscription in facts.subscriptions.values()
        if subscription.key in with_bills
        and (end := subscription.end_at(facts.zone_of(subscription))) is not None
        and end <= scope.end(facts.zone_of(subscription))
    }


def _execute(
    store: RunStore, usage: UsageReader, run: Run, report: Report, progress: Progress
) -> None:
    cut = usage.cut(store.tenant, run.cut_number)
    report.runs.append(run)
    facts = store.facts(cut.facts_revision)
    drafts = prepare(store, usage, facts, clocked(store, run.scope, cut.at), cut)
    for number, draft in enumerate(drafts):
        progress(number, len(drafts))
        report.documents += store.issue(run, cut, draft)
        report.periods += len(draft.due)
    progress(len(drafts), len(drafts))
    store.finish(run)


def prepare(
    store: RunStore, usage: UsageReader, facts: Facts, scope: Scope, cut: Cut
) -> list[Draft]:
    """Return what to issue as of a cut, in the order in which it gets its numbers."""
    billed = store.billed()
    falling_due = due(facts, billed, scope)
    settled = store.settled()
    ended = _ended(facts, billed, scope)
    now_settled = {period.subscription for period in falling_due} | {
        key for key in ended if settled.get(key, cut.number) < cut.number
    }
    candidates: list[ChargePeriod] = []
    for since in sorted({settled[key] for key in now_settled if key in settled} - {cut.number}):
        own = [key for key in now_settled if settled.get(key) == since]
        before = usage.cut(store.tenant, since)
        changed: Iterable[ChangedUsage] = usage.changed(before, cut)
        moved = store.moved(before.facts_revision, cut.facts_revision)
        candidates += touched(facts, billed, own, changes_of(changed, moved))
        anew = [key for key in own if facts.agreed.get(key, (0, 0))[1] > before.facts_revision]
        if anew:
            known_then = store.facts(before.facts_revision)
            candidates += agreed_anew(facts, known_then, billed, anew)
    candidates = with_followers(facts, billed, candidates)
    answers = Answers(usage, facts, cut)
    answers.ask([*falling_due, *candidates])
    rated = fold(store, facts, answers, billed, [*falling_due, *candidates])
    are_due = {(one.charge_key, one.period.starts_at) for one in falling_due}
    rated_due: list[Rated] = []
    rated_again: list[Rated] = []
    for one in rated:
        period = one.inputs.billed
        is_due = (period.charge_key, period.period.starts_at) in are_due
        (rated_due if is_due else rated_again).append(one)
    return _drafts(facts, scope, rated_due, rated_again, sorted(now_settled), answers)


def fold(
    carried: Carried,
    facts: Facts,
    answers: Answers,
    billed: Mapping[ChargeKey, Sequence[BilledPeriod]],
    wanted: Sequence[ChargePeriod],
) -> list[Rated]:
    """Rate periods of each charge in order, the state going from one to the next.

    Commitments come last: they count what the others come to.
    """
    rated: list[Rated] = []
    spending = Spending(carried.issued, billed)
    ordered = sorted(wanted, key=lambda p: (*_comes_last(p), p.charge_key, p.period.starts_at))
    for key, own in groupby(ordered, key=lambda p: p.charge_key):
        state: State | None = None
        until: datetime | None = None
        for period in own:
            if state is None or period.period.starts_at != until:
                state = carried.state_after(key, period.period.starts_at)
            until = period.period.ends_at
            charge = period.pieces[0].charge
            unit = facts.units.get(charge.meter or "", "")
            if charge.model == "commitment":
                quantities: Sequence[Mapping[Dimensions, Decimal]] = (
                    spending.of(facts, period, rated),
                )
            else:
                quantities = answers.of(period)
            inputs = PeriodInputs(period, unit, tuple(quantities))
            targets, state_out = rate(inputs, state)
            rated.append(Rated(inputs, tuple(targets), state, state_out))
            state = state_out
    return sorted(rated, key=lambda one: line_order(one.inputs.billed))


def _comes_last(period: ChargePeriod) -> tuple[bool]:
    return (period.pieces[0].charge.model == "commitment",)


def _drafts(
    facts: Facts,
    scope: Scope,
    rated_due: Sequence[Rated],
    rated_again: Sequence[Rated],
    settles: Sequence[str],
    answers: Answers,
) -> list[Draft]:
    """Put what is due into one draft per customer and day; corrections go on the last one."""
    due_by_customer, again_by_customer = _by_customer(rated_due), _by_customer(rated_again)
    subscriptions: dict[str, list[str]] = {}
    for key in settles:
        subscriptions.setdefault(facts.subscriptions[key].customer, []).append(key)
    found: list[Draft] = []
    for key, own in sorted(subscriptions.items()):
        customer = facts.customers[key]
        due_on: dict[date, list[Rated]] = {}
        for rated in due_by_customer.get(key, ()):
            due_on.setdefault(rated.inputs.billed.bill_on, []).append(rated)
        alone_on = local_date(scope.end(customer.zone), customer.zone)
        last = max(due_on, default=alone_on)
        for day in due_on or [last]:
            on_day = due_on.get(day, [])
            again = again_by_customer.get(key, []) if day == last else []
            evidence = answers.evidence([*on_day, *again])
            settled = tuple(own) if day == last else ()
            found.append(Draft(customer, day, tuple(on_day), tuple(again), settled, evidence))
    return sorted(found, key=lambda draft: (draft.bill_on, draft.customer.key))


def _by_customer(rated: Sequence[Rated]) -> dict[str, list[Rated]]:
    found: dict[str, list[Rated]] = {}
    for one in rated:
        found.setdefault(one.inputs.billed.customer, []).append(one)
    return found
