"""The handbook's calls answer as it says; whatever else is sent is told what is wrong with it."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from tests.e2e.api_world import billed_world, get
from tests.embedded_stack import EmbeddedStack
from tollbook import customer_commands, invoice_commands
from tollbook.cli import build
from tollbook.stack_file import Stack

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
CALLS = re.findall(r"```sh\n(.*?)```\n+```json\n(.*?)```", TEXT, re.DOTALL)
OWNER = {"Authorization": "Bearer tb_owner"}
NAME = "api_handbook"


@pytest.fixture(scope="module")
def client(stack: EmbeddedStack) -> Iterator[TestClient]:
    with billed_world(stack, NAME) as client:
        yield client


def curl(client: TestClient, words: list[str]) -> Any:
    """Make the call of a command line and return the JSON it answers."""
    method, headers, body, address = "GET", {}, None, ""
    rest = iter(words[1:])
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(rest)
        else:
            address = word
    return client.request(method, address, headers=headers, content=body).json()


def is_part(wanted: Any, found: Any) -> bool:
    """Return whether what is wanted is there, beside what else there may be."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and is_part(value, found[name]) for name, value in wanted.items()
        )
    if isinstance(wanted, list) and wanted:
        return isinstance(found, list) and all(
            is_part(one, other) for one, other in zip(wanted, found, strict=False)
        ) and len(found) >= len(wanted)  # fmt: skip
    return bool(wanted == found)


def test_each_call_answers_as_the_handbook_shows(client: TestClient) -> None:
    assert len(CALLS) == TEXT.count("```sh")
    for command, shown in CALLS:
        line = command.replace("$API", "").replace("$KEY", "tb_owner")
        found = curl(client, shlex.split(line.replace("\\\n", " ")))
        assert is_part(json.loads(shown), found), (command, found)


HUGE = "9" * 400
DEEP = "[" * 100_000 + "]" * 100_000
DEEP_OBJECT = '{"items":' * 20_000 + "1" + "}" * 20_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "text": b'"text"',
    "a number": HUGE.encode(),
    "cut short": b'{"key": ',
    "deep": DEEP.encode(),
    "deep objects": DEEP_OBJECT.encode(),
    "not UTF-8": b'{"key": "\xff\xfe"}',
    "UTF-16": '{"key": "a"}'.encode("utf-16"),
    "a lone surrogate": b'{"key": "\\ud800", "name": "\\udfff"}',
    "NaN": b'{"key": NaN, "quantity": Infinity}',
    "10 MB": b'{"key": "' + b"x" * 10_000_000 + b'"}',
}
WRITES = ("post", "put", "patch", "delete")
BILLING = re.compile(
    "/v1/(customers|price-books|subscriptions|clock|bill-runs|ledger|wallets|invoices)"
)
LARGE = ("10 MB", "deep", "deep objects")
RUNS = ("/v1/bill-runs", "/v1/clock")
DATES = ('"9999-12-31"', '"0001-01-01"', '"now"')
"""Good dates of what goes on to work for as long."""
FIELDS = (
    "key", "name", "currency", "customer", "start", "end", "at", "ends", "item", "charge",
    "quantity", "reason", "version", "effective_from", "charges", "items", "subjects",
    "payment_terms_days", "time_zone", "through", "period", "instant", "to", "by", "price_book",
    "amount", "expires_at", "meter", "event_type", "aggregation", "value", "anchor", "trial",
)  # fmt: skip
VALUES = (
    "null", "true", "-1", "0", HUGE, "1e400", "-0.0", '""', '"\\u0000"', '"\\ud800"', "[]", "{}",
    "[[[[]]]]", '{"a": {"b": null}}', '"1e9999999"', '"NaN"', f'"{HUGE}"', '"9999-12-31"',
    '"0001-01-01"', '"0000-00-00"', '"now"', "[null]", '[{"key": null}]', '"\\u202e"', '"a b/../c"',
)  # fmt: skip


def routes(client: TestClient) -> list[tuple[str, str]]:
    """Return every write of the billing API, of things that are there."""
    paths = client.get("/openapi.json").json()["paths"]
    found = []
    for path, operations in paths.items():
        if BILLING.match(path):
            own = "S-UA" if "/subscriptions/" in path else "UA"
            named = path.replace("{key}", own).replace("{version}", "1")
            address = re.sub(r"\{\w+\}", "H", named)
            found += [(method.upper(), address) for method in operations if method in WRITES]
    return found


