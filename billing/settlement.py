"""From targets to lines by the one rule: target as of the cut less what all issued lines add up to.

The same rule makes the first bill of a period (nothing issued yet), late events, second thoughts
and backdated facts. And the rule for documents: an invoice's total is never negative, the excess
becomes a credit note.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from billing.charge_period import ChargePeriod
from billing.money import EXACT, text_of, to_major
from billing.rating import LineKey, Target, worth_nothing
from billing.tiers import Step, total_of


class RepeatedLineError(Exception):
    """A period that is billed for the first time has lines already: parked, never billed twice."""


@dataclass(frozen=True, slots=True)
class Position:
    """What all issued lines of a key add up to."""

    quantity: Decimal = Decimal(0)
    amount_minor: int = 0


class Line(Struct, frozen=True):
    """One line of a document; credits are negative."""

    target: Target
    kind: str
    cause: str
    quantity: Decimal
    amount_minor: int
    trace: tuple[Step, ...]

    def __post_init__(self) -> None:
        if total_of(self.trace) != to_major(self.amount_minor, self.target.currency):
            raise AssertionError(f"the steps of {self.target.key} do not add up to the amount")


def first_lines(targets: Iterable[Target], positions: Mapping[LineKey, Position]) -> list[Line]:
    """Return the lines of periods that are billed for the first time; empty ones have none."""
    lines = []
    for target in targets:
        if target.key in positions:
            raise RepeatedLineError(str(target.key))
        if target.amount_minor or target.quantity:
            told, cause = target, ""
            if target.kind == "proration_charge":
                told, cause = _charged(target), f"terms {target.terms}"
            lines.append(
                Line(told, target.kind, cause, target.quantity, target.amount_minor, target.trace)
            )
    return lines


def corrections(
    billed: ChargePeriod,
    unit: str,
    targets: Iterable[Target],
    positions: Mapping[LineKey, Position],
    cause: str,
) -> list[Line]:
    """Return what has to be billed or credited for a period that was billed before.

    A piece keeps the key it was first billed under, by where it starts, though it ends elsewhere
    now: what is credited is the rest of it.
    """
    of_period = (*billed.charge_key, billed.period.starts_at)
    known = {
        (key.dimensions, key.piece_start): key
        for key in positions
        if (key.subscription, key.item, key.charge, key.period_start) == of_period
    }
    by_key: dict[LineKey, Target] = {}
    for target in targets:
        key = known.get((target.key.dimensions, target.key.piece_start), target.key)
        by_key[key] = replace(target, key=key)
    for key in known.values():
        by_key.setdefault(key, worth_nothing(billed, key, unit))
    lines = []
    for key in sorted(by_key, key=lambda key: (key.dimensions, key.piece_start)):
        target, position = by_key[key], positions.get(key, Position())
        delta_minor = target.amount_minor - position.amount_minor
        if delta_minor:
            before = to_major(-position.amount_minor, target.currency)
            step: Step = {
                "step": "billed before",
                "quantity": text_of(EXACT.minus(position.quantity)),
                "amount": text_of(before),
            }
            quantity = EXACT.subtract(target.quantity, position.quantity)
            trace = target.trace if position == Position() else (*target.trace, step)
            kind, told = _told(billed, target, delta_minor)
            why = cause if kind == "correction" else f"{cause}, terms {target.terms}"
            lines.append(Line(told, kind, why, quantity, delta_minor, trace))
    return lines


def _told(billed: ChargePeriod, target: Target, delta_minor: int) -> tuple[str, Target]:
    """Return a line's kind, and its target as the line tells of it."""
    if billed.timing == "arrears":
        return "correction", target
    if delta_minor > 0:
        return "proration_charge", _charged(target)
    return "proration_credit", _credited(billed, target)


def _charged(target: Target) -> Target:
    if not target.begins:
        return target
    description = f"{target.description}, from {target.service_from}: {target.begins}"
    return replace(target, description=description)


def _credited(billed: ChargePeriod, target: Target) -> Target:
    """Return a target as a credit tells of it: for the time that is not used of its piece."""
    ends_at = target.key.piece_end
    after = [piece for piece in billed.pieces if piece.starts_at == target.key.piece_start]
    if not after or after[0].ends_at >= ends_at:
        return target
    by_end = {piece.ends_at: piece.ends_on for piece in billed.pieces}
    why = f": {target.ends}" if target.ends else ""
    return replace(
        target,
        service_from=target.service_until,
        service_until=by_end.get(ends_at, billed.period.ends_on),
        description=f"{target.description}, not used from {target.service_until}{why}",
    )


def split_excess(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """Return the lines of an invoice whose total is not negative, and those of a credit note.

    Credits go on the invoice in order while its charges last; the line in which they end is cut in
    two.
    """
    room = sum(line.amount_minor for line in lines if line.amount_minor > 0)
    invoice: list[Line] = []
    credit_note: list[Line] = []
    for line in lines:
        if line.amount_minor >= 0 or room + line.amount_minor >= 0:
            invoice.append(line)
            room += min(line.amount_minor, 0)
        elif room == 0:
            credit_note.append(line)
        else:
            kept, rest = _cut_in_two(line, -room)
            invoice.append(kept)
            credit_note.append(rest)
            room = 0
    return invoice, credit_note


def _cut_in_two(line: Line, kept_minor: int) -> tuple[Line, Line]:
    rest_minor = line.amount_minor - kept_minor
    moved = text_of(to_major(rest_minor, line.target.currency))
    on_note: Step = {"step": "on the credit note", "amount": text_of(-Decimal(moved))}
    kept = replace(line, amount_minor=kept_minor, trace=(*line.trace, on_note))
    return kept, replace(
        line,
        cause=f"{line.cause}/excess",
        quantity=Decimal(0),
        amount_minor=rest_minor,
        trace=({"step": "rest of a correction", "amount": moved},),
    )
