"""What commands and the API do with cuts: fix one, find one, compare two."""

from datetime import datetime
from typing import Any

import psycopg

from pipelines.clickhouse_audit import ClickHouseAudit
from pipelines.cut import FixedCut
from pipelines.postgres_cuts import PostgresCuts
from pipelines.progress import instant_text
from tollbook.billing_wiring import open_database
from tollbook.stack_file import Stack
from tollbook.usage_wiring import open_chain, open_clickhouse, open_reader

_COPIES_MAX = 100


def fix_cut(stack: Stack, at: datetime) -> FixedCut:
    """Fix the next cut of a stack's tenant; see `Chain.fix_cut`."""
    with open_database(stack) as connection:
        clickhouse = open_clickhouse(stack.clickhouse_url)
        chain = open_chain(connection, clickhouse, stack.kafka_bootstrap)
        cut = chain.fix_cut(stack.tenant, at)
        found = find_cut(connection, stack.tenant, cut.number)
    assert found is not None  # noqa: S101 - it was fixed a moment ago, and cuts stay
    return found


def find_cut(connection: "psycopg.Connection[Any]", tenant: str, number: int) -> FixedCut | None:
    """Return a fixed cut, or None."""
    found = PostgresCuts(connection).listed(tenant, number - 1, 1)
    return next((each for each in found if each.cut.number == number), None)


def shown(stack: Stack, cut: FixedCut) -> dict[str, Any]:
    """Return a cut with what its audit voided, JSON-ready."""
    audit = ClickHouseAudit(open_clickhouse(stack.clickhouse_url))
    return cut.to_content() | {"audit": audit.found(stack.tenant, cut.cut.number, _COPIES_MAX)}


def changes(stack: Stack, since: int, until: int) -> dict[str, Any]:
    """Return what may differ between two cuts, JSON-ready.

    Raises:
        LookupError: there is no such cut.
        ValueError: the first is not the earlier one.
    """
    if since >= until:
        raise ValueError(f"cut {since} is not before cut {until}")
    reader = open_reader(
        kafka_bootstrap=stack.kafka_bootstrap,
        postgres_dsn=stack.postgres_dsn,
        clickhouse_url=stack.clickhouse_url,
    )
    found = reader.changed(reader.cut(stack.tenant, since), reader.cut(stack.tenant, until))
    return {
        "since": since,
        "cut": until,
        "changes": [
            {
                "meter": each.meter,
                "subject": each.subject,
                "from": instant_text(each.start),
                "to": instant_text(each.end),
            }
            for each in found
        ],
    }
