"""Wallets over HTTP: filled, held and settled once per key, refused with what is available."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.e2e.api_world import billed_world, call, get
from tests.embedded_stack import EmbeddedStack

PATH = "/v1/wallets"
TERMS = {"key": "ua", "customer": "UA", "currency": "USD",
         "top_up": {"below": "5.00", "amount": "50.00"}}  # fmt: skip


@pytest.fixture(scope="module")
def client(stack: EmbeddedStack) -> Iterator[TestClient]:
    with billed_world(stack, "wallets_api") as client:
        yield client


def test_credit_is_bought_held_settled_and_voided(client: TestClient) -> None:
    made = call(client, "POST", PATH, TERMS)
    assert (made.status_code, made.json()["top_up_pending"]) == (201, 1)
    paid = {"payment": "wire-1"}
    granted = call(client, "POST", f"{PATH}/ua/top-up", paid, idempotency_key="w1").json()
    assert (granted["key"], granted["left_minor"]) == ("top-up-1", 5000)
    assert call(client, "POST", f"{PATH}/ua/top-up", {"payment": "wire-9"}).status_code == 409
    gift = {"key": "gift", "kind": "promotional", "amount": "10.00", "priority": 1}
    for _ in range(2):
        assert call(client, "POST", f"{PATH}/ua/grants", gift).status_code == 201
    other = call(client, "POST", f"{PATH}/ua/grants", {**gift, "amount": "11.00"})
    assert (other.status_code, "granted_minor" in other.json()["detail"]) == (409, True)

    hold = {"key": "h", "amount": "40.00"}
    assert call(client, "POST", f"{PATH}/ua/holds", hold).json()["state"] == "open"
    refused = call(client, "POST", f"{PATH}/ua/holds", {"key": "i", "amount": "20.01"})
    assert (refused.status_code, refused.json()["available_minor"]) == (409, 2000)
    busy = call(client, "POST", f"{PATH}/ua/grants/gift/void", {})
    assert (busy.status_code, "held or settled" in busy.json()["detail"]) == (409, True)
    used = {"amount": "12.34", "events": [{"source": "/api", "id": "1"}]}
    settled = call(client, "POST", f"{PATH}/ua/holds/h/settle", used).json()
    assert (settled["state"], settled["settled"]) == ("settled", "12.34")
    assert call(client, "POST", f"{PATH}/ua/holds/h/release").status_code == 409
    wallet = get(client, f"{PATH}/ua")
    assert (wallet["balance"], wallet["unbilled"], wallet["available"]) == (
        "60.00", "12.34", "47.66",
    )  # fmt: skip
    again = {"key": "j", "amount": "1.00"}
    call(client, "POST", f"{PATH}/ua/holds", again)
    twice = call(client, "POST", f"{PATH}/ua/holds/j/settle", {**used, "amount": "1.00"})
    assert (twice.status_code, "settled before" in twice.json()["detail"]) == (409, True)
    released = call(client, "POST", f"{PATH}/ua/holds/j/release").json()
    assert released["state"] == "released"
    moved = get(client, f"{PATH}/ua/movements?limit=3")
    rest = get(client, f"{PATH}/ua/movements?cursor={moved['next']}")
    kinds = [one["kind"] for one in moved["items"] + rest["items"]]
    assert kinds == ["top_up", "grant", "hold", "hold", "settle", "settle", "hold", "release"]


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("", {**TERMS, "customer": "NONE"}, 409, "no customer NONE"),
        ("", {**TERMS, "key": "more"}, 409, "another wallet in USD"),
        ("", {**TERMS, "currency": "USX"}, 422, "currency"),
        ("/none/grants", {"key": "g", "amount": "1", "payment": "p"}, 404, "no wallet none"),
        ("/ua/grants", {"key": "g", "amount": "1"}, 422, "names what paid for it"),
        ("/ua/grants", {"key": "g", "amount": "0.001", "payment": "p"}, 409, "decimals"),
        ("/ua/grants", {"key": "g", "amount": "1", "payment": "wire-1"}, 409, "another grant"),
        ("/ua/grants", {"key": "g", "amount": "1", "paid_by": {"invoice": "X", "line": 1}},
         409, "no line 1 of an invoice X"),
        ("/ua/holds/none/settle", {"amount": "1", "events": [{"source": "a", "id": "b"}]},
         404, "no hold none"),
        ("/ua/holds", {"key": "k", "amount": "-1"}, 422, "greater than 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_its_reason(
    client: TestClient, path: str, body: dict[str, object], status: int, told: str
) -> None:
    refused = call(client, "POST", PATH + path, body)
    assert (refused.status_code, refused.headers["content-type"]) == (
        status, "application/problem+json",
    )  # fmt: skip
    assert told in refused.json()["detail"]


def test_wallets_are_of_their_tenant_and_analysts_only_read_them(client: TestClient) -> None:
    assert get(client, PATH, "tb_other")["items"] == []
    assert call(client, "GET", f"{PATH}/ua", key="tb_other").status_code == 404
    assert call(client, "POST", PATH, TERMS, key="tb_analyst").status_code == 403
    assert [one["key"] for one in get(client, f"{PATH}?customer=UA", "tb_analyst")["items"]] == [
        "ua"
    ]


def test_wallets_are_compared_with_the_books_of_their_tenant(client: TestClient) -> None:
    found = get(client, "/v1/ledger/wallets", "tb_analyst")
    [prepaid] = [one for one in found["accounts"] if one["account"] == "prepaid_credit"]
    assert (prepaid["customer"], prepaid["agrees"], found["faults"]) == ("UA", True, [])
    assert prepaid["wallets"] == prepaid["ledger"] != "0.00"
    assert get(client, "/v1/ledger/wallets", "tb_other") == {"accounts": [], "faults": []}
