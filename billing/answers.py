"""The quantities a run needs, asked once per meter and interval for all subscriptions at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.document import Rated
from billing.due import ChargePeriod
from billing.evidence import evidence_of
from billing.facts import Facts, spans
from billing.rating import Dimensions
from pipelines.usage import Cut, Span, UsageReader

Question = tuple[str, datetime, datetime, tuple[str, ...]]


@dataclass(slots=True)
class Answers:
    """Quantities, asked once per meter, interval and dimensions for all subscriptions."""

    usage: UsageReader
    facts: Facts
    cut: Cut
    found: dict[tuple[Question, str], dict[Dimensions, Decimal]] = field(default_factory=dict)

    def ask(self, wanted: Sequence[ChargePeriod]) -> None:
        """Read what rating some periods needs."""
        owners: dict[Question, set[str]] = {}
        for period in wanted:
            for question in _questions(period):
                owners.setdefault(question, set()).add(period.subscription)
        for question, subscriptions in sorted(owners.items()):
            meter, start, end, group_by = question
            asked = [
                span
                for key in sorted(subscriptions)
                for span in spans(self.facts, self.facts.subscriptions[key], start, end)
            ]
            for row in self.usage.quantities(self.cut, meter, asked, start, end, group_by):
                values = tuple((name, row.dimensions[name]) for name in group_by)
                self.found.setdefault((question, row.owner), {})[values] = row.value

    def of(self, period: ChargePeriod) -> tuple[dict[Dimensions, Decimal], ...]:
        """Return the quantities of a period's pieces, by the dimensions the charge groups by."""
        return tuple(
            _filtered(period, self.found.get((question, period.subscription), {}))
            for question in _questions(period)
        ) or tuple({} for _ in period.pieces)

    def evidence(self, rated: Sequence[Rated]) -> dict[str, Any]:
        """Return what some periods were rated by."""
        inputs = [(one.inputs, one.state_in) for one in rated]
        return evidence_of(inputs, self.facts, self._owners(rated), self.cut)

    def _owners(self, rated: Iterable[Rated]) -> dict[str, list[Span]]:
        """Return whose usage was read, per subscription, over all its intervals."""
        bounds: dict[str, tuple[datetime, datetime]] = {}
        for one in rated:
            billed = one.inputs.billed
            start, end = billed.period.starts_at, billed.period.ends_at
            first, last = bounds.get(billed.subscription, (start, end))
            bounds[billed.subscription] = (min(first, start), max(last, end))
        return {
            key: spans(self.facts, self.facts.subscriptions[key], *interval)
            for key, interval in sorted(bounds.items())
        }


def _questions(period: ChargePeriod) -> list[Question]:
    charge = period.pieces[0].charge
    if charge.meter is None:
        return []
    dimensions = (*charge.group_by, *sorted(charge.filter))
    return [(charge.meter, piece.starts_at, piece.ends_at, dimensions) for piece in period.pieces]


def _filtered(
    period: ChargePeriod, found: Mapping[Dimensions, Decimal]
) -> dict[Dimensions, Decimal]:
    charge = period.pieces[0].charge
    wanted = set(charge.filter.items())
    return {
        tuple(pair for pair in values if pair[0] not in charge.filter): quantity
        for values, quantity in found.items()
        if wanted <= set(values)
    }
