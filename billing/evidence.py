"""The inputs of a document, by role: all that rating it again, as of its cut, needs."""

from collections.abc import Mapping, Sequence
from typing import Any

from billing.facts import Facts
from billing.money import text_of
from billing.price_book import to_content
from billing.rating import RATING_VERSION, LineKey, PeriodInputs, State
from billing.settlement import Position
from pipelines.usage import Cut, Span

RatedInputs = tuple[PeriodInputs, State]


def evidence_of(
    rated: Sequence[RatedInputs], facts: Facts, owners: Mapping[str, Sequence[Span]], cut: Cut
) -> dict[str, Any]:
    """Return the cut, the facts, owners, quantities and states that some periods were rated by."""
    evidence: dict[str, Any] = {
        "cut": {
            "number": cut.number,
            "at": cut.at.isoformat(),
            "facts_revision": cut.facts_revision,
            "rating_version": RATING_VERSION,
        },
        "quantities": [_quantities_of(inputs, state_in) for inputs, state_in in rated],
    }
    for inputs, _ in rated:
        billed = inputs.billed
        evidence[f"customer {billed.customer}"] = customer_content(facts, billed.customer)
        subscription = facts.subscriptions[billed.subscription]
        evidence[f"subscription {billed.subscription}"] = to_content(subscription)
        used = {piece.version for piece in billed.pieces}
        for version in facts.price_books[billed.price_book].versions:
            if version.version in used:
                role = f"price book {billed.price_book} version {version.version}"
                evidence[role] = to_content(version)
    for key, spans in owners.items():
        evidence[f"owner {key}"] = [
            [span.subject, *(at.isoformat() if at else None for at in (span.start, span.end))]
            for span in spans
        ]
    return evidence


def customer_content(facts: Facts, key: str) -> dict[str, Any]:
    """Return a customer without its subjects, whose facts are assignments."""
    content = to_content(facts.customers[key])
    content.pop("subjects", None)
    return content


def positions_content(positions: Mapping[LineKey, Position]) -> list[Any]:
    """Return what had been issued before, as the document found it."""
    return [
        [
            [key.subscription, key.item, key.charge, dict(key.dimensions)],
            [key.period_start.isoformat(), key.piece_start.isoformat(), key.piece_end.isoformat()],
            [text_of(position.quantity), position.amount_minor],
        ]
        for key, position in sorted(positions.items(), key=lambda pair: repr(pair[0]))
    ]


def _quantities_of(inputs: PeriodInputs, state_in: State) -> dict[str, Any]:
    billed = inputs.billed
    return {
        "charge": list(billed.charge_key),
        "period": [billed.period.starts_at.isoformat(), billed.period.ends_at.isoformat()],
        "unit": inputs.unit,
        "state_in": dict(state_in),
        "pieces": [
            {
                "from": piece.starts_at.isoformat(),
                "to": piece.ends_at.isoformat(),
                "version": piece.version,
                "quantities": [
                    [dict(dimensions), text_of(quantity)]
                    for dimensions, quantity in sorted(found.items())
                ],
            }
            for piece, found in zip(billed.pieces, inputs.quantities, strict=True)
        ],
    }
