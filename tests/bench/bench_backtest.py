"""How long a backtest of a month of 100,000 customers with five charges each takes.

Events go through the whole system; what was billed is written as bill runs write it. All prices
differ in the draft, so that everything is rated twice. Prints, asserts only that answers are right.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg.types.json import Jsonb

from billing.declaration import read_declarations
from billing.period import add_months, whole_month
from billing.postgres_catalog import apply
from billing.price_book import content_hash
from billing.yaml_text import read_yaml
from tests.embedded_stack import EmbeddedStack
from tollbook.bench.figure import Figure, figures_table
from tollbook.bench.load import Shape, produce, records
from tollbook.bench.metering import partitions_of
from tollbook.billing_wiring import activate_meters, open_usage
from tollbook.screen import show
from tollbook.stack_file import Stack

pytestmark = pytest.mark.timeout(1_800)

CUSTOMERS = 100_000
EVENTS = 4 * CUSTOMERS
SECONDS_TARGET = 60
START = whole_month((datetime.now(UTC) - timedelta(hours=3)).date())
END = add_months(START, 1)

_TYPE = "event_type: bench.backtest, dimensions: {model: $.model}"
_TIERS = "tiers: [{up_to: '1000', unit_price: '0.5'}, {up_to: null, unit_price: '0.4'}]"
FACTS = f"""
meters:
- {{key: bt_calls, aggregation: count, {_TYPE}}}
- {{key: bt_tokens, aggregation: sum, value: $.tokens, {_TYPE}}}
- {{key: bt_large, aggregation: count, filter: 'data.model == "large"', {_TYPE}}}
- {{key: bt_eu, aggregation: sum, value: $.tokens, filter: 'data.region == "eu"', {_TYPE}}}
price_books:
- key: plan
  versions:
  - {{version: 1, currency: USD, charges: [
     {{key: fee, model: flat, amount: '49.90', timing: advance}},
     {{key: tokens, model: graduated, meter: bt_tokens, {_TIERS}}},
     {{key: eu, model: volume, meter: bt_eu, {_TIERS}}},
     {{key: calls, model: per_unit, meter: bt_calls, unit_price: '0.01', minimum: '1'}},
     {{key: large, model: package, meter: bt_large, package_size: '2', package_price: '1.25'}}]}}
"""
DRAFT = FACTS.replace("'0.4'", "'0.41'").replace("49.90", "51").replace("1.25", "1.20")
DRAFT = DRAFT.replace("'0.01'", "'0.011'")
CHARGES = ("fee", "tokens", "eu", "calls", "large")


def fill(stack: Stack, connection: "psycopg.Connection[Any]") -> None:
    """Make the tenant, its customers and subscriptions, and count events of each."""
    tenant = stack.tenant
    apply(connection, tenant, read_declarations([read_yaml(FACTS, "b.yaml")]), datetime.now(UTC))
    activate_meters(stack)
    names = [f"customer-{n}" for n in range(CUSTOMERS)]
    with connection.cursor() as cursor:
        head = "(tenant, {0}, version, content, content_hash, known_revision"
        with cursor.copy(_copy("customer_versions", head.format("customer") + ")")) as copy:
            for name in names:
                own = {"key": name, "name": "Bench", "currency": "USD"}
                copy.write_row((tenant, name, 1, Jsonb(own), content_hash(own), 1))
        columns = head.format("subscription") + ", customer)"
        items = [{"key": "main", "price_book": "plan"}]
        with cursor.copy(_copy("subscription_versions", columns)) as copy:
            for name in names:
                terms = {"key": name, "customer": name, "start": str(START), "items": items}
                copy.write_row((tenant, name, 1, Jsonb(terms), content_hash(terms), 1, name))
        columns = "(tenant, subject, customer, during, known_revision)"
        with cursor.copy(_copy("subject_assignments", columns)) as copy:
            for name in names:
                copy.write_row((tenant, name, name, "(,)", 1))
    shape = Shape(EVENTS, CUSTOMERS, name="bench.backtest")
    produce(stack, list(records(shape, tenant, "bench.backtest", partitions_of(stack))))
    cut = open_usage(stack).fix_cut(tenant, datetime.now(UTC))
    row = connection.execute(
        "INSERT INTO bill_runs (tenant, kind, through, cut_number) VALUES (%s, 'bill', %s, %s)"
        " RETURNING run_id",
        (tenant, str(END), cut.number),
    ).fetchone()
    assert row is not None
    with connection.cursor() as cursor, cursor.copy(_copy("billed_periods", "")) as copy:
        for billed in _billed(tenant, names, row[0]):
            copy.write_row(billed)
    connection.execute("ANALYZE")


def _copy(table: str, columns: str) -> Any:
    return f"COPY {table} {columns} FROM STDIN"


def _billed(tenant: str, names: list[str], run_id: int) -> Iterator[tuple[Any, ...]]:
    starts_at, ends_at = (datetime(on.year, on.month, 1, tzinfo=UTC) for on in (START, END))
    piece = {"starts_at": starts_at.isoformat(), "ends_at": ends_at.isoformat(),
             "starts_on": str(START), "ends_on": str(END), "version": 1}  # fmt: skip
    for name in names:
        for charge in CHARGES:
            yield (tenant, name, "main", charge, starts_at, ends_at, START, END, "plan",
                   Jsonb([piece]), run_id)  # fmt: skip


def test_a_month_of_many_customers(stack: EmbeddedStack, tmp_path: Path) -> None:
    known = stack.read()
    with psycopg.connect(known.postgres_dsn, autocommit=True) as connection:
        fill(known, connection)
    draft = tmp_path / "draft.yaml"
    draft.write_text(DRAFT)
    before, own, began = _cpu(known), _cpu_of_children(), time.perf_counter()
    command = [sys.executable, "-P", "-m", "tollbook.cli", "price-book", "backtest", str(draft)]
    words = ["--from", str(START), "--to", str(END), "--json", "--data-dir", str(stack.data_dir)]
    # A child of this process, whose processor time counts as that of its children.
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    seconds, own = time.perf_counter() - began, _cpu_of_children() - own
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["customers"]) == CUSTOMERS
    assert found["periods"] == len(CHARGES) * CUSTOMERS
    by_charge = {one["charge"]: one for one in found["charges"]}
    assert by_charge["fee"]["difference_minor"] == 110 * CUSTOMERS
    assert by_charge["calls"]["before_minor"] == 100 * CUSTOMERS
    servers = _cpu(known) - before
    what = f"backtest of {CUSTOMERS:,} customers, {found['periods']:,} periods rated twice"
    where = f"{own:.1f} CPU-s of the command, {servers:.1f} of servers; {EVENTS:,} events"
    show("", figures_table([Figure(what, seconds, "s", where, SECONDS_TARGET)]))


def _cpu_of_children() -> float:
    """Return the CPU-seconds of commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu(stack: Stack) -> float:
    """Return the CPU-seconds of the servers so far."""
    return sum(
        sum(psutil.Process(stack.pids[name]).cpu_times()[:2]) for name in ("clickhouse", "postgres")
    )
