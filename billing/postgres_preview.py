"""What a change would bill: it is made and billed for real, in a transaction that is taken back.

So a preview is what the same change and the same bill run issue, by the same code; numbers of
documents are left out, since others may take them first.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

from billing.customer import Moment
from billing.document import Document
from billing.due import Scope
from billing.facts import LATEST
from billing.money import display, text_of, to_major
from billing.period import instant
from billing.postgres_clock import read_clock
from billing.postgres_runs import PostgresRuns
from billing.postgres_subscriptions import find_subscription
from billing.postgres_verbs import Writer
from billing.run import clocked, prepare
from billing.settlement import Line
from billing.verbs import VerbError
from pipelines.usage import UsageReader


def preview(
    writer: Writer,
    usage: UsageReader,
    key: str,
    verb: Callable[[Writer], dict[str, Any]],
    through: Moment | None = None,
) -> dict[str, Any]:
    """Return a subscription after a change, and what its customer is billed then, JSON-ready.

    Billed is what falls due through a moment, or else through now; one in the future is looked at
    as if it had come.

    Raises:
        LookupError: there is no such subscription.
        VerbError: it cannot be done.
    """
    connection, tenant = writer.connection, writer.tenant
    found = find_subscription(connection, tenant, key)
    if found is None:
        raise LookupError(f"there is no subscription {key}")
    runs = PostgresRuns(connection, tenant, found["customer"])
    with runs.hold():
        if runs.unfinished() is not None:
            raise VerbError("a bill run is not finished: run `tollbook bill` again first")
        cut = usage.fix_cut(tenant, writer.world)
        with connection.transaction(force_rollback=True):
            after = verb(writer)
            facts = runs.facts(LATEST)
            now = read_clock(connection, tenant, writer.world).at
            scope = Scope("bill", now if through is None else through)
            zone = facts.customers[found["customer"]].zone
            if instant(scope.through, zone) <= now:
                scope = clocked(runs, scope, now)
            run = runs.begin(scope, cut)
            documents = [
                document
                for draft in prepare(runs, usage, facts, scope, cut)
                for document in runs.issue(run, cut, draft)
            ]
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return {
        "subscription": after,
        "through": scope.through.isoformat(),
        "documents": [_shown(document) for document in documents],
    }


def _shown(document: Document) -> dict[str, Any]:
    return {
        "document_type": document.document_type,
        "customer": document.customer,
        "currency": document.currency,
        "bill_on": document.bill_on.isoformat(),
        "total_minor": document.total_minor,
        "total": display(document.total_minor, document.currency),
        "lines": [_line(line) for line in document.lines],
    }


def _line(line: Line) -> dict[str, Any]:
    target = line.target
    days: dict[str, date] = {"from": target.service_from, "until": target.service_until}
    return {
        "subscription": target.key.subscription,
        "item": target.key.item,
        "charge": target.key.charge,
        "kind": line.kind,
        "description": target.description,
        **{f"service_{name}": day.isoformat() for name, day in days.items()},
        "quantity": text_of(line.quantity),
        "unit": target.unit,
        "amount_minor": line.amount_minor,
        "amount": str(to_major(line.amount_minor, target.currency)),
        "trace": list(line.trace),
    }
