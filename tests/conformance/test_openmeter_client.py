"""OpenMeter's official Python client works unchanged, with one address for everything."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from openmeter import Client
from openmeter.models import Event, MeterQueryResult

from tests.embedded_stack import EmbeddedStack
from tests.metering import create_meters, cut_now

HOUR = datetime(2026, 10, 25, 10, tzinfo=UTC)


def event(number: int, subject: str, tokens: int, model: str) -> Event:
    return Event(
        id=f"om-{number}",
        source="my-app",
        specversion="1.0",
        type="prompt",
        subject=subject,
        time=HOUR + timedelta(minutes=20 * number),
        data={"tokens": tokens, "model": model},
    )


@pytest.fixture(scope="module")
def client(stack: EmbeddedStack) -> Client:
    known = stack.read()
    definition = {"key": "tokens_total", "event_type": "prompt", "aggregation": "sum",
                  "value": "$.tokens", "dimensions": {"model": "$.model"}}  # fmt: skip
    latest = {**definition, "key": "tokens_last", "aggregation": "latest"}
    create_meters(known, [definition, latest])
    with psycopg.connect(known.postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO subject_assignments (tenant, subject, customer, during, known_revision)"
            " VALUES (%s, 'alice', 'acme', tstzrange(NULL, NULL), 1)",
            (known.tenant,),
        )
    client = Client(endpoint=known.api_url, token=known.api_key)
    client.events.ingest_event(event(0, "alice", 100, "a"))
    batch = [event(number, "alice", 1, "a") for number in (1, 2, 3)]
    client.events.ingest_events([*batch, event(4, "bob", 7, "b"), event(0, "alice", 100, "a")])
    cut_now(known)
    return client


def rows(result: MeterQueryResult) -> list[tuple[datetime, str | None, dict[str, str], float]]:
    return [(row.window_start, row.subject, dict(row.group_by), row.value) for row in result.data]


def test_meters_are_listed_and_read(client: Client) -> None:
    [listed] = [meter for meter in client.meters.list() if meter.slug == "tokens_total"]
    read = client.meters.get("tokens_total")
    for meter in (listed, read):
        assert (meter.id, meter.aggregation, meter.event_type) == ("tokens_total", "SUM", "prompt")
        assert (meter.value_property, meter.group_by) == ("$.tokens", {"model": "$.model"})
        assert meter.created_at <= meter.updated_at


def test_a_total_is_read(client: Client) -> None:
    result = client.meters.query_json("tokens_total")
    assert [value for *_, value in rows(result)] == [110]


def test_windows_subjects_and_groups_are_read(client: Client) -> None:
    result = client.meters.query_json(
        "tokens_total",
        from_parameter=HOUR,
        to=HOUR + timedelta(hours=3),
        window_size="HOUR",
        subject=["alice", "bob"],
        group_by=["model"],
    )
    assert rows(result) == [
        (HOUR, "alice", {"model": "a"}, 102),
        (HOUR + timedelta(hours=1), "alice", {"model": "a"}, 1),
        (HOUR + timedelta(hours=1), "bob", {"model": "b"}, 7),
    ]
    assert (result.from_property, result.window_size) == (HOUR, "HOUR")
    assert result.data[0].window_end == HOUR + timedelta(hours=1)


def test_days_are_local_and_filters_hold(client: Client) -> None:
    result = client.meters.query_json(
        "tokens_total",
        window_size="DAY",
        window_time_zone="Europe/Paris",
        filter_group_by={"model": "b"},
        group_by=["subject"],
    )
    midnight = datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert rows(result) == [(midnight, "bob", {}, 7)]
    assert result.data[0].window_end - midnight == timedelta(hours=25)


def test_months_and_customers_are_read(client: Client) -> None:
    month = datetime(2026, 10, 1, tzinfo=UTC)
    asked: dict[str, Any] = {
        "from_parameter": month,
        "to": month + timedelta(days=31),
        "window_size": "MONTH",
    }
    result = client.meters.query_json("tokens_total", client_id="a-client", **asked)
    assert rows(result) == [(month, None, {}, 110)]
    assert result.data[0].window_end == datetime(2026, 11, 1, tzinfo=UTC)
    result = client.meters.query_json("tokens_total", filter_customer_id=["acme"], **asked)
    assert rows(result) == [(month, None, {}, 103)]


def test_the_latest_value_is_read(client: Client) -> None:
    result = client.meters.query_json("tokens_last", window_size="MINUTE", subject=["alice"])
    assert [value for *_, value in rows(result)] == [100, 1, 1, 1]
    assert client.meters.get("tokens_last").aggregation == "LATEST"
    result = client.meters.query_json("tokens_last", group_by=["subject"])
    assert [(subject, value) for _, subject, _, value in rows(result)] == [("alice", 1), ("bob", 7)]


def test_csv_is_read(client: Client) -> None:
    text = client.meters.query_csv("tokens_total", group_by=["model"])
    assert [line.rsplit(",", 2)[1:] for line in text.splitlines()] == [
        ["model", "value"],
        ["a", "103"],
        ["b", "7"],
    ]


def test_faults_come_as_their_errors(client: Client) -> None:
    from corehttp.exceptions import HttpResponseError, ResourceNotFoundError  # noqa: PLC0415

    with pytest.raises(HttpResponseError) as caught:
        client.meters.query_json("tokens_total", window_time_zone="Mars/Base")
    assert caught.value.status_code == 400
    with pytest.raises(ResourceNotFoundError):
        client.meters.get("nothing")
    with pytest.raises(HttpResponseError) as caught:
        client.events.ingest_event(event(9, "", 1, "a"))
    assert caught.value.status_code == 400
