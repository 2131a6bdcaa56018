"""Rating: a pure fold over the periods of a charge, from quantities to what lines should add up to.

`rate(inputs, state_in) -> (targets, state_out)`. A target is what a key is worth as of a cut; what
is issued for it are differences (see settlement).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from billing.adjustments import Amount, applying, bound, counted, round_all, take_off
from billing.allowance import Allowance
from billing.charge import Charge, Price, price_in
from billing.charge_period import ChargePeriod, Piece
from billing.discount import Discount
from billing.money import EXACT, earned_minor, share, text_of, to_major
from billing.pricing import Dimensions, price_events, price_quantity
from billing.tiers import Step, Tier, graduated, total_of

RATING_VERSION = "1"
"""Stored with every invoice: raised by whatever makes the same inputs give other amounts."""

State = Mapping[str, str]
"""What a charge carries from period to period: allowance that is left, coupons that are used."""


class LineKey(Struct, frozen=True):
    """What lines add up for: one charge, dimension values, and piece of a period."""

    subscription: str
    item: str
    charge: str
    dimensions: Dimensions
    piece_start: datetime
    piece_end: datetime
    period_start: datetime


class Target(Struct, frozen=True):
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
    begins: str = ""
    """What cuts its piece off from what is before, in words."""
    ends: str = ""
    terms: int = 0

    def __post_init__(self) -> None:
        if total_of(self.trace) != to_major(self.amount_minor, self.currency):
            raise AssertionError(f"the steps of {self.key} do not add up to the amount")


class PeriodInputs(Struct, frozen=True):
    """A charge's period and its quantities, per piece and dimension values.

    What belongs to no dimension of usage is told by one more pair: `("rate", name)` for a time of
    day, `("meter", name)` for each meter of a formula, `("value", text)` for how many events have a
    value where they are priced one by one, and `("charge", key)` for what was billed for another
    charge, in major units, where a commitment counts it.
    """

    billed: ChargePeriod
    unit: str
    quantities: tuple[Mapping[Dimensions, Decimal], ...]


def rate(inputs: PeriodInputs, state_in: State) -> tuple[list[Target], State]:
    """Return what each key of a period is worth, and the state that the next period starts from."""
    billed = inputs.billed
    charge = billed.pieces[0].charge
    if billed.is_void:
        return [], state_in
    discounts = applying(billed.discounts, state_in, billed.period.starts_on, charge.key)
    if charge.model == "commitment":
        return _committed(inputs, charge), {}
    used = counted(discounts, state_in)
    if charge.is_once:
        return [_once(billed, discounts)], used
    if charge.is_time:
        return [_time(billed, piece, discounts) for piece in billed.pieces], used
    allowance = Allowance.from_state(charge.rollover, state_in)
    targets: list[Target] = []
    for pieces in _segments(billed):
        targets += _usage(inputs, pieces, allowance, discounts)
    return targets, used | allowance.to_state()


@dataclass(slots=True)
class _Use:
    """The usage of one line: of a piece and dimension values."""

    piece: Piece
    dimensions: Dimensions
    quantity: Decimal
    events: dict[Decimal, int]
    """How many there are of each value, where they are priced one by one."""


def _segments(billed: ChargePeriod) -> Sequence[Sequence[int]]:
    """Return the pieces that are priced as one period, by number: all, unless each restarts."""
    numbers = range(len(billed.pieces))
    if billed.pieces[0].charge.on_change == "restart":
        return [[number] for number in numbers]
    return [numbers]


def _usage(
    inputs: PeriodInputs,
    numbers: Sequence[int],
    allowance: Allowance,
    discounts: Sequence[Discount],
) -> list[Target]:
    """Rate what is one period to its prices: quantity, allowance, model, bounds, discounts."""
    billed = inputs.billed
    uses = [use for number in numbers for use in _uses(inputs, number)]
    charge = uses[0].piece.charge if uses else billed.pieces[numbers[0]].charge
    whole = billed.whole
    length = sum(billed.pieces[number].length for number in numbers) if charge.prorate else whole
    if charge.included is not None:
        allowance.include(share(charge.included, length, whole))
    amounts = _priced(billed, uses, allowance, discounts, (length, whole))
    if charge.when_zero == "skip" and not any(use.quantity for use in uses):
        return []
    if not amounts:
        return []
    together = charge.minimum is not None or charge.maximum is not None
    if together:
        limits = [
            None if limit is None else share(price_in(limit, billed.currency), length, whole)
            for limit in (charge.minimum, charge.maximum)
        ]
        bound(amounts, *limits)
    take_off(amounts, discounts, billed.currency)
    together = together or any(one.amount is not None for one in discounts)
    minors = round_all(amounts, billed.currency, billed.rounding, together=together)
    found = []
    skipped = _unused(uses) if charge.when_zero == "skip" else set()
    for use, amount, minor in zip(uses, amounts, minors, strict=True):
        if use.dimensions not in skipped or minor:
            found.append(
                _target(
                    billed,
                    use.piece,
                    use.dimensions,
                    use.quantity,
                    inputs.unit,
                    minor,
                    amount.steps,
                )
            )
    return found


def _unused(uses: Sequence[_Use]) -> set[Dimensions]:
    """Return the dimension values without usage in any piece."""
    return {use.dimensions for use in uses} - {use.dimensions for use in uses if use.quantity}


def _uses(inputs: PeriodInputs, number: int) -> list[_Use]:
    """Return the lines of one piece, in order."""
    piece, found = inputs.billed.pieces[number], inputs.quantities[number]
    charge = piece.charge
    if charge.formula is not None:
        by_name = {dict(dimensions)["meter"]: quantity for dimensions, quantity in found.items()}
        return [_Use(piece, (), charge.formula.value(by_name), {})]
    if charge.per is None:
        quantities = dict(found)
        if not charge.group_by and charge.model not in ("matrix", "time_of_day"):
            quantities.setdefault((), Decimal(0))
        return [_Use(piece, at, quantity, {}) for at, quantity in sorted(quantities.items())]
    by_value: dict[Dimensions, dict[Decimal, int]] = {} if charge.group_by else {(): {}}
    for dimensions, count in found.items():
        *own, (_, value) = dimensions
        by_value.setdefault(tuple(own), {})[Decimal(value)] = int(count)
    return [_Use(piece, at, _sum(events), events) for at, events in sorted(by_value.items())]


def _sum(events: Mapping[Decimal, int]) -> Decimal:
    total = Decimal(0)
    for value, count in events.items():
        total = EXACT.add(total, EXACT.multiply(value, Decimal(count)))
    return total


def _priced(
    billed: ChargePeriod,
    uses: Sequence[_Use],
    allowance: Allowance,
    discounts: Sequence[Discount],
    part: tuple[int, int],
) -> list[Amount]:
    """Price the lines one after the other, each from the position reached before it."""
    coupons = Allowance(None, [])
    for discount in discounts:
        coupons.include(discount.units or Decimal(0))
    reached: dict[Dimensions, Decimal] = {}
    first = uses[0].piece if uses else None
    amounts = []
    for use in uses:
        charge = use.piece.charge
        if charge.per == "event":
            priced, steps = price_events(charge, billed.currency, use.events, billed.rounding)
            amounts.append(Amount(priced, steps))
            continue
        quantity, free_steps = _billable(use.quantity, coupons, allowance)
        priced, steps = price_quantity(
            charge,
            billed.currency,
            use.dimensions,
            reached.get(use.dimensions, Decimal(0)),
            quantity,
            begins=use.dimensions not in reached and (use.piece is first or bool(use.dimensions)),
            bounds_by=part if charge.on_change == "restart" else (1, 1),
        )
        reached[use.dimensions] = EXACT.add(reached.get(use.dimensions, Decimal(0)), quantity)
        amounts.append(Amount(priced, [*free_steps, *steps]))
    return amounts


def _billable(
    quantity: Decimal, coupons: Allowance, allowance: Allowance
) -> tuple[Decimal, list[Step]]:
    """Return how much of a quantity is priced, and what is free."""
    steps: list[Step] = []
    for name, free in (("discount", coupons), ("included", allowance)):
        if free.is_used_up or quantity <= 0:
            continue
        if taken := free.take(quantity):
            steps.append({"step": name, "quantity": text_of(taken), "amount": "0"})
            quantity = EXACT.subtract(quantity, taken)
    return quantity, steps


def _once(billed: ChargePeriod, discounts: Sequence[Discount]) -> Target:
    piece = billed.pieces[0]
    amount, steps = _fee(piece.charge.amount, billed, discounts)
    return _target(billed, piece, (), Decimal(1), "", amount, steps)


def _time(billed: ChargePeriod, piece: Piece, discounts: Sequence[Discount]) -> Target:
    """Return a piece of a fee: what is earned at its end less what is earned at its start.

    Where it lies in the whole period counts, so the pieces of a stub or of a change add up.
    """
    charge = piece.charge
    quantity = Decimal(1)
    if charge.model == "per_seat":
        quantity = Decimal(0) if piece.quantity is None else piece.quantity
        minor, steps = _seats(charge, quantity, billed, discounts)
    else:
        minor, steps = _fee(charge.amount, billed, discounts)
    whole = billed.whole
    part = earned_minor(minor, piece.last, whole) - earned_minor(minor, piece.first, whole)
    if part != minor:
        rest = text_of(to_major(part - minor, billed.currency))
        name = f"{piece.length} of {whole} {billed.unit}s"
        steps.append({"step": name, "amount": rest})
    return _target(billed, piece, (), quantity, "", part, steps)


def _fee(
    price: Price | None, billed: ChargePeriod, discounts: Sequence[Discount]
) -> tuple[int, list[Step]]:
    assert price is not None  # noqa: S101 - held by the schema
    fee = price_in(price, billed.currency)
    return _discounted(Amount(fee, [{"step": "fee", "amount": text_of(fee)}]), billed, discounts)


def _seats(
    charge: Charge, seats: Decimal, billed: ChargePeriod, discounts: Sequence[Discount]
) -> tuple[int, list[Step]]:
    free = Decimal(0)
    for one in discounts:
        free = min(EXACT.add(free, one.units or Decimal(0)), seats)
    tiers: Sequence[Tier] = charge.tiers_in(billed.currency)
    priced, steps = graduated(tiers, Decimal(0), EXACT.subtract(seats, free), begins=True)
    if free:
        steps.insert(0, {"step": "discount", "quantity": text_of(free), "amount": "0"})
    return _discounted(Amount(priced, steps), billed, discounts)


def _discounted(
    amount: Amount, billed: ChargePeriod, discounts: Sequence[Discount]
) -> tuple[int, list[Step]]:
    take_off([amount], discounts, billed.currency)
    (minor,) = round_all([amount], billed.currency, billed.rounding, together=False)
    return minor, amount.steps


def _committed(inputs: PeriodInputs, charge: Charge) -> list[Target]:
    """Return what a commitment adds to what other charges cost in its period, or takes off.

    Below the commitment the rest of it; above it, where there is an overage, so much more for what
    is above; above a maximum, what is too much.
    """
    billed, piece = inputs.billed, inputs.billed.pieces[0]
    whole = billed.whole
    length = piece.length if charge.prorate else whole
    spent = Decimal(0)
    for amount in inputs.quantities[0].values():
        spent = EXACT.add(spent, amount)
    found = Amount(Decimal(0))
    if charge.commitment is not None:
        committed = share(price_in(charge.commitment, billed.currency), length, whole)
        above = EXACT.subtract(spent, committed)
        if above < 0:
            found.add("commitment", committed)
            found.add("billed for its charges", EXACT.minus(spent))
        elif charge.overage is not None:
            more = EXACT.subtract(charge.overage, Decimal(1))
            name = f"{text_of(above)} above the commitment, at {text_of(charge.overage)} times"
            found.add(name, EXACT.multiply(above, more))
    if charge.maximum is not None:
        most = share(price_in(charge.maximum, billed.currency), length, whole)
        above = EXACT.subtract(EXACT.add(spent, found.value), most)
        if above > 0:
            found.add(f"maximum of {text_of(most)}", EXACT.minus(above))
    (minor,) = round_all([found], billed.currency, billed.rounding, together=False)
    return [_target(billed, piece, (), Decimal(1), "", minor, found.steps)]


def worth_nothing(billed: ChargePeriod, key: LineKey, unit: str) -> Target:
    """Return the target of a key that was billed and for which nothing is left."""
    before = [piece for piece in billed.pieces if piece.starts_at <= key.piece_start]
    piece = before[-1] if before else billed.pieces[0]
    target = _target(billed, piece, key.dimensions, Decimal(0), unit, 0, [])
    return replace(target, key=key)


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
    name = charge.description or charge.key.replace("_", " ")
    values = ", ".join([value for _, value in dimensions]) if dimensions else ""
    return Target(
        key=LineKey(
            *billed.charge_key,
            tuple(sorted(dimensions)),  # as the books read them back, however they are named
            piece.starts_at,
            piece.ends_at,
            billed.period.starts_at,
        ),
        kind=_kind(billed, piece),
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
        trace=(*_agreed(charge), *steps),
        begins=piece.begins,
        ends=piece.ends,
        terms=billed.terms,
    )


def _agreed(charge: Charge) -> list[Step]:
    """Return what tells that prices are not the book's."""
    if not charge.agreed:
        return []
    return [{"step": f"agreed: {', '.join(charge.agreed)}", "amount": "0"}]


def _kind(billed: ChargePeriod, piece: Piece) -> str:
    """Return what a line is of; one in advance for the rest of a period is that of a change."""
    if billed.timing == "arrears":
        return "usage"
    return "proration_charge" if piece.begins and piece.first else "advance"
