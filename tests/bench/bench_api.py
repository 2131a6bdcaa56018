"""How soon the API answers reads and makes writes, for a tenant with 100,000 customers.

Through the stack's own API process, over kept-alive connections on loopback: one caller after
another answer, four at once, and requests at a steady rate, each measured from when it fell due, so
that one that waits for its turn counts its waiting. Prints, asserts only that answers are right.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from psycopg.types.json import Jsonb

from billing.declaration import read_declarations
from billing.postgres_catalog import apply
from billing.price_book import content_hash
from billing.yaml_text import read_yaml
from tests.embedded_stack import EmbeddedStack
from tollbook.bench.figure import Figure, figures_table
from tollbook.bill_runs import bill_through
from tollbook.screen import show
from tollbook.stack_file import Stack

pytestmark = pytest.mark.timeout(600)

TENANT = "bench_api"
KEY = "tb_bench_api"
CUSTOMERS = 100_000
BILLED = 200
CALLS = 400
CALLERS = 4
RATE = 40
"""So many requests a second fall due, whether or not those before them have been answered."""
READ_MS_TARGET = 20
WRITE_MS_TARGET = 50

BOOK = """
price_books:
- {key: plan, versions: [{version: 1, currency: USD, charges: [
    {key: base, model: flat, amount: "100.00", every: 1 month, timing: advance},
    {key: care, model: flat, amount: "10.00", every: 1 month, timing: advance},
    {key: disk, model: flat, amount: "1.00", every: 1 month, timing: advance}]}]}
