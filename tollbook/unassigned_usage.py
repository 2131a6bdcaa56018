"""Reads usage that no customer pays for from a stack."""

from datetime import UTC, datetime

from billing.money import text_of
from billing.postgres_facts import load_facts
from billing.postgres_reports import meters
from billing.unassigned import unassigned
from tollbook.billing_wiring import open_database, open_usage
from tollbook.stack_file import Stack

_LATEST = 2**62


def read_unassigned(
    stack: Stack, interval: tuple[datetime, datetime]
) -> tuple[int, list[dict[str, str]]]:
    """Return the last cut's number (one is fixed where there is none) and what has no owner."""
    usage = open_usage(stack)
    cut = usage.latest_cut(stack.tenant) or usage.fix_cut(stack.tenant, datetime.now(UTC))
    with open_database(stack) as connection:
        facts = load_facts(connection, stack.tenant, _LATEST)
        keys = [meter["key"] for meter in meters(connection, stack.tenant)]
    rows = unassigned(usage, facts, cut, keys, interval)
    return cut.number, [
        {"meter": row.meter, "subject": row.subject, "quantity": text_of(row.quantity)}
        for row in rows
    ]
