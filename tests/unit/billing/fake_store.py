"""A bill run's store in memory: what the pure rules are tested with, and killed in mid-run."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from billing.charge_period import ChargeKey
from billing.document import Document, Draft, lines_of, number_document
from billing.due import BilledPeriod, Scope
from billing.evidence import positions_content
from billing.facts import Assignment, Facts
from billing.rating import LineKey, State
from billing.run import Run
from billing.settlement import Position
from billing.spending import PeriodKey
from pipelines.usage import Cut


class KilledError(Exception):
    """The process ended here."""


@dataclass
class FakeStore:
    """A `RunStore` whose facts are listed by revision; the last are in force."""

    history: list[Facts]
    tenant: str = "default"
    runs: list[tuple[Run, bool]] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    periods: dict[ChargeKey, list[BilledPeriod]] = field(default_factory=lambda: defaultdict(list))
    positions: dict[LineKey, Position] = field(default_factory=dict)
    settled_cuts: dict[str, int] = field(default_factory=dict)
    series: dict[tuple[str, int], tuple[int, date]] = field(default_factory=dict)
    states: dict[tuple[ChargeKey, datetime], State] = field(default_factory=dict)
    inputs: dict[UUID, str] = field(default_factory=dict)
    """What each document was rated from, as JSON with its names in order, like a jsonb column."""
    first_cuts: dict[tuple[ChargeKey, datetime], int] = field(default_factory=dict)
    """The cut by which each period was billed first."""
    lives: int | None = None
    """After how many issued drafts the process is killed; None is never."""

    def has_virtual_clock(self) -> bool:
        return True

    @contextmanager
    def hold(self) -> Iterator[None]:
        yield

    def unfinished(self) -> Run | None:
        return next((run for run, is_done in self.runs if not is_done), None)

    def begin(self, scope: Scope, cut: Cut) -> Run:
        run = Run(len(self.runs) + 1, scope, cut.number)
        self.runs.append((run, False))
        return run

    def finish(self, run: Run) -> None:
        self.runs = [(known, is_done or known == run) for known, is_done in self.runs]

    def facts(self, revision: int) -> Facts:
        return [facts for facts in self.history if facts.revision <= revision][-1]

    def moved(self, after: int, until: int) -> list[Assignment]:
        before = {o for own in self.facts(after).assignments.values() for o in own}
        now = {o for own in self.facts(until).assignments.values() for o in own}
        return sorted(before ^ now, key=repr)

    def billed(self) -> Mapping[ChargeKey, Sequence[BilledPeriod]]:
        return self.periods

    def settled(self) -> Mapping[str, int]:
        return self.settled_cuts

    def issued(self, subscription: str) -> Mapping[PeriodKey, int]:
        totals: dict[PeriodKey, int] = defaultdict(int)
        for key, position in self.positions.items():
            if key.subscription == subscription:
                totals[key.item, key.charge, key.period_start] += position.amount_minor
        return totals

    def state_after(self, key: ChargeKey, before: datetime) -> State:
        known = [at for charge, at in self.states if charge == key and at < before]
        return self.states[key, max(known)] if known else {}

    def issue(self, run: Run, cut: Cut, draft: Draft) -> list[Document]:
        assert run == self.unfinished()
        if self.lives is not None:
            if self.lives == 0:
                raise KilledError
            self.lives -= 1
        issued = []
        inputs = {**draft.evidence, "positions": positions_content(self.positions)}
        for kind, lines in lines_of(draft, self.positions, cut).items():
            name = (kind, draft.bill_on.year)
            document = number_document(draft, kind, lines, self.series.get(name), self.tenant)
            self.series[name] = (document.sequence, document.issued_on)
            issued.append(document)
            self.inputs[document.invoice_id] = json.dumps(inputs, sort_keys=True)
            for line in document.lines:
                at = self.positions.get(line.target.key, Position())
                self.positions[line.target.key] = Position(
                    at.quantity + line.quantity, at.amount_minor + line.amount_minor
                )
        for rated in draft.due:
            billed = rated.inputs.billed
            period = billed.period
            known = self.periods[billed.charge_key]
            assert all(
                one.ends_at <= period.starts_at or period.ends_at <= one.starts_at for one in known
            ), "billed twice"
            revision = cut.facts_revision
            known.append(
                BilledPeriod(
                    billed.charge_key, period.starts_at, period.ends_at, period.starts_on, revision
                )
            )
            self.first_cuts[billed.charge_key, period.starts_at] = cut.number
            known.sort(key=lambda one: one.starts_at)
        for rated in (*draft.due, *draft.corrected):
            billed = rated.inputs.billed
            self.states[billed.charge_key, billed.period.starts_at] = rated.state_out
        self.settled_cuts.update(dict.fromkeys(draft.settles, cut.number))
        self.documents += issued
        return issued

    def billed_amounts(self) -> dict[LineKey, int]:
        """Return what all lines of each key add up to, those of zero left out."""
        totals: dict[LineKey, int] = defaultdict(int)
        for document in self.documents:
            for line in document.lines:
                totals[line.target.key] += line.amount_minor
        return {key: total for key, total in totals.items() if total}

    def billed_quantities(self) -> dict[LineKey, Decimal]:
        """Return what the quantities of all lines of each key add up to."""
        totals: dict[LineKey, Decimal] = defaultdict(Decimal)
        for document in self.documents:
            for line in document.lines:
                totals[line.target.key] += line.quantity
        return dict(totals)
