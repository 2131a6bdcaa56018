"""A source most of whose events are bad stops, and says so; released, each event counts once.

On real servers, from the first unreadable record of a producer that does not go through ingest.
"""

import json
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from ingest.topic import partition_of
from tests.conftest import BAD_EVENTS_MAX
from tests.e2e.test_where_is_my_event import NOON, produce_at
from tests.embedded_stack import EmbeddedStack, wait_until
from tests.feed import post
from tests.metering import create_meters
from tollbook import cli

SOURCE = "tests/a broken one"
SUBJECT = "q"


def event(event_id: str, source: str = SOURCE) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": event_id, "source": source, "subject": SUBJECT,
        "type": "quarantined", "time": NOON.isoformat(), "data": {"units": "1.5"},
    }  # fmt: skip


def run(data_dir: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli.build(), [*arguments, "--data-dir", str(data_dir)])
    assert done.exit_code == code, done.output
    return f"{done.output}{done.exception or ''}"


def ask(data_dir: Path, *arguments: str) -> Any:
    return json.loads(run(data_dir, *arguments, "--json"))


def alarms(data_dir: Path) -> list[str]:
    done = CliRunner().invoke(cli.build(), ["status", "--json", "--data-dir", str(data_dir)])
    parts = json.loads(done.output)["parts"].values()
    return [alarm for part in parts for alarm in part["alarms"] if SOURCE in alarm]


def test_a_source_that_turns_bad_is_set_aside_until_it_is_released_and_then_counts_once(
    stack: EmbeddedStack,
) -> None:
    known, home = stack.read(), stack.data_dir
    meter = {"key": "quarantined", "event_type": "quarantined", "aggregation": "count"}
    create_meters(known, [meter | {"window": "1h"}])
    post(known, [event("before")])
    partition = partition_of(known.tenant, SUBJECT, 4)
    unreadable = json.dumps({"source": SOURCE, "id": "nonsense"}).encode()
    surplus = 7
    produce_at(known, partition, *[unreadable] * (BAD_EVENTS_MAX + surplus), tenant=known.tenant)
    wait_until(lambda: any(SOURCE in alarm for alarm in alarms(home)), 30)
    post(known, [event("one"), event("fine", "tests/another"), event("two"), event("before")])

    def state(event_id: str, source: str = SOURCE) -> str:
        return str(ask(home, "event", "show", source, event_id)["state"])

    wait_until(lambda: ask(home, "progress")["lag"] == 0, 20)
    assert [state("before"), state("one"), state("two")] == ["counted", *["quarantined"] * 2]
    assert state("fine", "tests/another") == "counted"
    assert "quarantine list" in run(home, "progress")
    listed = ask(home, "quarantine", "list")
    (ours,) = [each for each in listed if each["source"] == SOURCE]
    assert ours["state"] == "quarantined"
    assert ours["partitions"] == [f"0/{partition}"]
    assert (ours["waiting"], ours["unreadable"], ours["released"]) == (3, surplus, 0)
    letters = ask(home, "dead-letters", "list", "--limit", "10000")
    assert sum(SOURCE in letter.get("body", "") for letter in letters) == BAD_EVENTS_MAX
    shown = ask(home, "quarantine", "show", SOURCE)
    assert [each["body"] for each in shown[:surplus]] == [unreadable.decode()] * surplus
    assert [json.loads(each["body"])["id"] for each in shown[surplus:]] == ["one", "two", "before"]
    assert shown[0]["body"] in run(home, "dead-letters", "show", shown[0]["position"])
    assert "set aside" in run(home, "quarantine", "release", "tests/no such source", code=1)

    done = ask(home, "quarantine", "release", SOURCE)
    assert done == {"source": SOURCE, "sent": 3, "unreadable": surplus, "is_counted": True}
    post(known, [event("two"), event("after")])
    wait_until(lambda: ask(home, "progress")["lag"] == 0, 20)
    assert [state(each) for each in ("before", "one", "two", "after")] == ["counted"] * 4
    window = ("--from", NOON.isoformat(), "--to", NOON.replace(hour=13).isoformat())
    found = ask(home, "usage", "query", "quarantined", *window, "--window", "1h")
    assert [row["value"] for row in found["rows"]] == ["5"]
    headers = {"Authorization": f"Bearer {known.api_key}"}
    with httpx.Client(base_url=f"{known.api_url}/v1/", headers=headers, timeout=20) as api:
        items = api.get("quarantine").json()["items"]
        (ours,) = [each for each in items if each["source"] == SOURCE]
        assert (ours["state"], ours["waiting"], ours["released"]) == ("released", 0, 3)
        page = api.get("quarantine/items", params={"source": SOURCE, "limit": 4}).json()
        assert page["items"] == shown[:4]
        rest = api.get("quarantine/items", params={"source": SOURCE, "cursor": page["next"]})
        assert rest.json()["items"] == shown[4:]
        again = api.post("quarantine/releases", json={"source": SOURCE})
        assert (again.status_code, again.json()["sent"]) == (200, 0)
        unknown = api.post("quarantine/releases", json={"source": "tests/no such source"})
        assert unknown.status_code == 404
    assert SOURCE in run(home, "quarantine", "list")
    wait_until(lambda: not alarms(home), 60)
