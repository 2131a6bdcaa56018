"""Whatever became of an event can be asked: where it is, what it counts for, or why it does not."""

import hashlib
import json
import os
import shlex
import signal
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from confluent_kafka import Producer
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from ingest.topic import CLOUDEVENT_CONTENT_TYPE, CONTENT_TYPE_HEADER, TENANT_HEADER, TOPIC
from pipelines import kafka_ends
from tests.embedded_stack import HTTP, EmbeddedStack, wait_until
from tests.feed import utc_now
from tests.metering import create_meters
from tollbook import cli
from tollbook.api.application import build_app
from tollbook.stack_file import Stack, read_stack

SOURCE = "tests/where is it?"
NEIGHBOUR = "tb_where_neighbour"
NOON = utc_now().replace(hour=12, minute=0, second=0) - timedelta(days=1)
NAME = 'a/1 "\\'
CLOCK = "tomorrow, perhaps"


def event(event_id: str, **fields: Any) -> dict[str, Any]:
    named = {"specversion": "1.0", "id": event_id, "source": SOURCE, "subject": "s"}
    time = {"type": "where", "time": NOON.isoformat(), "data": {"units": "1.50", "region": "eu"}}
    return named | time | fields


def send(stack: Stack, key: str, *events: dict[str, Any]) -> None:
    assert (status := sent(stack, key, *events)) == 204, status


def sent(stack: Stack, key: str, *events: dict[str, Any]) -> int:
    answer = HTTP.post(
        f"{stack.ingest_url}/v1/events",
        content=json.dumps(events).encode(),
        headers={
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/cloudevents-batch+json",
        },
        timeout=20,
    )
    return answer.status_code


def produce(stack: Stack, *values: bytes, tenant: str) -> None:
    """Write to the first partition of the log as a producer of one's own may."""
    produce_at(stack, 0, *values, tenant=tenant)


def produce_at(stack: Stack, partition: int, *values: bytes, tenant: str) -> None:
    """Write to a partition of the log."""
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "linger.ms": 0})
    headers: list[tuple[str, str | bytes | None]] = [
        (CONTENT_TYPE_HEADER, CLOUDEVENT_CONTENT_TYPE),
        (TENANT_HEADER, tenant),
    ]
    for value in values:
        producer.produce(TOPIC, value, partition=partition, headers=headers)
    assert producer.flush(20) == 0


