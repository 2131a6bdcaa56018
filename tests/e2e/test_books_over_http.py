"""What was billed and booked, over HTTP: lists by filter, evidence, months, and no other's rows."""

from collections.abc import Iterator
from datetime import date

import psycopg
import pytest
from fastapi.testclient import TestClient

from tests.e2e.api_world import billed_world, call, get
from tests.e2e.billing_world import close
from tests.embedded_stack import EmbeddedStack


@pytest.fixture(scope="module")
def client(stack: EmbeddedStack) -> Iterator[TestClient]:
    with billed_world(stack, "books") as client:
        dsn = stack.read().postgres_dsn.replace("/tollbook", "/books")
        with psycopg.connect(dsn, autocommit=True) as connection:
            close(connection, date(2013, 2, 1))
        yield client


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("customer=UA", 4),
        ("subscription=S-DL", 4),
        ("document_type=credit_note", 0),
        ("state=paid", 0),
        ("currency=EUR", 0),
        ("legal_entity=main", 8),
        ("issued_from=2013-02-01&issued_to=2013-02-02", 4),
        ("due_to=2013-02-01", 2),
    ],
)
def test_documents_are_listed_by_what_is_asked(client: TestClient, query: str, count: int) -> None:
    found = get(client, f"/v1/invoices?{query}")["items"]
    everything = get(client, "/v1/invoices")["items"]
    assert [one for one in everything if one in found] == found
    assert len(found) == count, [
        (one["number"], one["customer"], one["issued_on"]) for one in everything
    ]
    assert get(client, "/v1/credit-notes")["items"] == []


def test_late_usage_is_listed_as_a_correction_of_the_document_before(client: TestClient) -> None:
    found = get(client, "/v1/corrections?customer=UA")["items"]
    assert found
    assert {one["cause"] for one in found} == {"cut 2"}
    for one in found:
        on, before = (
            get(client, f"/v1/invoices/{number}") for number in (one["number"], *one["corrects"])
        )
        assert one["amount_minor"] == on["lines"][one["ordinal"] - 1]["amount_minor"]
        assert one["charge"] in {line["charge"] for line in before["lines"]}
    assert get(client, "/v1/corrections?customer=DL")["items"] == []


def test_every_document_explains_itself_and_holds(client: TestClient) -> None:
    for one in get(client, "/v1/invoices")["items"]:
        path = f"/v1/invoices/{one['number']}"
        verdict = get(client, f"{path}/verify")
        assert verdict["holds"], verdict
        assert [check["check"] for check in verdict["checks"]] == [
            "inputs",
            "lines",
            "traces",
            "total",
            "ledger",
        ]
        told = get(client, f"{path}/explain")
        assert told["total"] == one["total"]
        roles = [each["role"] for each in get(client, f"{path}/inputs")["items"]]
        assert roles == told["inputs"]
        assert f"customer {one['customer']}" in roles


def test_entries_balance_and_name_their_document(client: TestClient) -> None:
    number = get(client, "/v1/invoices?customer=UA")["items"][0]["number"]
    [entry, *_] = get(client, f"/v1/ledger/entries?invoice={number}")["items"]
    assert entry["description"] == f"invoice {number}"
    everything = get(client, "/v1/ledger/entries?limit=500")["items"]
    assert all(sum(p["amount_minor"] for p in each["postings"]) == 0 for each in everything)
    sums: dict[int, int] = {}
    for each in everything:
        for posting in each["postings"]:
            sums.setdefault(posting["account_id"], 0)
            sums[posting["account_id"]] += posting["amount_minor"]
    accounts = {one["id"]: one["code"] for one in get(client, "/v1/ledger/accounts")["items"]}
    balances = get(client, "/v1/ledger/trial-balance")["accounts"]
    assert {accounts[key]: value for key, value in sums.items()} == {
        one["account"]: one["balance_minor"] for one in balances
    }
    own = get(client, f"/v1/ledger/entries?account={min(accounts)}&kind=invoice")["items"]
    assert own
    assert {each["kind"] for each in own} == {"invoice"}


def test_months_are_open_then_closed_then_locked_in_that_order(client: TestClient) -> None:
    states = {one["period"]: one["state"] for one in get(client, "/v1/periods")["items"]}
    assert states == {"2013-01": "closed", "2013-02": "closed"}
    assert call(client, "POST", "/v1/periods/2013-03/lock").status_code == 404
    assert call(client, "POST", "/v1/periods/2013-13/lock").status_code == 404
    locked = call(client, "POST", "/v1/periods/2013-01/lock", idempotency_key="lock-1")
    assert (locked.status_code, locked.json()["state"]) == (200, "locked")
    assert get(client, "/v1/periods/2013-02")["state"] == "closed"
    again = call(client, "POST", "/v1/periods/2013-01/lock", idempotency_key="lock-1")
    assert again.headers["idempotent-replayed"] == "true"
    future = call(client, "POST", "/v1/periods/9998-01/close")
    assert (future.status_code, "is not over" in future.json()["detail"]) == (409, True)


def test_legal_entities_tell_how_far_their_numbers_are(client: TestClient) -> None:
    [main] = get(client, "/v1/legal-entities")["items"]
    [series] = main["series"]
    assert (main["key"], series["document_type"], series["last_sequence"]) == ("main", "invoice", 8)


def test_another_tenant_sees_and_moves_nothing_of_the_books(client: TestClient) -> None:
    number = get(client, "/v1/invoices")["items"][0]["number"]
    account = get(client, "/v1/ledger/accounts")["items"][0]["id"]
    for path in ("", "/explain", "/verify", "/inputs"):
        answer = call(client, "GET", f"/v1/invoices/{number}{path}", key="tb_other")
        assert answer.status_code == 404
    for path in (
        f"ledger/entries?invoice={number}", f"ledger/entries?account={account}", "ledger/accounts",
        "periods", "corrections", "credit-notes", "invoices",
    ):  # fmt: skip
        assert get(client, f"/v1/{path}", "tb_other")["items"] == []
    assert get(client, "/v1/legal-entities", "tb_other")["items"] == [{"key": "main", "series": []}]
    assert call(client, "POST", "/v1/periods/2013-02/lock", key="tb_other").status_code == 404
    assert get(client, "/v1/periods/2013-02")["state"] == "closed"
