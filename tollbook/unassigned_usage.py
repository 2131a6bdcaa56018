"""Reads usage that no customer pays for from a stack."""

from datetime import UTC, datetime
from typing import Any

from billing.facts import LATEST
from billing.money import text_of
from billing.postgres_facts import load_facts
from billing.postgres_reports import meters
from billing.unassigned import unassigned
from tollbook.billing_wiring import open_database, open_usage
from tollbook.stack_file import Stack


def read_unassigned(stack: Stack, interval: tuple[datetime, datetime]) -> dict[str, Any]:
    """Return what nobody pays for as of the last cut, JSON-ready; one is fixed if there is none."""
    usage = open_usage(stack)
    cut = usage.latest_cut(stack.tenant) or usage.fix_cut(stack.tenant, datetime.now(UTC))
    with open_database(stack) as connection:
        facts = load_facts(connection, stack.tenant, LATEST)
        keys = meters(connection, stack.tenant, cut.facts_revision)
    rows = unassigned(usage, facts, cut, keys, interval)
    return {
        "cut": cut.number,
        "cut_at": cut.at.astimezone(UTC).isoformat(timespec="seconds"),
        "rows": [
            {
                "meter": row.meter,
                "subject": row.subject,
                "lacks": row.lacks,
                "quantity": text_of(row.quantity),
            }
            for row in rows
        ],
    }
