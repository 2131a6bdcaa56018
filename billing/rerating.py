"""Rates a document again from its stored inputs, and tells where its lines are others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.charge import Charge
from billing.charge_period import ChargeKey, ChargePeriod
from billing.customer import Customer, Subscription
from billing.due import BilledPeriod, again
from billing.facts import Facts
from billing.money import text_of
from billing.price_book import BookVersion
from billing.pricing import Dimensions
from billing.rating import RATING_VERSION, LineKey, PeriodInputs, rate
from billing.settlement import Line, Position, corrections, first_lines, split_excess

Inputs = Mapping[str, Any]
"""What a document was rated from, by role, as stored with it."""
PeriodName = tuple[ChargeKey, datetime]
"""A charge and since when."""


class CutOtherwiseError(Exception):
    """The stored terms do not cut a period as it was cut."""


def was_rated_alike(inputs: Inputs) -> bool:
    """Return whether a document was rated by the rules that are in force now."""
    return bool(inputs["cut"]["rating_version"] == RATING_VERSION)


def period_names(inputs: Inputs) -> list[PeriodName]:
    """Return the periods that a document was rated from."""
    return [_name_of(one) for one in inputs["quantities"]]


def lines_again(
    inputs: Inputs, facts: Facts, billed: Mapping[PeriodName, tuple[BilledPeriod, int]]
) -> dict[str, list[Line]]:
    """Return the lines by document type, rated again from the stored inputs.

    `facts` are those of the cut's revision; what is stored with the document stands in for them.
    `billed` says of each period where it lies, and by which cut it was billed first.
    """
    facts = _with_stored(facts, inputs)
    positions = _positions_of(inputs["positions"])
    known = {((key.subscription, key.item, key.charge), key.period_start) for key in positions}
    cut_number = inputs["cut"]["number"]
    lines: list[Line] = []
    for one in inputs["quantities"]:
        name = _name_of(one)
        stored, first_cut = billed[name]
        period = again(facts, stored)
        asked = PeriodInputs(period, one["unit"], _quantities_of(period, one["pieces"]))
        targets, _ = rate(asked, one["state_in"])
        if first_cut == cut_number and name not in known:
            lines += first_lines(targets, positions)
        else:
            lines += corrections(period, one["unit"], targets, positions, f"cut {cut_number}")
    invoice, credit_note = split_excess(lines)
    return {"invoice": invoice, "credit_note": credit_note}


def differences(lines: Sequence[Line], shown: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield where lines are not those of a document, by ordinal."""
    if len(lines) != len(shown):
        yield f"it has {len(shown)} lines, and {len(lines)} when rated again"
        return
    for line, row in zip(lines, shown, strict=True):
        for name, value in _shown(line).items():
            if row[name] != value:
                yield f"line {row['ordinal']}: {name} is {row[name]}, and {value} when rated again"


def _shown(line: Line) -> dict[str, Any]:
    target, key = line.target, line.target.key
    return {
        "kind": line.kind,
        "cause": line.cause,
        "subscription": key.subscription,
        "item": key.item,
        "charge": key.charge,
        "dimensions": dict(key.dimensions),
        "description": target.description,
        "product": target.product,
        "service_from": target.service_from.isoformat(),
        "service_until": target.service_until.isoformat(),
        "quantity": text_of(line.quantity),
        "unit": target.unit,
        "amount_minor": line.amount_minor,
        "price_book": target.price_book,
        "book_version": target.book_version,
        "trace": list(line.trace),
    }


def _name_of(one: Mapping[str, Any]) -> PeriodName:
    subscription, item, charge = one["charge"]
    return (subscription, item, charge), datetime.fromisoformat(one["period"][0])


def _with_stored(facts: Facts, inputs: Inputs) -> Facts:
    """Return facts in which what is stored with a document stands in for the same key."""
    customers, subscriptions = dict(facts.customers), dict(facts.subscriptions)
    books = dict(facts.price_books)
    for role, content in inputs.items():
        kind, _, key = role.partition(" ")
        if kind == "customer":
            customers[key] = Customer.model_validate(content)
        elif kind == "subscription":
            subscriptions[key] = Subscription.model_validate(content)
        elif role.startswith("price book "):
            key = role.removeprefix("price book ").rpartition(" version ")[0]
            stored = BookVersion.model_validate(content)
            versions = [
                stored if one.version == stored.version else one for one in books[key].versions
            ]
            books[key] = books[key].model_copy(update={"versions": tuple(versions)})
    return replace(facts, customers=customers, subscriptions=subscriptions, price_books=books)


def _quantities_of(
    period: ChargePeriod, pieces: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[Dimensions, Decimal], ...]:
    """Return the stored quantities of the pieces that a period is cut into."""
    were = [
        (*(datetime.fromisoformat(piece[name]) for name in ("from", "to")), piece["version"])
        for piece in pieces
    ]
    if were != [(piece.starts_at, piece.ends_at, piece.version) for piece in period.pieces]:
        key, on = " ".join(period.charge_key), period.period.starts_on
        raise CutOtherwiseError(f"{key} from {on} is cut otherwise by the stored terms")
    charge = period.pieces[0].charge
    return tuple(
        {_in_order(charge, values): Decimal(text) for values, text in piece["quantities"]}
        for piece in pieces
    )


def _in_order(charge: Charge, values: Mapping[str, str]) -> Dimensions:
    """Return values in the order in which the charge names them, what tells of no usage last."""
    order = {name: number for number, name in enumerate(charge.asked_dimensions)}
    return tuple(sorted(values.items(), key=lambda pair: (order.get(pair[0], len(order)), pair)))


def _positions_of(content: Sequence[Any]) -> dict[LineKey, Position]:
    """Return what had been issued before, as a document found it."""
    found: dict[LineKey, Position] = {}
    for (subscription, item, charge, values), instants, (quantity, amount_minor) in content:
        period_start, piece_start, piece_end = (datetime.fromisoformat(at) for at in instants)
        dimensions = tuple(sorted(values.items()))
        key = LineKey(subscription, item, charge, dimensions, piece_start, piece_end, period_start)
        found[key] = Position(Decimal(quantity), amount_minor)
    return found