"""

Call = tuple[str, str, Any, dict[str, str]]


def fill(stack: Stack) -> None:
    """Make the tenant, its customers and invoices."""
    declared = "".join(
        f"- {{key: billed-{n}, name: Billed, currency: USD}}\n" for n in range(BILLED)
    )
    agreed = "".join(
        f"- {{key: s-{n}, customer: billed-{n}, start: 2026-01-01,"
        f" items: [{{key: main, price_book: plan}}]}}\n"
        for n in range(BILLED)
    )
    text = f"{BOOK}customers:\n{declared}subscriptions:\n{agreed}"
    with psycopg.connect(stack.postgres_dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO tenants (tenant, name) VALUES (%s, 'bench')", (TENANT,))
        digest = hashlib.sha256(KEY.encode()).digest()
        connection.execute(
            "INSERT INTO api_keys (key_hash, tenant, name, role) VALUES (%s, %s, 'b', 'owner')",
            (digest, TENANT),
        )
        apply(connection, TENANT, read_declarations([read_yaml(text, "b.yaml")]), datetime.now(UTC))
        content = {"key": "", "name": "Bench", "currency": "USD"}
        with (
            connection.cursor() as cursor,
            cursor.copy(
                "COPY customer_versions (tenant, customer, version, content, content_hash,"
                " known_revision) FROM STDIN"
            ) as copy,
        ):
            for n in range(CUSTOMERS):
                own = content | {"key": f"c-{n}"}
                copy.write_row((TENANT, own["key"], 1, Jsonb(own), content_hash(own), 1))
        connection.execute("ANALYZE")
    bill_through(replace(stack, tenant=TENANT), date(2026, 4, 1), lambda _done, _total: None)


def calls(number: str) -> dict[str, tuple[float, Callable[[int], Call]]]:
    """Return what is asked: a target in milliseconds, and the n-th call."""
    seed = random.Random(5)

    def read(path: Callable[[], str]) -> Callable[[int], Call]:
        return lambda _: ("GET", f"/v1/{path()}", None, {})

    def customer() -> str:
        return f"customers/c-{seed.randrange(CUSTOMERS)}"

    def create(n: int) -> Call:
        body = {"key": f"new-{time.time_ns()}-{n}", "name": "New", "currency": "USD",
                "subjects": [f"subject-{time.time_ns()}-{n}"]}  # fmt: skip
        return "POST", "/v1/customers", body, {"Idempotency-Key": f"{time.time_ns()}-{n}"}

    def change(n: int) -> Call:
        return "PATCH", f"/v1/{customer()}", {"name": f"N{n}"}, {"If-Match": "*"}

    return {
        "a customer": (READ_MS_TARGET, read(customer)),
        "100 customers": (
            READ_MS_TARGET,
            read(lambda: f"customers?currency=USD&subject=nobody{seed.randrange(9)}"),
        ),
        "an invoice with its lines": (READ_MS_TARGET, read(lambda: f"invoices/{number}")),
        "a customer's invoices": (
            READ_MS_TARGET,
            read(lambda: f"invoices?customer=billed-{seed.randrange(BILLED)}"),
        ),
        "100 invoices": (READ_MS_TARGET, read(lambda: "invoices?state=open")),
        "100 entries": (READ_MS_TARGET, read(lambda: "ledger/entries")),
        "the trial balance": (READ_MS_TARGET, read(lambda: "ledger/trial-balance")),
        "a customer is made, with a subject, by key": (WRITE_MS_TARGET, create),
        "a customer is changed": (WRITE_MS_TARGET, change),
    }


def milliseconds(
    stack: Stack, call: Callable[[int], Call], numbers: range, starts_at: float | None = None
) -> Iterator[float]:
    """Yield how long each call took, over one connection.

    From when it fell due at the steady rate, where the time is given at which the first one does.
    """
    host = urlsplit(stack.api_url)
    connection = HTTPConnection(host.hostname or "", host.port, timeout=30)
    for n in numbers:
        method, path, body, headers = call(n)
        content = None if body is None else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **headers}
        begun = time.perf_counter()
        if starts_at is not None:
            due = starts_at + n / RATE
            time.sleep(max(0.0, due - begun))
            begun = due
        connection.request(method, path, content, given)
        answer = connection.getresponse()
        text = answer.read()
        yield (time.perf_counter() - begun) * 1_000
        assert answer.status in (200, 201), text
    connection.close()


def test_reads_and_writes(stack: EmbeddedStack) -> None:
    known = stack.read()
    fill(known)
    headers = {"Authorization": f"Bearer {KEY}"}
    host = urlsplit(known.api_url)
    connection = HTTPConnection(host.hostname or "", host.port, timeout=30)
    connection.request("GET", "/v1/invoices?limit=1", headers=headers)
    number = json.loads(connection.getresponse().read())["items"][0]["number"]
    process = psutil.Process(known.pids["api"])
    figures = []
    ways: dict[str, Callable[[Callable[[int], Call]], list[float]]] = {
        "1 caller": lambda call: _timed(known, call, 1),
        f"{CALLERS} callers without a pause": lambda call: _timed(known, call, CALLERS),
        f"{RATE} requests/s, {CALLERS} callers": lambda call: _steady(known, call),
    }
    for way, timed in ways.items():
        for name, (target, call) in calls(number).items():
            list(milliseconds(known, call, range(20)))
            before = sum(process.cpu_times()[:2])
            took = timed(call)
            cpu = (sum(process.cpu_times()[:2]) - before) * 1_000 / len(took)
            where = f"{way}, {CUSTOMERS:,} customers, {cpu:.1f} CPU-ms in the API"
            figures.append(Figure(f"{name}, p50", took[len(took) // 2], "ms", where))
            figures.append(Figure(f"{name}, p99", took[len(took) * 99 // 100], "ms", where, target))
    show("", figures_table(figures))


def _timed(stack: Stack, call: Callable[[int], Call], callers: int) -> list[float]:
    """Return how long calls took that some callers make at once, the shortest first."""
    each = CALLS // callers
    parts = [range(first, first + each) for first in range(0, each * callers, each)]
    return _at_once(lambda numbers: list(milliseconds(stack, call, numbers)), parts)


def _steady(stack: Stack, call: Callable[[int], Call]) -> list[float]:
    """Return how long calls at the steady rate took, the shortest first."""
    starts_at = time.perf_counter() + 0.1
    parts = [range(first, CALLS, CALLERS) for first in range(CALLERS)]
    return _at_once(lambda numbers: list(milliseconds(stack, call, numbers, starts_at)), parts)


def _at_once(caller: Callable[[range], list[float]], parts: Sequence[range]) -> list[float]:
    with ThreadPoolExecutor(len(parts)) as pool:
        return sorted(ms for took in pool.map(caller, parts) for ms in took)
