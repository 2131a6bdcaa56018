"""A document can be rated again from what is stored with it, and nothing else gives its lines."""

import json
from datetime import date
from typing import Any

import pytest

from billing.document import Document
from billing.due import Scope
from billing.rerating import (
    CutOtherwiseError,
    differences,
    lines_again,
    period_names,
    was_rated_alike,
)
from billing.settlement import Line
from tests.unit.billing.fake_store import FakeStore
from tests.unit.billing.fake_usage import FakeUsage
from tests.unit.billing.test_changes import TABLE, bill, change, world
from tests.unit.billing.test_run import flight
from tests.unit.billing.world import METERS, declare, facts_of, run

MIXED = """
price_books:
- key: mixed
  versions:
  - {version: 1, currency: USD, charges: [
     {key: least, model: commitment, commitment: "9000", timing: arrears},
     {key: dep, model: graduated, meter: departures, group_by: [tailnum, origin],
      tiers: [{up_to: "1", unit_price: "12.00"}, {up_to: null, unit_price: "9.50"}]},
     {key: kwh, model: time_of_day, meter: seats, group_by: [origin], default: "1", rates: [
       {name: night, from: "22:00", to: "06:00", unit_price: "0.50"}]},
     {key: each, model: percentage, meter: seats, percent: "10", fixed_fee: "0.30", per: event},
     {key: sum, model: formula, meters: {x: seats, y: departures}, formula: x + y,
      unit_price: "0.10", included: "5", rollover: true}]}
  - {version: 2, effective_from: 2013-01-16, currency: USD, charges: [
     {key: dep, model: graduated, meter: departures, group_by: [tailnum, origin],
      tiers: [{up_to: "1", unit_price: "13.00"}, {up_to: null, unit_price: "8.50"}]}]}
customers: [{key: C, name: C, currency: USD, time_zone: America/New_York, subjects: [s]}]
subscriptions: [{key: S, customer: C, start: 2013-01-01, items: [{key: i, price_book: mixed}]}]
"""


def rated_again(store: FakeStore, document: Document, inputs: Any = None) -> list[Line]:
    """Return a document's lines from its stored inputs, or others."""
    inputs = inputs or json.loads(store.inputs[document.invoice_id])
    assert was_rated_alike(inputs)
    billed = {
        (one.key, one.starts_at): (one, store.first_cuts[one.key, one.starts_at])
        for known in store.periods.values()
        for one in known
    }
    facts = store.facts(inputs["cut"]["facts_revision"])
    return lines_again(inputs, facts, billed)[document.document_type]


@pytest.mark.parametrize(("was", "now"), [(one[0], one[2]) for one in TABLE.values()], ids=TABLE)
def test_what_a_change_credits_and_charges_is_so_again(was: str, now: str) -> None:
    store, usage = world(was)
    bill(store, usage, "2013-04-01")
    change(store, now)
    bill(store, usage, "2013-05-01")
    for document in store.documents:
        assert rated_again(store, document) == list(document.lines)


def mixed() -> FakeStore:
    """Return a store with two months of several models, and late events on the second."""
    meters = METERS.replace("$.origin}}", "$.origin, tailnum: $.tailnum}}").replace(
        "value: $.seats, unit", "value: $.seats, dimensions: {origin: $.origin}, unit"
    )
    store = FakeStore([facts_of(meters, MIXED)])
    definitions = {key: meter.definition for key, meter in declare(meters).meters.items()}
    usage = FakeUsage(definitions, revision=lambda: store.history[-1].revision)
    usage.add(*(flight(1, day, "s") for day in (3, 4, 20, 21)))
    run(store, usage, Scope("bill", date(2013, 2, 1)))
    usage.add(*(flight(month, 5, "s") for month in (1, 1, 2)))
    run(store, usage, Scope("bill", date(2013, 3, 1)))
    return store


def test_every_model_and_its_corrections_are_so_again() -> None:
    store = mixed()
    first, second = store.documents
    assert {line.target.key.charge for line in second.lines if line.kind == "correction"} == {
        "dep", "each", "kwh", "least", "sum",
    }  # fmt: skip
    for document in (first, second):
        assert rated_again(store, document) == list(document.lines)


def shown(document: Document) -> list[dict[str, Any]]:
    """Return lines as they are read back: names and values as the API shows them."""
    return [
        {
            "ordinal": ordinal,
            "kind": line.kind,
            "cause": line.cause,
            "subscription": line.target.key.subscription,
            "item": line.target.key.item,
            "charge": line.target.key.charge,
            "dimensions": dict(line.target.key.dimensions),
            "description": line.target.description,
            "product": line.target.product,
            "service_from": str(line.target.service_from),
            "service_until": str(line.target.service_until),
            "quantity": f"{line.quantity.normalize():f}",
            "unit": line.target.unit,
            "amount_minor": line.amount_minor,
            "price_book": line.target.price_book,
            "book_version": line.target.book_version,
            "trace": [dict(step) for step in line.trace],
        }
        for ordinal, line in enumerate(document.lines, 1)
    ]


def test_a_line_that_is_not_what_its_inputs_give_is_named() -> None:
    store = mixed()
    document = store.documents[0]
    rows = shown(document)
    lines = rated_again(store, document)
    assert list(differences(lines, rows)) == []
    rows[1]["amount_minor"] += 1
    was = document.lines[1].amount_minor
    assert list(differences(lines, rows)) == [
        f"line 2: amount_minor is {was + 1}, and {was} when rated again"
    ]
    assert list(differences(lines, rows[1:])) == [
        f"it has {len(rows) - 1} lines, and {len(rows)} when rated again"
    ]


def test_other_inputs_give_other_lines_or_none() -> None:
    store = mixed()
    document = store.documents[0]
    inputs = json.loads(store.inputs[document.invoice_id])
    [dep] = [one for one in inputs["quantities"] if one["charge"][2] == "dep"]
    dep["pieces"][0]["quantities"][0][1] = "7"
    assert rated_again(store, document, inputs) != list(document.lines)
    inputs = json.loads(store.inputs[document.invoice_id])
    role = "price book mixed version 1"
    inputs[role]["charges"][1]["tiers"][0]["unit_price"] = "12.01"
    assert rated_again(store, document, inputs) != list(document.lines)
    inputs = json.loads(store.inputs[document.invoice_id])
    inputs["subscription S"]["pauses"] = [{"from": "2013-01-02", "to": "2013-01-31"}]
    dep = next(one for one in inputs["quantities"] if one["charge"][2] == "dep")
    dep["pieces"][0]["to"] = dep["period"][1]
    with pytest.raises(CutOtherwiseError, match="S i dep from 2013-01-01 is cut otherwise"):
        rated_again(store, document, inputs)
    inputs["cut"]["rating_version"] = "0"
    assert not was_rated_alike(inputs)
    assert len(period_names(inputs)) == len(inputs["quantities"])