@dataclass(frozen=True)
class World:
    stack: Stack
    data_dir: Path

    def get(self, path: str, key: str = "", status: int = 200) -> Any:
        answer = HTTP.get(
            f"{self.stack.api_url}/v1/{path}",
            headers={"Authorization": f"Bearer {key or self.stack.api_key}"},
            timeout=20,
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    def trace(self, event_id: str, key: str = "", status: int = 200) -> Any:
        return self.get(f"events/{quote(SOURCE, safe='')}/{quote(event_id, safe='')}", key, status)

    def wait_until_counted(self) -> None:
        wait_until(lambda: self.get("progress")["lag"] == 0, 20)

    def letters(self, key: str = "") -> list[dict[str, Any]]:
        """Return the dead letters of these tests; others share the stack."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while cursor is not None:
            page = self.get(f"dead-letters?limit=2&cursor={cursor}".removesuffix("&cursor="), key)
            items += page["items"]
            cursor = page["next"]
        ours = ("garbage of where", SOURCE)
        return [one for one in items if any(text in one.get("body", "") for text in ours)]

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command in this process; return what it printed, or what is wrong."""
        done = CliRunner().invoke(cli.build(), [*arguments, "--data-dir", str(self.data_dir)])
        assert done.exit_code == code, done.output
        return f"{done.output}{done.exception or ''}"


@pytest.fixture(scope="module")
def world(stack: EmbeddedStack) -> World:
    known = stack.read()
    shape = {"event_type": "where", "window": "1h"}
    units = {"aggregation": "sum", "value": "$.units", "dimensions": {"region": "$.region"}}
    create_meters(
        known,
        [
            {"key": "where_calls", "aggregation": "count"} | shape,
            {"key": "where_units"} | units | shape,
        ],
    )
    with psycopg.connect(known.postgres_dsn) as connection:
        connection.execute("INSERT INTO tenants (tenant, name) VALUES ('where-neighbour', 'N')")
        connection.execute(
            "INSERT INTO api_keys (key_hash, tenant, name, role)"
            " VALUES (%s, 'where-neighbour', 'n', 'owner')",
            (hashlib.sha256(NEIGHBOUR.encode()).digest(),),
        )
    send(known, known.api_key, event(NAME))
    send(known, known.api_key, event(NAME), event("many", data={"units": "many"}))
    send(known, known.api_key, event(NAME, data={"units": "2"}))
    theirs = event("theirs"), event(NAME, data={"units": "77"})
    # Ingest learns of a new key a second later at most.
    wait_until(lambda: sent(known, NEIGHBOUR, *theirs) == 204, 30)
    produce(
        known,
        b"{garbage of where",
        json.dumps(event("late", time=CLOCK)).encode(),
        tenant=known.tenant,
    )
    produce(known, b"their garbage of where", tenant="where-neighbour")
    found = World(known, stack.data_dir)
    found.wait_until_counted()
    return found


def test_an_event_is_counted_in_its_windows_with_its_copy_and_its_conflict(world: World) -> None:
    found = world.trace(NAME)
    assert (found["state"], found["id"], found["source"]) == ("counted", NAME, SOURCE)
    (counted,) = found["events"]
    sent = event(NAME)
    assert counted["event"] | {"time": sent["time"]} == sent
    assert counted["event"]["time"] == NOON.isoformat().replace("+00:00", "Z")
    counts = [
        (one["meter"], one["value"], one["dimensions"], one["window_start"], one["in_force"])
        for one in counted["counts"]
    ]
    start = NOON.isoformat().replace("+00:00", "Z")
    assert sorted(counts, key=str) == [
        ("where_calls", "1", {}, start, True),
        ("where_units", "1.5", {"region": "eu"}, start, True),
    ]
    assert (counted["duplicate_count"], counted["rejections"]) == (1, [])
    (copy,) = counted["duplicates"]
    assert copy > counted["position"]
    (conflict,) = found["conflicts"]
    kept = world.get(f"dead-letters/{conflict['position']}")
    assert kept["kind"] == "conflict"
    assert json.loads(kept["body"])["data"] == {"units": "2"}


def test_a_value_that_one_meter_refuses_is_told_with_its_reason(world: World) -> None:
    (counted,) = world.trace("many")["events"]
    assert [one["meter"] for one in counted["counts"]] == ["where_calls"]
    (rejection,) = counted["rejections"]
    assert rejection["meter"] == "where_units"
    assert "number" in rejection["reason"]


def test_an_event_that_no_one_sent_is_unknown(world: World) -> None:
    assert "no such event" in world.trace("never", status=404)["detail"]
    assert "No such event" in world.run("event", "show", SOURCE, "never", code=1)
    world.get("events/only-a-source", status=400)


def test_a_tenant_sees_nothing_of_another(world: World) -> None:
    world.trace("theirs", status=404)
    world.trace("many", key=NEIGHBOUR, status=404)
    assert world.trace("theirs", key=NEIGHBOUR)["state"] == "counted"
    found = world.trace(NAME, key=NEIGHBOUR)
    (counted,) = found["events"]
    assert counted["event"]["data"] == {"units": "77"}
    assert (counted["counts"], counted["duplicates"], found["conflicts"]) == ([], [], [])
    (theirs,) = world.letters(NEIGHBOUR)
    assert theirs["body"] == "their garbage of where"
    ours = world.letters()
    assert "their garbage of where" not in {letter["body"] for letter in ours}
    world.get(f"dead-letters/{ours[0]['position']}", key=NEIGHBOUR, status=404)
    world.get(f"dead-letters/{theirs['position']}", status=404)


def test_dead_letters_are_listed_by_position_on_pages_that_join(world: World) -> None:
    letters = world.letters()
    (garbage,) = [letter for letter in letters if letter["body"] == "{garbage of where"]
    assert garbage["reason"].startswith("JSON is malformed")
    assert sorted(letter["kind"] for letter in letters) == ["conflict", "malformed", "malformed"]
    listed = json.loads(world.run("dead-letters", "list", "--limit", "10000", "--json"))
    assert [one for one in listed if one in letters] == letters
    conflicts = world.run("dead-letters", "list", "--limit", "10000", "--kind", "conflict")
    assert "conflict" in conflicts
    assert "malformed" not in conflicts
    world.get("dead-letters?cursor=17", status=400)
    world.get("dead-letters/17", status=400)


def test_a_refused_record_counts_once_corrected_however_often_replayed(
    world: World, tmp_path: Path
) -> None:
    found = world.trace("late")
    assert found["state"] == "refused"
    (refusal,) = found["refusals"]
    assert "time" in refusal["reason"]
    place = refusal["position"]
    assert CLOCK in world.run("dead-letters", "show", place)
    assert "time" in world.run("dead-letters", "replay", place, code=1)
    corrected = tmp_path / "corrected.json"
    corrected.write_text(json.dumps(event("late"), indent=2))
    for _ in range(2):
        world.run("dead-letters", "replay", place, "--edit", str(corrected))
    world.wait_until_counted()
    (counted,) = world.trace("late")["events"]
    assert (len(counted["counts"]), counted["duplicate_count"]) == (2, 1)


def test_a_conflict_is_replayed_only_under_a_new_id(world: World) -> None:
    (conflict,) = world.trace(NAME)["conflicts"]
    place = conflict["position"]
    assert "--force-new-id" in world.run("dead-letters", "replay", place, code=1)
    told = world.run("dead-letters", "replay", place, "--force-new-id")
    *_, show = [line.strip() for line in told.splitlines() if line.strip()]
    assert shlex.split(show) == ["tollbook", "event", "show", SOURCE, f"{NAME}~{place}"]
    world.wait_until_counted()
    (counted,) = world.trace(f"{NAME}~{place}")["events"]
    assert counted["event"]["data"] == {"units": "2"}


def test_an_event_is_pending_while_the_workers_stand_still(world: World) -> None:
    """And all that came before it is said to be counted, nothing that came after."""
    workers = [pid for name, pid in read_stack(world.data_dir).pids.items() if "worker" in name]
    before = datetime.now(UTC)
    try:
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        send(world.stack, world.stack.api_key, event("waits"))
        sent_at = datetime.now(UTC)
        found = world.trace("waits")
        progress = world.get("progress")
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    assert (found["state"], found["events"]) == ("pending", [])
    assert found["lag"] == progress["lag"] >= 1
    assert found["lagging"] == [each for each in progress["partitions"] if each["lag"]]
    complete = datetime.fromisoformat(progress["complete_before"])
    assert before - timedelta(milliseconds=1) <= complete <= sent_at
    world.wait_until_counted()
    assert world.trace("waits")["state"] == "counted"


@pytest.mark.parametrize(
    "away", [{"TOLLBOOK_CLICKHOUSE_URL": "http://o:o@127.0.0.1:1/t"},
             {"TOLLBOOK_KAFKA_BOOTSTRAP": "127.0.0.1:1"}]
)  # fmt: skip
def test_a_server_that_is_away_is_said_to_be(
    world: World, away: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of an event that is said to be unknown."""
    monkeypatch.setattr(kafka_ends, "_ANSWER_SECONDS", 0.2)
    known = {
        "TOLLBOOK_POSTGRES_DSN": world.stack.postgres_dsn,
        "TOLLBOOK_CLICKHOUSE_URL": world.stack.clickhouse_url,
        "TOLLBOOK_KAFKA_BOOTSTRAP": world.stack.kafka_bootstrap,
    }
    with TestClient(build_app(known | away), raise_server_exceptions=False) as client:
        for path in ("progress", "events/s/never"):
            answer = client.get(
                f"/v1/{path}", headers={"Authorization": f"Bearer {world.stack.api_key}"}
            )
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "does not answer" in answer.json()["detail"]


def test_progress_says_how_far_each_partition_is(world: World) -> None:
    before = utc_now()
    found = json.loads(world.run("progress", "--json"))
    assert found["lag"] == 0
    assert found["complete_before"] >= before.isoformat()[:19]
    assert len(found["partitions"]) == 4
    assert any(each["watermark"] for each in found["partitions"])
    assert "is counted" in world.run("progress")
    assert HTTP.get(f"{world.stack.api_url}/v1/progress", timeout=20).status_code == 401
