"""The billing API over real books: what it answers, to whom, and how it refuses."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from tests.e2e.api_world import billed_world, call, get
from tests.embedded_stack import EmbeddedStack
from tollbook.api.application import build_app
from tollbook.api.database import Database

METER = {"key": "calls", "event_type": "call", "aggregation": "count"}


@pytest.fixture(scope="module")
def client(stack: EmbeddedStack) -> Iterator[TestClient]:
    with billed_world(stack, "api") as client:
        yield client


LISTS = ["meters", "customers", "subscriptions", "price-books", "invoices", "bill-runs"]


@pytest.mark.parametrize(("what", "count"), [*zip(LISTS, [4, 2, 2, 1, 4, 1], strict=True)])
def test_lists_come_in_pages_that_join(client: TestClient, what: str, count: int) -> None:
    whole = get(client, f"/v1/{what}")
    assert (len(whole["items"]), whole["next"]) == (count, None)
    items, cursor = [], ""
    while cursor is not None:
        page = get(client, f"/v1/{what}?limit=1" + (f"&cursor={cursor}" if cursor else ""))
        items += page["items"]
        cursor = page["next"]
    assert items == whole["items"]


def test_an_invoice_answers_to_its_number_and_its_id(client: TestClient) -> None:
    invoice = get(client, "/v1/invoices/MAIN-INV-2013-000004")
    assert invoice == get(client, f"/v1/invoices/{invoice['id']}")
    assert (invoice["customer"], invoice["bill_on"]) == ("UA", "2013-02-01")
    assert sum(line["amount_minor"] for line in invoice["lines"]) == invoice["total_minor"]
    own = get(client, "/v1/invoices?customer=UA")["items"]
    assert {one["customer"] for one in own} == {"UA"}


def test_the_trial_balance_sums_to_zero_on_any_day(client: TestClient) -> None:
    for query in ("", "?as_of=2013-01-15", "?as_of=2013-01-31", "?as_of=2012-12-31"):
        accounts = get(client, f"/v1/ledger/trial-balance{query}")["accounts"]
        assert sum(account["balance_minor"] for account in accounts) == 0
        assert bool(accounts) == ("2012" not in query)


def test_a_tenant_sees_nothing_of_another(client: TestClient) -> None:
    for what in LISTS:
        assert get(client, f"/v1/{what}", "tb_other") == {"items": [], "next": None}
    assert get(client, "/v1/ledger/trial-balance", "tb_other")["accounts"] == []
    ours = get(client, "/v1/invoices")["items"][0]
    for name in (ours["number"], ours["id"]):
        answer = client.get(f"/v1/invoices/{name}", headers={"Authorization": "Bearer tb_other"})
        assert answer.status_code == 404


@pytest.mark.parametrize("key", [None, "", "tb_nobody", "tb_öwner"])
def test_nobody_reads_without_a_key(client: TestClient, key: str | None) -> None:
    headers = {} if key is None else {"Authorization": f"Bearer {key}".encode()}
    answer = client.get("/v1/invoices", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("key", "method", "status"),
    [
        ("tb_ingest", "GET", 403),
        ("tb_ingest", "POST", 403),
        ("tb_analyst", "GET", 200),
        ("tb_analyst", "POST", 403),
    ],
)
def test_an_owner_writes_an_analyst_reads_and_ingest_does_neither(
    client: TestClient, key: str, method: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    body = {"json": METER} if method == "POST" else {}
    answer = client.request(method, "/v1/meters", headers=headers, **body)
    assert answer.status_code == status, answer.text


def test_a_cursor_fits_only_the_list_and_the_filters_that_it_came_from(client: TestClient) -> None:
    cursor = get(client, "/v1/invoices?customer=UA&limit=1")["next"]
    rest = get(client, f"/v1/invoices?customer=UA&limit=5&cursor={cursor}")
    assert {one["customer"] for one in rest["items"]} == {"UA"}
    for path in ("/v1/invoices?cursor=", "/v1/customers?customer=UA&cursor="):
        headers = {"Authorization": "Bearer tb_owner"}
        assert client.get(path + cursor, headers=headers).status_code == 400


def test_a_repeated_write_is_made_once_and_answered_as_the_first(client: TestClient) -> None:
    body = METER | {"key": "made_once"}
    with ThreadPoolExecutor(6) as threads:
        answers = [
            answer.result()
            for answer in [
                threads.submit(
                    call, client, "POST", "/v1/meters", body, "tb_owner", idempotency_key="k1"
                )
                for _ in range(12)
            ]
        ]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert [a.headers.get("idempotent-replayed") for a in answers].count("true") == 11
    assert len(get(client, "/v1/meters/made_once")["versions"]) == 1


def test_an_idempotency_key_stands_for_one_request_of_one_tenant(client: TestClient) -> None:
    body = METER | {"key": "first"}
    assert (
        call(client, "POST", "/v1/meters", body, "tb_owner", idempotency_key="k2").status_code
        == 201
    )
    other = call(
        client, "POST", "/v1/meters", METER | {"key": "second"}, "tb_owner", idempotency_key="k2"
    )
    assert (other.status_code, other.json()["errors"][0]["field"]) == (
        422,
        "header.idempotency-key",
    )
    theirs = call(client, "POST", "/v1/meters", body, "tb_other", idempotency_key="k2")
    assert (theirs.status_code, theirs.headers.get("idempotent-replayed")) == (201, None)


def test_a_refused_write_may_be_tried_again_with_its_key(client: TestClient) -> None:
    body = METER | {"key": "refused", "effective_at": "2013-01-01T00:07:00Z"}
    for _ in range(2):
        refused = call(client, "POST", "/v1/meters", body, "tb_owner", idempotency_key="k3")
        assert (refused.status_code, "idempotent-replayed" in refused.headers) == (422, False)
    better = call(
        client, "POST", "/v1/meters", METER | {"key": "refused"}, "tb_owner", idempotency_key="k3"
    )
    assert better.status_code == 201


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/invoices?limit=0", 422),
        ("/v1/invoices?limit=many", 422),
        ("/v1/invoices/%00", 400),
        ("/v1/meters?cursor=%00", 400),
        ("/v1/ledger/trial-balance?as_of=yesterday", 422),
        ("/v1/nothing", 404),
        ("/v1/invoices/MAIN-INV-2013-999999", 404),
    ],
)
def test_every_refusal_is_a_problem_document(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path, headers={"Authorization": "Bearer tb_owner"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["type"] == f"urn:tollbook:problem:{answer.json()['code']}"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"through": "2013-01-01", "period": "2013-01"},
        {"period": "2013-13"},
        {"when": "now"},
        {"through": "now"},
        {"through": "2013-01-01", "lock": True},
    ],
)
def test_a_bill_run_says_what_it_bills(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post("/v1/bill-runs", json=body, headers={"Authorization": "Bearer tb_owner"})
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_health_needs_no_key(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert "/v1/invoices/{name}" in client.get("/openapi.json").json()["paths"]


def test_a_database_that_is_away_is_said_to_be(stack: EmbeddedStack) -> None:
    dsn = stack.read().postgres_dsn.replace("/tollbook", "/nowhere")
    with TestClient(
        build_app({"TOLLBOOK_POSTGRES_DSN": dsn}), raise_server_exceptions=False
    ) as client:
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_connection_that_the_server_ended_while_idle_is_replaced(stack: EmbeddedStack) -> None:
    dsn = stack.read().postgres_dsn
    database = Database(dsn)
    with database.lend() as connection:
        ended = connection.info.backend_pid
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (ended,))
    with database.lend() as connection:
        assert connection.info.backend_pid != ended
        assert connection.execute("SELECT 1").fetchone() == (1,)
