"""A small world to bill: declared in YAML, as a person would."""

from dataclasses import replace
from datetime import UTC, datetime

from billing.catalog import Known, check
from billing.declaration import Declarations, read_declarations
from billing.due import Scope
from billing.facts import Assignment, Facts
from billing.owners import transfers
from billing.run import Report, bill
from billing.yaml_text import read_yaml
from pipelines.usage import UsageReader
from tests.unit.billing.fake_store import FakeStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)

METERS = """
meters:
- {key: departures, event_type: flight, aggregation: count, dimensions: {origin: $.origin}}
- {key: seats, event_type: flight, aggregation: sum, value: $.seats, unit: seat}
- {key: aircraft, event_type: flight, aggregation: unique_count, value: $.tailnum}
- {key: delay, event_type: flight, aggregation: max, value: $.delay}
"""


def declare(*texts: str) -> Declarations:
    """Read files; the first is line-numbered `1.yaml`, and so on."""
    trees = [read_yaml(text, f"{number}.yaml") for number, text in enumerate(texts, 1)]
    return read_declarations(trees)


def faults_of(*texts: str, known: Known | None = None) -> list[str]:
    """Return every fault of some files, as `apply` shows them."""
    declared = declare(*texts)
    check(declared, known or Known(Facts(0)))
    return [str(fault) for fault in sorted(set(declared.faults))]


def facts_of(*texts: str, before: Facts | None = None) -> Facts:
    """Return the facts after files were applied; they must have no faults."""
    before = before or Facts(0)
    declared = declare(*texts)
    assert not declared.faults, [str(fault) for fault in declared.faults]
    owned: dict[str, list[Assignment]] = {k: list(v) for k, v in before.assignments.items()}
    moves = transfers(declared.customers.values(), before)
    for gone in moves.withdrawn:
        owned[gone.customer].remove(gone)
    for one in moves.added:
        owned.setdefault(one.customer, []).append(one)
    meters = [meter.definition for meter in declared.meters.values()]
    revision = before.revision + 1
    published = {
        (book.key, version.version): revision
        for book in declared.price_books.values()
        for version in book.versions
    }
    agreed = {
        key: (before.agreed.get(key, (0, 0))[0] + 1, revision)
        for key, terms in declared.subscriptions.items()
        if before.subscriptions.get(key) != terms
    }
    return replace(
        before,
        revision=revision,
        published={**published, **before.published},
        agreed={**before.agreed, **agreed},
        price_books={**before.price_books, **declared.price_books},
        customers={**before.customers, **declared.customers},
        subscriptions={**before.subscriptions, **declared.subscriptions},
        assignments=owned,
        additive_meters=before.additive_meters | {m.key for m in meters if m.is_additive},
        units={**before.units, **{meter.key: meter.unit for meter in meters}},
    )


def run(store: FakeStore, usage: UsageReader, scope: Scope) -> Report:
    """Run a bill run to its end."""
    report = Report()
    bill(store, usage, scope, NOW, lambda _done, _total: None, report)
    return report
