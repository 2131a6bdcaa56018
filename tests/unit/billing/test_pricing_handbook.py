"""The handbook of charges: its book has no faults, and each of its prices is what it says."""

import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from billing.charge_models import MODELS
from billing.customer import Item
from billing.money import display
from billing.override import override_faults
from billing.quotation import quote
from billing.yaml_text import read_yaml
from tests.unit.billing.world import declare

TEXT = (Path(__file__).parents[3] / "docs" / "pricing.md").read_text()
YAML, AGREED = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
ROWS = re.findall(r"^\| (\w+) \| ([0-9.]+) \| (.*?) ?\| ([0-9.]+) \|$", TEXT, re.MULTILINE)
BOOK = declare(YAML).price_books["everything"]


def test_the_book_has_a_charge_of_every_model_and_each_is_priced_once_at_least() -> None:
    charges = BOOK.versions[0].charges
    assert {charge.model for charge in charges} == set(MODELS)
    assert {row[0] for row in ROWS} == {charge.key for charge in charges}


def test_what_is_agreed_with_one_customer_fits_the_book() -> None:
    [content] = read_yaml(AGREED, "docs").value["items"]
    item = Item.model_validate(content)
    assert {one.charge for one in item.overrides} == {"departures", "api"}
    assert list(override_faults(item.overrides, BOOK.versions, "USD")) == []


@pytest.mark.parametrize(("key", "quantity", "given", "amount"), ROWS)
def test_a_quantity_costs_what_the_handbook_says(
    key: str, quantity: str, given: str, amount: str
) -> None:
    version = BOOK.versions[0]
    charge = version.charge(key)
    assert charge is not None
    values = dict(pair.split("=") for pair in given.split(", ") if pair)
    on = date(2013, 1, 1)
    target = quote(BOOK, version, charge, Decimal(quantity), "USD", on, values)
    assert display(target.amount_minor, "USD").replace(",", "") == amount
