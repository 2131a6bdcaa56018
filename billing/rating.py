"""Rating: a pure fold over the periods of a charge, from quantities to what lines should add up to.

`rate(inputs, state_in) -> (targets, state_out)`. A target is what a key is worth as of a cut; what
is issued for it are differences (see settlement).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from billing.charge import price_in
from billing.due import ChargePeriod, Piece
from billing.money import EXACT, earned_minor, minor_digits, text_of, to_major, to_minor
from billing.tiers import Step, graduated

RATING_VERSION = "1"
"""Stored with every invoice: raised by whatever makes the same inputs give other amounts."""

Dimensions = tuple[tuple[str, str], ...]
State = Mapping[str, str]
"""What a charge carries from period to period; the models of today carry nothing."""


@dataclass(frozen=True, slots=True)
class LineKey:
    """What lines add up for: one charge, dimension values, and piece of a period."""

    subscription: str
    item: str
    charge: str
    dimensions: Dimensions
    piece_start: datetime
    piece_end: datetime
    period_start: datetime


@dataclass(frozen=True, slots=True)
class Target:
    """What all lines of a key together should be, as of a cut."""

    key: LineKey
    kind: str
    quantity: Decimal
    unit: str
    amount_minor: int
    currency: str
    service_from: date
    service_until: date
    product: str
    description: str
    price_book: str
    book_version: int
    trace: tuple[Step, ...]

    def __post_init__(self) -> None:
        total = sum((Decimal(step["amount"]) for step in self.trace), Decimal(0))
        if total != to_major(self.amount_minor, self.currency):
            raise AssertionError(f"the steps of {self.key} do not add up to the amount")


@dataclass(frozen=True, slots=True)
class PeriodInputs:
    """A charge's period and its quantities, per piece and dimension values."""

    billed: ChargePeriod
    unit: str
    quantities: tuple[Mapping[Dimensions, Decimal], ...]


def rate(inputs: PeriodInputs, state_in: State) -> tuple[list[Target], State]:
    """Return what each key of a period is worth, and the state that the next period starts from."""
    if inputs.billed.pieces[0].charge.model == "flat":
        return [_flat(inputs.billed, piece) for piece in inputs.billed.pieces], state_in
    targets: list[Target] = []
    reached: dict[Dimensions, Decimal] = {}
    for number, (piece, found) in enumerate(
        zip(inputs.billed.pieces, inputs.quantities, strict=True)
    ):
        quantities = dict(found)
        if not piece.charge.group_by:
            quantities.setdefault((), Decimal(0))
        for dimensions, quantity in sorted(quantities.items()):
            begins = dimensions not in reached and (number == 0 or bool(dimensions))
            before = reached.get(dimensions, Decimal(0))
            reached[dimensions] = EXACT.add(before, quantity)
            targets.append(_by_quantity(inputs, piece, dimensions, before, quantity, begins))
    return _without_skipped(inputs, targets, reached), state_in


def worth_nothing(billed: ChargePeriod, key: LineKey, unit: str) -> Target:
    """Return the target of a key that was billed and for which nothing is left."""
    piece = next(piece for piece in billed.pieces if piece.starts_at == key.piece_start)
    return _target(billed, piece, key.dimensions, Decimal(0), unit, 0, [])


def _without_skipped(
    inputs: PeriodInputs, targets: list[Target], reached: Mapping[Dimensions, Decimal]
) -> list[Target]:
    """Leave out keys without usage where the charge says so."""
    if inputs.billed.pieces[0].charge.when_zero == "charge":
        return targets
    return [target for target in targets if reached[target.key.dimensions]]


def _flat(billed: ChargePeriod, piece: Piece) -> Target:
    """Return a piece of a fee: what is earned at its end less what is earned at its start.

    Days of the whole period count, so the pieces of a stub or of a change add up.
    """
    charge = piece.charge
    assert charge.amount is not None  # noqa: S101 - held by the schema
    amount = price_in(charge.amount, billed.currency)
    whole = billed.period
    days_total = (whole.whole_until - whole.whole_from).days
    first = (piece.starts_on - whole.whole_from).days
    last = (piece.ends_on - whole.whole_from).days
    steps = [{"step": "fee", "amount": text_of(amount)}]
    minor = to_minor(amount, billed.currency)
    steps += _rounding(amount, minor, billed.currency)
    part = earned_minor(minor, last, days_total) - earned_minor(minor, first, days_total)
    if part != minor:
        rest = text_of(to_major(part - minor, billed.currency))
        steps.append({"step": f"{last - first} of {days_total} days", "amount": rest})
    return _target(billed, piece, (), Decimal(1), "", part, steps)


def _by_quantity(
    inputs: PeriodInputs,
    piece: Piece,
    dimensions: Dimensions,
    reached: Decimal,
    quantity: Decimal,
    begins: bool,
) -> Target:
    currency = inputs.billed.currency
    tiers = piece.charge.tiers_in(currency)
    amount, steps = graduated(tiers, reached, quantity, begins=begins)
    minor = to_minor(amount, currency)
    steps += _rounding(amount, minor, currency)
    return _target(inputs.billed, piece, dimensions, quantity, inputs.unit, minor, steps)


def _rounding(amount: Decimal, minor: int, currency: str) -> list[Step]:
    rest = EXACT.subtract(to_major(minor, currency), amount)
    if rest == 0:
        return []
    step = f"rounding to {minor_digits(currency)} decimals"
    return [{"step": step, "amount": text_of(rest)}]


def _target(
    billed: ChargePeriod,
    piece: Piece,
    dimensions: Dimensions,
    quantity: Decimal,
    unit: str,
    amount_minor: int,
    steps: Sequence[Step],
) -> Target:
    charge = piece.charge
    values = ", ".join(value for _, value in dimensions)
    name = charge.description or charge.key.replace("_", " ")
    return Target(
        key=LineKey(
            *billed.charge_key,
            dimensions,
            piece.starts_at,
            piece.ends_at,
            billed.period.starts_at,
        ),
        kind="advance" if billed.timing == "advance" else "usage",
        quantity=quantity,
        unit=unit,
        amount_minor=amount_minor,
        currency=billed.currency,
        service_from=piece.starts_on,
        service_until=piece.ends_on,
        product=charge.revenue_product,
        description=f"{name} ({values})" if values else name,
        price_book=billed.price_book,
        book_version=piece.version,
        trace=tuple(steps),
    )
