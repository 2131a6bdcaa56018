"""Charges written as in a price book."""

from billing.charge import Charge
from tests.unit.billing.world import declare


def charge_of(fields: str, key: str = "a") -> Charge:
    """Return a charge with these fields; it must have no faults."""
    version = f"{{version: 1, currency: USD, charges: [{{key: {key}, {fields}}}]}}"
    text = f"price_books: [{{key: b, versions: [{version}]}}]"
    declared = declare(text)
    assert not declared.faults, [str(fault) for fault in declared.faults]
    return declared.price_books["b"].versions[0].charges[0]
