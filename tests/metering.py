"""What tests of metering share: meters made, usage read back, and compared with the truth."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from pipelines.reader import Reader
from pipelines.usage import Cut, Span
from tests.feed import Truth
from tollbook.stack_file import Stack
from tollbook.usage_wiring import open_clickhouse, open_reader

WIDE = timedelta(days=1)


def reader_of(stack: Stack) -> Reader:
    """Return a reader of a stack's usage."""
    return open_reader(
        kafka_bootstrap=stack.kafka_bootstrap,
        postgres_dsn=stack.postgres_dsn,
        clickhouse_url=stack.clickhouse_url,
    )


def create_meters(stack: Stack, definitions: Iterable[Mapping[str, Any]]) -> None:
    """Store meters and wait until every partition counts them."""
    with psycopg.connect(stack.postgres_dsn) as connection:
        for definition in definitions:
            connection.execute(
                "INSERT INTO meters (tenant, key, version, definition) VALUES (%s, %s, 1, %s)",
                (stack.tenant, definition["key"], json.dumps(definition)),
            )
    reader_of(stack).activate_meters(stack.tenant)


def cut_now(stack: Stack) -> Cut:
    """Fix a cut behind everything that was accepted before this call."""
    return reader_of(stack).fix_cut(stack.tenant, datetime.now(UTC))


def quantities(stack: Stack, cut: Cut, key: str, truth: Truth) -> dict[str, Decimal]:
    """Return a meter's quantity per subject of the truth."""
    subjects = sorted({str(event["subject"]) for event in truth.events})
    found = reader_of(stack).quantities(
        cut, key, [Span(subject, subject) for subject in subjects], truth.start, truth.end
    )
    return {quantity.owner: quantity.value for quantity in found}


def check_totals(stack: Stack, truth: Truth) -> None:
    """Compare every meter and subject, and the stored events, with what was sent."""
    cut = cut_now(stack)
    expected = truth.expected()
    for definition in truth.definitions():
        name = definition["key"].rsplit("_", 1)[1]
        assert quantities(stack, cut, definition["key"], truth) == expected[name], name
    stored = (
        open_clickhouse(stack.clickhouse_url)
        .query(
            "SELECT count(), uniqExact(id) FROM events WHERE type = {type:String}",
            parameters={"type": truth.event_type},
        )
        .result_rows[0]
    )
    assert stored == (len(truth.events), len(truth.events))