def refused(client: TestClient, method: str, path: str, body: bytes) -> str | None:
    """Send a body; returns how it was answered where that is no proper refusal, or acceptance."""
    headers = OWNER | {"Content-Type": "application/json", "If-Match": "*"}
    answer = client.request(method, path, headers=headers, content=body)
    if answer.status_code < 300:
        return None
    if not 400 <= answer.status_code < 500:
        return f"{method} {path} {body[:60]!r}: {answer.status_code} {answer.text[:200]}"
    kind = answer.headers["content-type"]
    is_told = kind == "application/problem+json" and answer.json()["status"] == answer.status_code
    return None if is_told else f"{method} {path} {body[:60]!r}: {kind}"


def test_what_is_no_request_is_refused_and_never_a_fault_of_ours(client: TestClient) -> None:
    wallet = {"key": "UA", "customer": "UA", "currency": "USD"}
    assert client.post("/v1/wallets", headers=OWNER, json=wallet).status_code == 201
    writes = routes(client)
    assert len(writes) >= 12, writes
    faults = []
    for number, (method, path) in enumerate(writes):
        for name, body in BODIES.items():
            if name not in LARGE or number % 8 == 0:
                faults.append(refused(client, method, path, body))
        # Each route meets each field with a few values; all routes together with all of them.
        faults += [
            refused(client, method, path, f'{{"{field}": {value}}}'.encode())
            for at, field in enumerate(FIELDS)
            for value in VALUES[(number + at) % 20 :: 20]
            if at % 2 == number % 2 and not (path.startswith(RUNS) and value in DATES)
        ]
    assert [fault for fault in faults if fault is not None] == []


TEMPLATES: dict[str, dict[str, Any]] = {
    "/v1/customers": {"key": "H", "name": "H", "currency": "USD", "subjects": ["h"]},
    "/v1/subscriptions": {
        "key": "H", "customer": "UA", "start": "2013-01-01",
        "items": [{"key": "main", "price_book": "airport", "version": 1, "start": "2013-02-01",
                   "overrides": [{"charge": "base", "amount": "1", "from": "2013-02-01"}]}]},
    "/v1/price-books/airport/versions": {
        "version": 90, "effective_from": "2090-01-01", "currency": "USD", "status": "draft",
        "charges": [{"key": "base", "model": "flat", "amount": "1", "timing": "advance"}]},
    "/v1/subscriptions/S-UA/cancel": {"at": "period_end", "reason": "r"},
    "/v1/subscriptions/S-UA/seats": {"item": "main", "charge": "base", "quantity": "1"},
    "/v1/subscriptions/S-UA/change": {
        "item": "main", "to_book": "airport", "to_version": 1, "key": "new", "at": "2013-03-01"},
    "/v1/subscriptions/S-UA/pause": {"at": "2013-03-01", "until": "2013-04-01"},
    "/v1/wallets": {"key": "H", "customer": "UA", "currency": "USD",
                    "top_up": {"below": "20.00", "amount": "100.00"}},
}  # fmt: skip


def spoiled(content: Any, value: str) -> Iterator[str]:
    """Yield what is sent with each of its values replaced by another, as text."""
    text = json.dumps(content)
    marks = re.finditer(r'(?<=: )("[^"]*"|[0-9]+|\[|\{)', text)
    for mark in marks:
        if mark[0] not in "[{":
            yield text[: mark.start()] + value + text[mark.end() :]


def test_a_value_that_does_not_belong_is_refused_wherever_it_stands(client: TestClient) -> None:
    faults = [
        refused(client, "POST", path, body.encode())
        for path, content in TEMPLATES.items()
        for number, value in enumerate(VALUES)
        for at, body in enumerate(spoiled(content, value))
        if (at + number) % 3 == 0
    ]
    assert [fault for fault in faults if fault is not None] == []


def test_customers_and_notes_are_shown_by_commands(
    client: TestClient, stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = make_conninfo(stack.read().postgres_dsn, dbname=NAME)
    known = Stack("", "", "", dsn, "", "", "default", "", {})
    for commands in (customer_commands, invoice_commands):
        monkeypatch.setattr(commands, "read_stack", lambda _: known)

    def run(*words: str) -> str:
        done = CliRunner().invoke(build(), list(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    listed = {one["key"] for one in json.loads(run("customer", "list", "--json"))}
    assert {"DL", "UA"} <= listed
    shown = json.loads(run("customer", "show", "DL", "--json"))
    open_ones = get(client, "/v1/invoices?customer=DL&state=open")["items"]
    assert shown["balances"][0]["owed_minor"] == sum(one["amount_due_minor"] for one in open_ones)
    assert [one["key"] for one in shown["subscriptions"]] == ["S-DL"]
    assert "owes" in run("customer", "show", "DL")
    assert run("credit-note", "list") == "No credit notes.\n"
    words = ("--customer", "DL", "--price-book", "airport", "--start", "2090-01-01")
    assert "version 1." in run("subscription", "create", "S-NEW", *words)
