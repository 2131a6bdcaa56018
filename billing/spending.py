"""What other charges come to, which commitments count; and which billed periods follow from others.

A period follows from an earlier one of its charge where something is carried over, and a
commitment's from those of the charges that it counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from billing.charge import Charge
from billing.charge_period import ChargeKey, ChargePeriod
from billing.document import Rated
from billing.due import BilledPeriod, again
from billing.facts import Facts, first_charge
from billing.money import to_major
from billing.period import Period
from billing.pricing import Dimensions

PeriodKey = tuple[str, str, datetime]
"""Item, charge, and when its period starts."""


@dataclass(slots=True)
class Spending:
    """Answers what was or is now billed for charges of a subscription."""

    issued: Callable[[str], Mapping[PeriodKey, int]]
    billed: Mapping[ChargeKey, Sequence[BilledPeriod]]
    _known: dict[str, Mapping[PeriodKey, int]] = field(default_factory=dict)

    def of(
        self, facts: Facts, period: ChargePeriod, rated: Sequence[Rated]
    ) -> dict[Dimensions, Decimal]:
        """Return what each charge that a commitment counts comes to in its period.

        As rated now, and where it is not rated now, as issued.
        """
        own = period.subscription
        if own not in self._known:
            self._known[own] = self.issued(own)
        counted = counted_charges(facts, period)
        now = {
            (billed.item, billed.charge, billed.period.starts_at): (billed, one)
            for one in rated
            if (billed := one.inputs.billed).subscription == own
        }
        totals: dict[tuple[str, str], int] = {}
        for (item, charge, _), (billed, one) in now.items():
            if (item, charge) in counted and _is_counted(
                billed.timing, billed.period, period.period
            ):
                total = sum(target.amount_minor for target in one.targets)
                totals[item, charge] = totals.get((item, charge), 0) + total
        for (item, charge), timing in counted.items():
            for known in self.billed.get((own, item, charge), ()):
                at = (item, charge, known.starts_at)
                if at not in now and _is_counted(timing, known, period.period):
                    minor = self._known[own].get(at, 0)
                    totals[item, charge] = totals.get((item, charge), 0) + minor
        return {
            (("charge", charge), ("item", item)): to_major(minor, period.currency)
            for (item, charge), minor in sorted(totals.items())
        }


def counted_charges(facts: Facts, commitment: ChargePeriod) -> dict[tuple[str, str], str]:
    """Return the items and charges that a commitment counts, with their timing."""
    named = commitment.pieces[0].charge.charges
    subscription = facts.subscriptions[commitment.subscription]
    found: dict[tuple[str, str], str] = {}
    for item in subscription.items:
        for key in facts.charge_keys(item):
            charge = first_charge(facts.versions(item), key)
            is_named = key in named and item.key == commitment.item
            if charge.model != "commitment" and (is_named or (not named and charge.all_meters)):
                found[item.key, key] = charge.timing
    return found


def with_followers(
    facts: Facts,
    billed: Mapping[ChargeKey, Sequence[BilledPeriod]],
    candidates: Sequence[ChargePeriod],
) -> list[ChargePeriod]:
    """Return the candidates, and the billed periods that follow from them."""
    found = {(one.charge_key, one.period.starts_at): one for one in candidates}
    for one in candidates:
        if _carries(one.pieces[0].charge, one):
            for known in billed.get(one.charge_key, ()):
                if known.starts_at > one.period.starts_at:
                    found.setdefault((known.key, known.starts_at), again(facts, known))
    for key in billed if found else ():
        own = [one for (touched, _), one in found.items() if touched[0] == key[0]]
        if not own or not _is_commitment(facts, key):
            continue
        for known in billed[key]:
            commitment = again(facts, known)
            counted = counted_charges(facts, commitment)
            if any(
                (one.item, one.charge) in counted
                and _is_counted(one.timing, one.period, commitment.period)
                for one in own
            ):
                found.setdefault((key, known.starts_at), commitment)
    return [found[at] for at in sorted(found)]


def _is_commitment(facts: Facts, key: ChargeKey) -> bool:
    subscription = facts.subscriptions.get(key[0])
    items = () if subscription is None else subscription.items
    return any(
        first_charge(facts.versions(item), key[2]).model == "commitment"
        for item in items
        if item.key == key[1] and key[2] in facts.charge_keys(item)
    )


def _carries(charge: Charge, period: ChargePeriod) -> bool:
    return charge.rollover is not None or any(
        discount.periods_max is not None for discount in period.discounts
    )


def _is_counted(timing: str, period: Period | BilledPeriod, whole: Period) -> bool:
    """Return whether a period is billed within another: by its end, or in advance by its start."""
    if timing == "advance":
        return whole.starts_at <= period.starts_at < whole.ends_at
    return whole.starts_at < period.ends_at <= whole.ends_at
