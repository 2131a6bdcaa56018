"""What past usage would have cost under a draft of a price book; writes nothing.

Each billed period that starts on the days asked for is rated twice as of one cut: under the
versions it was billed by, and as if the draft had been in force all along. So prices alone make the
difference, whatever came late. A charge that only the draft has counts for the periods, ended as of
the cut, of items that were billed. Rating ends before wallets, numbers and corrections.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from billing.answers import Answers
from billing.comparison import Comparison, add_to
from billing.document import Rated
from billing.due import BilledPeriod, ChargeKey, ChargePeriod, Scope, again, due
from billing.facts import Facts
from billing.price_book_draft import Draft, with_draft
from billing.rating import State
from billing.run import fold
from billing.spending import PeriodKey
from pipelines.usage import Cut, UsageReader

Days = tuple[date, date]
"""Each customer's, `[from, to)`."""

Billed = Mapping[ChargeKey, Sequence[BilledPeriod]]


@dataclass(frozen=True, slots=True)
class Past:
    """What was billed, and all that rating it again needs but usage."""

    facts: Facts
    cut: Cut
    days: Days
    billed: Mapping[str, Billed]
    """By subscription; also what was billed of other days where commitments count it."""

    states: Mapping[tuple[ChargeKey, datetime], State]
    """What a period began with, where that was anything."""

    positions: Mapping[str, Mapping[PeriodKey, int]]
    """What was issued by subscription, where commitments count it."""

    def state_after(self, key: ChargeKey, before: datetime) -> State:
        """Return the state that a charge's period begins with."""
        return self.states.get((key, before), {})

    def issued(self, subscription: str) -> Mapping[PeriodKey, int]:
        """Return what all issued lines of a subscription's charges and periods add up to."""
        return self.positions.get(subscription, {})


@dataclass(slots=True)
class _Plan:
    """What is rated of one subscription."""

    billed: Billed
    before: list[ChargePeriod]
    after: list[ChargePeriod]


def compare(
    past: Past, draft: Draft, usage: UsageReader, subscriptions: Iterable[str]
) -> Comparison:
    """Return what some subscriptions were billed, and what they would have been."""
    drafted = with_draft(past.facts, draft)
    plans = {key: _plan(past, draft, drafted, key) for key in subscriptions}
    for one in _added(past, draft, plans):
        plans[one.subscription].after.append(one)
    answers = Answers(usage, past.facts, past.cut)
    answers.ask([one for plan in plans.values() for one in (*plan.before, *plan.after)])
    found = Comparison()
    for plan in plans.values():
        _rate(found, past, draft, drafted, plan, answers)
    return found


def _plan(past: Past, draft: Draft, drafted: Facts, subscription: str) -> _Plan:
    plan = _Plan(past.billed[subscription], [], [])
    kept = {charge.key for charge in draft.version.charges}
    for key, periods in plan.billed.items():
        for stored in periods:
            before = again(past.facts, stored)
            if not past.days[0] <= before.period.starts_on < past.days[1]:
                continue
            plan.before.append(before)
            if before.price_book != draft.price_book:
                plan.after.append(before)
            elif key[2] in kept:
                plan.after.append(_undivided(again(drafted, stored)))
    return plan


def _undivided(period: ChargePeriod) -> ChargePeriod:
    """Return a period whose pieces of one price are one, as where no version had changed it."""
    first, last = period.pieces[0], period.pieces[-1]
    if any((one.charge, one.quantity) != (first.charge, first.quantity) for one in period.pieces):
        return period
    return replace(period, pieces=(replace(first, ends_on=last.ends_on, ends_at=last.ends_at),))


def _added(past: Past, draft: Draft, plans: Mapping[str, _Plan]) -> list[ChargePeriod]:
    """Return the periods of charges that only the draft has."""
    book = past.facts.price_books[draft.price_book]
    known = {charge.key for version in book.versions for charge in version.charges}
    fresh = tuple(charge for charge in draft.version.charges if charge.key not in known)
    own = [one for plan in plans.values() for one in plan.before if one.price_book == book.key]
    if not fresh or not own:
        return []
    only = Draft(book.key, draft.version.model_copy(update={"charges": fresh}))
    billed = {(one.subscription, one.item) for one in own}
    facts = with_draft(past.facts, only)
    facts = replace(facts, subscriptions={key: facts.subscriptions[key] for key, _ in billed})
    ends = [one.period.ends_at for one in own if one.timing == "arrears"]
    return [
        one
        for one in due(facts, {}, Scope("bill", max([past.cut.at, *ends])))
        if one.price_book == book.key
        and one.charge in {charge.key for charge in fresh}
        and (one.subscription, one.item) in billed
        and past.days[0] <= one.period.starts_on < past.days[1]
    ]


_At = tuple[ChargeKey, datetime]


def _rate(
    found: Comparison, past: Past, draft: Draft, drafted: Facts, plan: _Plan, answers: Answers
) -> None:
    """Rate a subscription's periods; under the draft only what it changes, or all that is counted.

    What a charge carries on makes a later period differ where an earlier one does.
    """
    was = _amounts(fold(past, past.facts, answers, plan.billed, plan.before))
    before, after = _by_start(plan.before), _by_start(plan.after)
    changed = {at[0] for at, one in after.items() if not _is_same(before.get(at), one)}
    if any(one.pieces[0].charge.model == "commitment" for one in plan.after):
        changed = {at[0] for at in after}
    wanted = [one for at, one in after.items() if at[0] in changed]
    now = {at: was[at] for at in after if at[0] not in changed}
    now |= _amounts(fold(past, drafted, answers, plan.billed, wanted))
    for at, one in {**before, **after}.items():
        sums = (was.get(at, 0), now.get(at, 0))
        add_to(found.customers, (one.customer, one.currency), *sums)
        if one.price_book == draft.price_book:
            add_to(found.charges, (one.charge, one.currency), *sums)
    found.periods += len(after.keys() | before.keys())


def _is_same(before: ChargePeriod | None, after: ChargePeriod) -> bool:
    if before is None:
        return False
    return before is after or (before.pieces, before.rounding) == (after.pieces, after.rounding)


def _by_start(periods: Iterable[ChargePeriod]) -> dict[_At, ChargePeriod]:
    return {(one.charge_key, one.period.starts_at): one for one in periods}


def _amounts(rated: Iterable[Rated]) -> dict[_At, int]:
    return {
        (one.inputs.billed.charge_key, one.inputs.billed.period.starts_at): sum(
            target.amount_minor for target in one.targets
        )
        for one in rated
    }
