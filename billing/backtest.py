"""What past usage would have cost under a draft of a price book; writes nothing.

Each billed period that starts on the days asked for is rated twice as of one cut: under the
versions it was billed by, and as if the draft had been in force all along. So prices alone make the
difference, whatever came late. A charge that only the draft has counts for the periods, ended as of
the cut, of items that were billed. Rating ends before wallets, numbers and corrections.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from itertools import pairwise
from operator import attrgetter

import msgspec

from billing.answers import Answers
from billing.charge_period import ChargeKey, ChargePeriod, Piece
from billing.comparison import Comparison, add_to
from billing.due import BilledPeriod, Scope, again, due
from billing.facts import Facts
from billing.price_book_draft import Draft, with_draft
from billing.rating import PeriodInputs, State, rate
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
    """What is rated of subscriptions that are alike but for usage: the periods of the first."""

    members: list[str]
    before: list[ChargePeriod]
    after: list[ChargePeriod]

    @property
    def commits(self) -> bool:
        """True where what one charge comes to depends on others."""
        both = (*self.before, *self.after)
        return any(one.pieces[0].charge.model == "commitment" for one in both)


def compare(
    past: Past, draft: Draft, usage: UsageReader, subscriptions: Iterable[str]
) -> Comparison:
    """Return what some subscriptions were billed, and what they would have been."""
    drafted = with_draft(past.facts, draft)
    alike: dict[object, list[str]] = {}
    for key in subscriptions:
        alike.setdefault(_terms(past, key), []).append(key)
    plans = {own[0]: _plan(past, draft, drafted, own) for own in alike.values()}
    for one in _added(past, draft, plans):
        plans[one.subscription].after.append(one)
    answers = Answers(usage, past.facts, past.cut)
    wanted = [one for plan in plans.values() for one in (*plan.before, *plan.after)]
    answers.ask(wanted, {key: plan.members for key, plan in plans.items()})
    found = Comparison()
    for plan in plans.values():
        _compare_plan(found, past, draft, drafted, plan, answers)
    return found


_BILLED = attrgetter(*(one.name for one in fields(BilledPeriod) if one.name != "key"))


def _terms(past: Past, subscription: str) -> object:
    """Return all that decides which periods of a subscription are rated, and at which prices."""
    terms = past.facts.subscriptions[subscription]
    customer = past.facts.customers[terms.customer]
    own = terms.model_dump_json(exclude={"key", "customer", "predecessor"})
    billed = tuple(
        (*key[1:], *map(_BILLED, periods)) for key, periods in past.billed[subscription].items()
    )
    return (own, customer.currency, customer.time_zone, billed)


def _plan(past: Past, draft: Draft, drafted: Facts, members: list[str]) -> _Plan:
    plan = _Plan(members, [], [])
    kept = {charge.key for charge in draft.version.charges}
    for key, periods in past.billed[members[0]].items():
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
    if any(
        one.ends_at != other.starts_at
        or (one.charge, one.quantity) != (other.charge, other.quantity)
        for one, other in pairwise(period.pieces)
    ):
        return period
    whole = msgspec.structs.replace(
        first,
        ends_on=last.ends_on,
        ends_at=last.ends_at,
        last=last.last,
        idle=sum(piece.idle for piece in period.pieces),
        ends=last.ends,
    )
    return msgspec.structs.replace(period, pieces=(whole,))


def _are_apart(one: Piece, other: Piece) -> bool:
    alike = (one.charge, one.quantity) == (other.charge, other.quantity)
    return one.ends_at != other.starts_at or not alike


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


def _compare_plan(
    found: Comparison, past: Past, draft: Draft, drafted: Facts, plan: _Plan, answers: Answers
) -> None:
    """Rate what a plan's members were billed; under the draft only what that changes.

    What a charge carries on makes a later period differ where an earlier one does; and what a
    commitment counts, all of them.
    """
    before, after = _by_start(plan.before), _by_start(plan.after)
    changed = {at[0] for at, one in after.items() if not _is_same(before.get(at), one)}
    if plan.commits:
        changed = {at[0] for at in after}
    wanted = [one for at, one in after.items() if at[0] in changed]
    kept = [at for at in after if at[0] not in changed]
    if plan.commits:
        was = _folded(past, past.facts, plan.before, answers)
        now = _folded(past, drafted, wanted, answers)
    else:
        was, now = _each(past, plan.before, answers), _each(past, wanted, answers)
    both = {**before, **after}
    found.periods += len(both) * len(plan.members)
    for member in plan.members:
        old, new = was(member), now(member)
        new |= {at: old[at] for at in kept}
        customer = past.facts.subscriptions[member].customer
        for at, one in both.items():
            sums = (old.get(at, 0), new.get(at, 0))
            add_to(found.customers, (customer, one.currency), *sums)
            if one.price_book == draft.price_book:
                add_to(found.charges, (one.charge, one.currency), *sums)


_Amounts = Callable[[str], dict[_At, int]]
"""What a subscription's periods come to, by where they are in its plan."""


def _folded(
    past: Past, facts: Facts, periods: Sequence[ChargePeriod], answers: Answers
) -> _Amounts:
    """Rate periods of which some count what others come to."""

    def amounts(member: str) -> dict[_At, int]:
        customer = facts.subscriptions[member].customer
        own = [
            msgspec.structs.replace(one, subscription=member, customer=customer) for one in periods
        ]
        at_by_own = {
            (one.charge_key, one.period.starts_at): (period.charge_key, period.period.starts_at)
            for one, period in zip(own, periods, strict=True)
        }
        found = {}
        for one in fold(past, facts, answers, past.billed[member], own):
            billed = one.inputs.billed
            at = at_by_own[billed.charge_key, billed.period.starts_at]
            found[at] = sum(target.amount_minor for target in one.targets)
        return found

    return amounts


def _each(past: Past, periods: Sequence[ChargePeriod], answers: Answers) -> _Amounts:
    """Rate periods each by itself, in order; of the same usage, once."""
    ordered = sorted(periods, key=lambda one: (one.charge_key, one.period.starts_at))
    steps = [(one, answers.reader(one), dict[object, tuple[int, State]]()) for one in ordered]

    def amounts(member: str) -> dict[_At, int]:
        found: dict[_At, int] = {}
        last: ChargePeriod | None = None
        state: State = {}
        for one, read, known in steps:
            if last is None or not _follows(one, last):
                key = (member, one.item, one.charge)
                state = past.state_after(key, one.period.starts_at)
            quantities = read(member)
            asked = (*(frozenset(part.items()) for part in quantities), frozenset(state.items()))
            if asked not in known:
                targets, state_out = rate(PeriodInputs(one, "", quantities), state)
                known[asked] = (sum(target.amount_minor for target in targets), state_out)
            found[one.charge_key, one.period.starts_at], state = known[asked]
            last = one
        return found

    return amounts


def _follows(one: ChargePeriod, last: ChargePeriod) -> bool:
    return one.charge_key == last.charge_key and one.period.starts_at == last.period.ends_at


def _is_same(before: ChargePeriod | None, after: ChargePeriod) -> bool:
    if before is None:
        return False
    return before is after or (before.pieces, before.rounding) == (after.pieces, after.rounding)


def _by_start(periods: Iterable[ChargePeriod]) -> dict[_At, ChargePeriod]:
    return {(one.charge_key, one.period.starts_at): one for one in periods}
