"""The quantities a run needs, asked once per meter and interval for all subscriptions at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.charge import Charge
from billing.charge_period import ChargePeriod
from billing.document import Rated
from billing.evidence import evidence_of
from billing.facts import Facts, spans
from billing.money import text_of
from billing.pricing import Dimensions
from billing.time_of_day import Band, bands_between
from pipelines.usage import Cut, Span, UsageReader

_BETWEEN = "\0"
"""Stands between a subscription and a rate in the name of an owner."""


@dataclass(frozen=True, slots=True, order=True)
class Question:
    """What is asked of usage at once."""

    meter: str
    start: datetime
    end: datetime
    group_by: tuple[str, ...]
    by_value: bool = False
    """How many events have which value."""
    bands: tuple[Band, ...] = ()
    """Times of day to tell apart, by the clock of the zone."""
    zone: str = ""


@dataclass(slots=True)
class Answers:
    """Quantities, asked once per meter, interval and dimensions for all subscriptions."""

    usage: UsageReader
    facts: Facts
    cut: Cut
    found: dict[Question, dict[str, dict[Dimensions, Decimal]]] = field(default_factory=dict)

    def ask(
        self, wanted: Sequence[ChargePeriod], alike: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Read what rating some periods needs.

        `alike` names subscriptions that have the same periods as the one that is given.
        """
        owners: dict[Question, set[str]] = {}
        for period in wanted:
            for _, _, question in _questions(self.facts, period):
                own = [period.subscription] if alike is None else alike[period.subscription]
                owners.setdefault(question, set()).update(own)
        known: dict[tuple[str, datetime, datetime], list[Span]] = {}
        for question, subscriptions in sorted(owners.items()):
            asked: list[Span] = []
            for key in sorted(subscriptions):
                at = (key, question.start, question.end)
                if at not in known:
                    known[at] = spans(self.facts, self.facts.subscriptions[key], *at[1:])
                asked += known[at]
            for owner, values, value in self._read(question, asked):
                self.found.setdefault(question, {}).setdefault(owner, {})[values] = value

    def of(self, period: ChargePeriod) -> tuple[dict[Dimensions, Decimal], ...]:
        """Return the quantities of a period's pieces, by what their price depends on."""
        return self.reader(period)(period.subscription)

    def reader(
        self, period: ChargePeriod
    ) -> Callable[[str], tuple[dict[Dimensions, Decimal], ...]]:
        """Return what gives the quantities of such a period of any subscription."""
        asked = [
            (number, name, self.found.get(question, {}))
            for number, name, question in _questions(self.facts, period)
        ]
        charge, count = period.pieces[0].charge, len(period.pieces)

        def read(subscription: str) -> tuple[dict[Dimensions, Decimal], ...]:
            found: tuple[dict[Dimensions, Decimal], ...] = tuple({} for _ in range(count))
            for number, name, answers in asked:
                answer = answers.get(subscription, {})
                if name:
                    found[number][("meter", name),] = answer.get((), Decimal(0))
                else:
                    found[number].update(_filtered(charge, answer))
            return found

        return read

    def evidence(self, rated: Sequence[Rated]) -> dict[str, Any]:
        """Return what some periods were rated by."""
        inputs = [(one.inputs, one.state_in) for one in rated]
        return evidence_of(inputs, self.facts, self._owners(rated), self.cut)

    def _read(
        self, question: Question, asked: Sequence[Span]
    ) -> Iterator[tuple[str, Dimensions, Decimal]]:
        start, end, group_by = question.start, question.end, question.group_by
        if question.bands:
            pieces = bands_between(question.bands, question.zone, start, end)
            asked = [part for span in asked for part in _by_band(span, pieces)]
        if question.by_value:
            for one in self.usage.values(self.cut, question.meter, asked, start, end, group_by):
                values = tuple((name, one.dimensions[name]) for name in group_by)
                yield one.owner, (*values, ("value", text_of(one.value))), Decimal(one.count)
            return
        for row in self.usage.quantities(self.cut, question.meter, asked, start, end, group_by):
            values = tuple((name, row.dimensions[name]) for name in group_by)
            owner, _, rate = row.owner.partition(_BETWEEN)
            yield owner, (*values, ("rate", rate)) if rate else values, row.value

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


def _questions(facts: Facts, period: ChargePeriod) -> Iterator[tuple[int, str, Question]]:
    """Yield what is asked for each piece by number, with the meter's name in a formula."""
    charge = period.pieces[0].charge
    meters = [("", charge.meter)] if charge.meter else sorted(charge.meters.items())
    zone = facts.customers[period.customer].time_zone if charge.rates else ""
    for number, piece in enumerate(period.pieces):
        if not piece.length:
            continue
        bands = tuple((r.name, r.start, r.end, r.days) for r in piece.charge.rates)
        for name, meter in meters:
            yield (
                number,
                name,
                Question(
                    meter,
                    piece.starts_at,
                    piece.ends_at,
                    charge.asked_dimensions,
                    charge.per == "event",
                    bands,
                    zone,
                ),
            )


def _by_band(span: Span, pieces: Sequence[tuple[str, datetime, datetime]]) -> Iterator[Span]:
    """Cut a span by the time of day; each part counts for its rate."""
    for rate, start, end in pieces:
        since = start if span.start is None else max(start, span.start)
        until = end if span.end is None else min(end, span.end)
        if since < until:
            yield Span(f"{span.owner}{_BETWEEN}{rate}", span.subject, since, until)


def _filtered(charge: Charge, found: Mapping[Dimensions, Decimal]) -> dict[Dimensions, Decimal]:
    if not charge.filter:
        return dict(found)
    wanted = set(charge.filter.items())
    return {
        tuple(pair for pair in values if pair[0] not in charge.filter): quantity
        for values, quantity in found.items()
        if wanted <= set(values)
    }
