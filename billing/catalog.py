"""Checks declarations against each other and against what is known, before any is applied.

Each fault names the place of the thing that causes it; all of them are found in one pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from billing.agreement import check_subscriptions
from billing.charge import Charge
from billing.declaration import Declarations
from billing.facts import Facts
from billing.meter_change import KnownMeter
from billing.owners import check_owners
from billing.price_book import PriceBook, to_content
from pipelines.meter import MeterDefinition

_ENTITY = "main"
"""The one legal entity there is: others cannot be declared yet."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the database holds when declarations arrive."""

    facts: Facts
    meters: Mapping[str, KnownMeter] = field(default_factory=dict)
    billed_until: Mapping[str, datetime] = field(default_factory=dict)
    """Until when each subscription has been billed."""


def check(declared: Declarations, known: Known) -> None:
    """Note every fault in `declared`."""
    meters = {key: meter.definition for key, meter in known.meters.items()}
    meters |= {key: meter.definition for key, meter in declared.meters.items()}
    _check_meters(declared, known)
    books = dict(known.facts.price_books)
    for key, book in declared.price_books.items():
        merged = _merged(declared, books.get(key), book)
        if merged is not None:
            _check_charges(declared, merged, meters)
            kept = tuple(version for version in merged.versions if not version.is_draft)
            if kept:
                books[key] = merged.model_copy(update={"versions": kept})
    _check_other_books(declared, known, meters)
    after = Facts(
        revision=known.facts.revision,
        price_books=books,
        customers={**known.facts.customers, **declared.customers},
        subscriptions={**known.facts.subscriptions, **declared.subscriptions},
        assignments=known.facts.assignments,
    )
    _check_customers(declared, known)
    check_owners(declared, known.facts)
    check_subscriptions(declared, known.facts, known.billed_until, after)
    for key, wallet in declared.wallets.items():
        if wallet.customer not in after.customers:
            message = f"wallet {key}: there is no customer {wallet.customer}"
            declared.fault("wallets", key, message)


def _check_meters(declared: Declarations, known: Known) -> None:
    for key, meter in declared.meters.items():
        before = known.meters.get(key)
        if before is not None and before.definition.rule != meter.definition.rule:
            message = (
                f"meter {key} aggregates by {before.definition.rule}, and that stays:"
                f" give the {meter.definition.rule} a key of its own"
            )
            declared.fault("meters", key, message)


def _check_other_books(
    declared: Declarations, known: Known, meters: Mapping[str, MeterDefinition]
) -> None:
    """See that a changed meter still has what charges of known price books ask of it."""
    faults: dict[tuple[str, str], None] = {}
    for key, book in known.facts.price_books.items():
        if key in declared.price_books:
            continue
        for charge in (charge for version in book.versions for charge in version.charges):
            for meter in set(charge.all_meters) & set(declared.meters):
                for fault in _charge_faults(charge, meters):
                    faults[meter, f"price book {key}: {fault}"] = None
    for meter, message in faults:
        declared.fault("meters", meter, message)


def _merged(declared: Declarations, before: PriceBook | None, book: PriceBook) -> PriceBook | None:
    """Return a book with its published versions, which nothing changes."""
    versions = {version.version: version for version in before.versions} if before else {}
    for version in book.versions:
        published = versions.setdefault(version.version, version)
        if to_content(published) != to_content(version):
            declared.fault(
                "price_books",
                book.key,
                f"price book {book.key}: version {version.version} is published and does not"
                f" change; declare the new prices as version {max(versions) + 1}",
            )
            return None
    merged = book.model_copy(update={"versions": tuple(versions[n] for n in sorted(versions))})
    try:
        merged.check()
    except ValueError as error:
        declared.fault("price_books", book.key, str(error))
        return None
    return merged


def _check_charges(
    declared: Declarations, book: PriceBook, meters: Mapping[str, MeterDefinition]
) -> None:
    faults: dict[str, None] = {}
    for version in book.versions:
        for charge in version.charges:
            faults.update(dict.fromkeys(_charge_faults(charge, meters)))
            own = [price for price in charge.all_prices() if not isinstance(price, dict)]
            in_maps = [price for price in charge.all_prices() if isinstance(price, dict)]
            if in_maps and any(price != 0 for price in own):
                faults[f"charge {charge.key}: give all its prices by currency, or none"] = None
    for message in faults:
        declared.fault("price_books", book.key, f"price book {book.key}: {message}")


def _charge_faults(charge: Charge, meters: Mapping[str, MeterDefinition]) -> list[str]:
    faults = []
    for key in charge.all_meters:
        meter = meters.get(key)
        if meter is None:
            faults.append(f"charge {charge.key}: there is no meter {key}")
            continue
        faults += [
            f"charge {charge.key}: meter {key} has no dimension {name}"
            for name in charge.asked_dimensions
            if name not in meter.dimensions
        ]
        if charge.on_change == "continue" and not meter.is_additive:
            faults.append(
                f"charge {charge.key}: on_change continue needs a meter whose parts add up, and"
                f" {key} aggregates by {meter.aggregation}"
            )
        if (charge.per or charge.rates) and not meter.is_additive:
            what = "per: event" if charge.per else f"model {charge.model}"
            faults.append(
                f"charge {charge.key}: {what} needs a meter that counts or sums, and {key}"
                f" aggregates by {meter.aggregation}"
            )
    return faults


def _check_customers(declared: Declarations, known: Known) -> None:
    billed = {
        known.facts.subscriptions[key].customer
        for key in known.billed_until
        if key in known.facts.subscriptions
    }
    for key, customer in declared.customers.items():
        before = known.facts.customers.get(key)
        entity = customer.legal_entity
        if entity != _ENTITY and (before is None or before.legal_entity != entity):
            message = f"customer {key}: there is no legal entity {entity}; only {_ENTITY} so far"
            declared.fault("customers", key, message)
        if before is not None and key in billed:
            for name in ("currency", "time_zone", "legal_entity"):
                if getattr(before, name) != getattr(customer, name):
                    message = f"customer {key} has been billed: changing its {name} is not"
                    declared.fault("customers", key, f"{message} supported yet")
