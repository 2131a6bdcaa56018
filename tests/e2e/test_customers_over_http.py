"""Customers over HTTP: one schema with `apply`, versions, subjects with dates, no other's rows."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.e2e.api_world import billed_world, call, get
from tests.embedded_stack import EmbeddedStack

AA = {"key": "AA", "name": "American", "currency": "USD", "time_zone": "America/Chicago"}


@pytest.fixture(scope="module")
def client(stack: EmbeddedStack) -> Iterator[TestClient]:
    with billed_world(stack, "customers") as client:
        yield client


def test_a_customer_is_made_once_read_changed_and_replaced_by_version(client: TestClient) -> None:
    made = call(client, "POST", "/v1/customers", AA)
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    assert made.headers["location"] == "/v1/customers/AA"
    assert made.json() | AA == made.json()
    assert call(client, "POST", "/v1/customers", AA).status_code == 200
    other = call(client, "POST", "/v1/customers", AA | {"name": "Other"})
    assert (other.status_code, other.json()["current_version"]) == (409, 1)

    patch = {"payment_terms_days": 14}
    assert call(client, "PATCH", "/v1/customers/AA", patch).status_code == 428
    changed = call(client, "PATCH", "/v1/customers/AA", patch, if_match='"1"')
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert changed.json()["payment_terms_days"] == 14
    stale = call(client, "PUT", "/v1/customers/AA", AA, if_match='"1"')
    assert (stale.status_code, stale.json()["current_version"]) == (409, 2)
    replaced = call(client, "PUT", "/v1/customers/AA", AA, if_match='"2"')
    assert (replaced.json()["version"], replaced.json()["payment_terms_days"]) == (3, 30)
    versions = get(client, "/v1/customers/AA/versions")["items"]
    assert [one["payment_terms_days"] for one in versions] == [30, 14, 30]


def test_a_subject_passes_from_one_customer_to_another_on_a_date(client: TestClient) -> None:
    for key in ("OLD", "NEW"):
        assert call(client, "POST", "/v1/customers", AA | {"key": key}).status_code == 201
    path = "/v1/customers/{}/subjects"
    assert call(client, "POST", path.format("OLD"), {"key": "N1"}).status_code == 201
    since = {"key": "N1", "from": "2013-03-10"}
    taken = call(client, "POST", path.format("NEW"), since)
    assert taken.status_code == 409
    assert "N1 of customer NEW belongs to customer OLD since ever" in taken.json()["detail"]
    end = {"key": "N1", "to": "2013-03-10"}
    assert call(client, "POST", path.format("OLD") + "/end", end).status_code == 200
    assert call(client, "POST", path.format("OLD") + "/end", end).status_code == 404
    assert call(client, "POST", path.format("NEW"), since).status_code == 201
    [old] = get(client, path.format("OLD"))["items"]
    [new] = get(client, path.format("NEW"))["items"]
    assert (old["from"], new["to"], old["to"]) == (None, None, new["from"])
    assert new["from"].startswith("2013-03-10T06:00:00")
    owners = get(client, "/v1/customers?subject=N1")["items"]
    assert [one["key"] for one in owners] == ["NEW", "OLD"]


def test_what_a_customer_lacks_or_has_too_much_is_pointed_at(client: TestClient) -> None:
    body = {"key": "BAD", "currency": "dollars", "plan": 1, "subjects": [{"key": ""}]}
    answer = call(client, "POST", "/v1/customers", body)
    pointers = {fault["pointer"] for fault in answer.json()["errors"]}
    assert (answer.status_code, pointers) == (
        422,
        {"/name", "/currency", "/plan", "/subjects/0/key"},
    )
    elsewhere = call(client, "POST", "/v1/customers", AA | {"key": "X", "legal_entity": "moon"})
    assert elsewhere.status_code == 409
    wrong = call(client, "PATCH", "/v1/customers/UA", {"time_zone": "Moon/Base"}, if_match="*")
    assert wrong.json()["errors"][0]["pointer"] == "/time_zone"
    billed = call(client, "PATCH", "/v1/customers/UA", {"currency": "EUR"}, if_match="*")
    assert billed.status_code == 409
    assert get(client, "/v1/customers/UA")["version"] == 1


def test_another_tenants_customers_can_be_neither_read_nor_moved(client: TestClient) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", AA | {"key": "UA"}),
        ("PATCH", "", {"name": "Mine"}),
        ("GET", "/versions", None),
        ("GET", "/subjects", None),
        ("POST", "/subjects", {"key": "u1"}),
        ("POST", "/subjects/end", {"key": "u1", "to": "2013-01-01"}),
    ):
        answer = call(client, method, f"/v1/customers/UA{path}", body, "tb_other", if_match="*")
        assert answer.status_code == 404, (method, path, answer.text)
    own = AA | {"key": "UA", "subjects": ["u1"]}
    assert call(client, "POST", "/v1/customers", own, "tb_other").status_code == 201
    assert get(client, "/v1/customers/UA")["name"] == "United"
    assert [one["key"] for one in get(client, "/v1/customers?subject=u1")["items"]] == ["UA"]
