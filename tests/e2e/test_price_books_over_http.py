"""Price books over HTTP: drafts that may change, versions that do not, and what they come to."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.e2e.api_world import billed_world, call, get
from tests.embedded_stack import EmbeddedStack

BASE = {"key": "base", "model": "flat", "amount": "2900.00", "timing": "advance"}
DEPARTURES = {
    "key": "dep", "model": "graduated", "meter": "departures", "group_by": ["origin"],
    "tiers": [{"up_to": "2", "unit_price": "14"}, {"up_to": None, "unit_price": "11"}],
}  # fmt: skip
VERSION: dict[str, Any] = {
    "version": 3, "effective_from": "2014-01-01", "currency": "USD", "charges": [BASE, DEPARTURES],
}  # fmt: skip
PATH = "/v1/price-books/airport"


@pytest.fixture(scope="module")
def client(stack: EmbeddedStack) -> Iterator[TestClient]:
    with billed_world(stack, "price_books") as client:
        yield client


def test_a_draft_changes_until_it_is_published(client: TestClient) -> None:
    draft = VERSION | {"status": "draft"}
    made = call(client, "POST", f"{PATH}/versions", draft)
    assert (made.status_code, made.json()["state"]) == (201, "draft")
    cheaper = draft | {"charges": [BASE | {"amount": "100"}, DEPARTURES]}
    assert call(client, "POST", f"{PATH}/versions", cheaper).status_code == 201
    shown = get(client, f"{PATH}/versions/3")
    assert shown["content"]["charges"][0]["amount"] == "100"
    states = [row["state"] for row in get(client, f"{PATH}/versions")["items"]]
    assert states == ["superseded", "published", "draft"]
    assert "3" not in str(
        [one["version"] for one in get(client, "/v1/price-books")["items"][0]["versions"]]
    )

    assert call(client, "POST", f"{PATH}/versions", draft).status_code == 201
    published = call(client, "POST", f"{PATH}/versions/3/publish")
    assert (published.status_code, published.json()["state"]) == (200, "published")
    assert call(client, "POST", f"{PATH}/versions/3/publish").status_code == 404
    again = call(client, "POST", f"{PATH}/versions", VERSION)
    assert again.json()["content_hash"] == published.json()["content_hash"]
    for changed in (cheaper, VERSION | {"rounding": "half_even"}):
        refused = call(client, "POST", f"{PATH}/versions", changed)
        assert refused.status_code == 409
        assert "version 3 is published and does not change" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"version": 0}, 422, "body.version"),
        ({"charges": [BASE | {"model": "package"}]}, 422, "model package needs meter"),
        ({"version": 4, "effective_from": "2012-01-01"}, 409, "must take effect after version"),
        ({"version": 9, "currency": "EUR", "effective_from": "2019-01-01"}, 409, "no price in USD"),
        (
            {
                "version": 9,
                "effective_from": "2019-01-01",
                "charges": [DEPARTURES | {"meter": "x"}],
            },
            409,
            "charge dep of version 9 changes its cadence, timing, meter",
        ),
    ],
)
def test_what_is_no_version_is_refused(
    client: TestClient, change: dict[str, Any], status: int, told: str
) -> None:
    refused = call(client, "POST", f"{PATH}/versions", VERSION | change)
    assert refused.status_code == status
    assert told in refused.text


def test_a_draft_that_customers_have_no_prices_in_is_kept_but_not_published(
    client: TestClient,
) -> None:
    draft = VERSION | {"version": 5, "currency": "EUR", "effective_from": "2020-01-01"}
    assert call(client, "POST", f"{PATH}/versions", draft | {"status": "draft"}).status_code == 201
    refused = call(client, "POST", f"{PATH}/versions/5/publish")
    assert refused.status_code == 409
    assert "has no price in USD" in refused.json()["detail"]
    assert get(client, f"{PATH}/versions/5")["state"] == "draft"


def test_a_draft_is_deleted_and_what_is_published_stays(client: TestClient) -> None:
    draft = VERSION | {"version": 6, "effective_from": "2021-01-01", "status": "draft"}
    assert call(client, "POST", f"{PATH}/versions", draft).status_code == 201
    for _ in range(2):
        gone = call(client, "DELETE", f"{PATH}/versions/6", idempotency_key="gone")
        assert (gone.status_code, gone.content) == (204, b"")
    assert call(client, "GET", f"{PATH}/versions/6").status_code == 404
    missing = call(client, "DELETE", f"{PATH}/versions/6")
    assert (missing.status_code, "has no draft of version 6" in missing.text) == (404, True)
    refused = call(client, "DELETE", f"{PATH}/versions/2")
    assert (refused.status_code, "version 2 is published" in refused.text) == (409, True)
    assert get(client, f"{PATH}/versions/2")["version"] == 2


def test_versions_are_compared_and_quantities_rated(client: TestClient) -> None:
    found = get(client, f"{PATH}/diff?before=1&after=2")
    assert {"charge": "base", "field": "amount", "before": "2500.00", "after": "2750.00"} in found[
        "changed"
    ]
    quote = get(client, f"{PATH}/versions/1/rate?charge=dep&quantity=3&with=origin=EWR")
    assert (quote["amount_minor"], quote["amount"]) == (2 * 1200 + 950, "33.50")
    for query, status in (
        ("charge=dep&quantity=-1", 422),
        ("charge=dep&quantity=1e400", 422),
        ("charge=none", 422),
        ("charge=dep&currency=GBP", 422),
        ("charge=dep&with=plane=1", 422),
    ):
        answer = call(client, "GET", f"{PATH}/versions/1/rate?{query}")
        assert (answer.status_code, query) == (status, query)
        assert answer.headers["content-type"] == "application/problem+json"
    assert call(client, "GET", f"{PATH}/versions/7/rate?charge=dep").status_code == 404
    assert call(client, "GET", f"{PATH}/versions/1", key="tb_other").status_code == 404
