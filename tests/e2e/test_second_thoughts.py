"""Events are taken back, changed and brought back; every total follows, and what was said stays."""

import json
import random
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from pipelines.position import LogPartition
from pipelines.postgres_replacements import PostgresReplacements
from tests.embedded_stack import HTTP, EmbeddedStack
from tests.feed import Truth, utc_now
from tests.metering import create_meters, cut_now, quantities
from tollbook import cli
from tollbook.stack_file import Stack

ROUTE = "/v1/event-corrections"


def call(stack: Stack, method: str, path: str, content: Any = None, **parameters: Any) -> Any:
    return HTTP.request(
        method,
        f"{stack.api_url}{path}",
        json=content,
        params=parameters,
        headers={"Authorization": f"Bearer {stack.api_key}"},
        timeout=60,
    )


def post(stack: Stack, events: list[dict[str, Any]]) -> None:
    headers = {
        "Authorization": f"Bearer {stack.api_key}",
        "Content-Type": "application/cloudevents-batch+json",
    }
    content = json.dumps(events).encode()
    answer = HTTP.post(f"{stack.ingest_url}/v1/events", content=content, headers=headers)
    assert answer.status_code == 204, answer.text


def correct(stack: Stack, *corrections: dict[str, Any], status: int = 200) -> Any:
    body = {"reason": "a test thought again", "corrections": list(corrections)}
    answer = call(stack, "POST", ROUTE, body)
    assert answer.status_code == status, answer.text
    return answer.json()


def named(event: dict[str, Any], kind: str, **changes: Any) -> dict[str, Any]:
    return {"kind": kind, "source": event["source"], "id": event["id"], **changes}


def think_again(rnd: random.Random, truth: Truth) -> tuple[list[dict[str, Any]], Truth]:
    """Return corrections of some events, and the truth as it then is."""
    corrections, live = [], []
    for event in truth.events:
        changed, dice = deepcopy(event), rnd.random()
        if dice < 0.1:
            corrections.append(named(event, "void"))
            continue
        if dice < 0.2:
            changed["data"]["units"] = str(rnd.randrange(10**6))
            changed["data"]["who"] = rnd.randrange(200)
            corrections.append(named(event, "amend", data=changed["data"]))
        elif dice < 0.3:
            moment = datetime.fromisoformat(event["time"]) - timedelta(seconds=rnd.randrange(9000))
            changed["time"] = moment.isoformat()
            corrections.append(named(event, "amend", time=changed["time"]))
        elif dice < 0.35:
            corrections += [named(event, "void"), named(event, "restore")]
        live.append(changed)
    return corrections, Truth(truth.event_type, truth.start, truth.end, live)


def check(stack: Stack, truth: Truth) -> None:
    cut, expected = cut_now(stack), truth.expected()
    for definition in truth.definitions():
        name = definition["key"].rsplit("_", 1)[1]
        assert quantities(stack, cut, definition["key"], truth) == expected[name], name


def test_totals_of_every_aggregation_follow_and_those_of_an_earlier_cut_stay(
    stack: EmbeddedStack,
) -> None:
    known = stack.read()
    truth = Truth.generate(31, 600, "thoughts", utc_now())
    create_meters(known, truth.definitions())
    post(known, truth.events)
    before = cut_now(known)
    keys = [definition["key"] for definition in truth.definitions()]
    then = [quantities(known, before, key, truth) for key in keys]
    corrections, now = think_again(random.Random(1), truth)
    for first in range(0, len(corrections), 100):
        done = correct(known, *corrections[first : first + 100])["corrections"]
        assert {each["state"] for each in done} == {"applied"}
    check(known, now)
    assert [quantities(known, before, key, truth) for key in keys] == then
    listed = call(known, "GET", ROUTE, since=before.number, limit=500).json()["items"]
    assert len(listed) == len(corrections)
    restored = [named(event, "restore") for event in truth.events]
    for first in range(0, len(restored), 200):
        correct(known, *restored[first : first + 200])
    check(known, truth)


def test_asking_again_does_nothing_again(stack: EmbeddedStack) -> None:
    known = stack.read()
    truth = Truth.generate(32, 5, "thoughts.twice", utc_now())
    create_meters(known, truth.definitions())
    post(known, truth.events)
    cut_now(known)
    (once,) = correct(known, named(truth.events[0], "void"))["corrections"]
    (again,) = correct(known, named(truth.events[0], "void"))["corrections"]
    assert (once["state"], once["revision"]) == ("applied", 1)
    assert (again["state"], again["revision"], again["position"]) == ("already", 1, None)
    ahead = named(truth.events[0], "amend", time="2999-01-01T00:00:00Z")
    assert correct(known, ahead, status=422)["reason_code"] == "bad-time"


def test_an_event_that_is_not_there_and_nonsense_are_refused(stack: EmbeddedStack) -> None:
    known = stack.read()
    cut_now(known)
    unknown = {"kind": "void", "source": "nobody", "id": "never sent"}
    assert correct(known, unknown, status=404)["reason_code"] == "unknown-event"
    nonsenses: list[dict[str, Any]] = [
        unknown | {"kind": "amend"},
        unknown | {"data": {}},
        unknown | {"position": "somewhere"},
        unknown | {"kind": "delete"},
        unknown | {"kind": "amend", "time": "noon"},
    ]
    for nonsense in nonsenses:
        assert correct(known, nonsense, status=422 if "time" not in nonsense else 404)
    answer = HTTP.post(f"{known.api_url}{ROUTE}", json={}, timeout=10)
    assert answer.status_code == 401


def test_an_event_tells_what_was_done_to_it(stack: EmbeddedStack) -> None:
    known = stack.read()
    truth = Truth.generate(33, 3, "thoughts.told", utc_now())
    create_meters(known, truth.definitions())
    post(known, truth.events)
    cut_now(known)
    event = truth.events[0]
    correct(known, named(event, "amend", data={"units": "12.50"}), named(event, "void"))
    traced = call(known, "GET", f"/v1/events/tests/{event['id']}").json()
    assert traced["state"] == "voided"
    (found,) = traced["events"]
    assert not found["is_live"]
    assert found["counts"] == []
    assert found["event"]["data"] == event["data"]
    first, second = found["corrections"]
    assert (first["kind"], first["before"]["data"]) == ("amend", event["data"])
    assert first["after"]["data"] == second["before"]["data"] == {"units": "12.50"}
    assert second["after"] is None
    assert first["reason"] == "a test thought again"
    assert first["author"]


def opened(stack: Stack, truth: Truth, start: datetime, end: datetime) -> str:
    body = {
        "from": start.isoformat(), "to": end.isoformat(), "type": truth.event_type,
        "reason": "the clocks were wrong",
    }  # fmt: skip
    answer = call(stack, "POST", "/v1/replacements", body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["state"] == "open"
    return str(answer.json()["name"])


def in_range(event: dict[str, Any], start: datetime, end: datetime) -> bool:
    return start <= datetime.fromisoformat(event["time"]) < end


def test_a_range_is_replaced_as_a_whole_at_its_close_and_brought_back_by_reverting(
    stack: EmbeddedStack,
) -> None:
    known = stack.read()
    now = utc_now()
    truth = Truth.generate(35, 400, "replaced", now)
    create_meters(known, truth.definitions())
    post(known, truth.events)
    cut_now(known)
    correct(known, named(truth.events[0], "void"))
    was = Truth(truth.event_type, truth.start, truth.end, truth.events[1:])
    start, end = now - timedelta(hours=1, minutes=7), now - timedelta(minutes=20, seconds=13)
    name = opened(known, truth, start, end)
    others = Truth.generate(36, 300, "replaced", now).events
    wanted = [
        event | {"id": f"new-{event['id']}"} for event in others if in_range(event, start, end)
    ]
    post(known, [event | {"replacement": name} for event in wanted])
    check(known, was)
    held = call(known, "GET", f"/v1/events/tests/{wanted[0]['id']}").json()
    assert held["state"] == "held"
    before = cut_now(known)
    closed = call(known, "POST", f"/v1/replacements/{name}/close")
    assert closed.json() == {"name": name, "state": "closed", "is_counted": True}
    kept = [event for event in was.events if not in_range(event, start, end)]
    replaced = Truth(truth.event_type, truth.start, truth.end, kept + wanted)
    check(known, replaced)
    post(known, [others[0] | {"id": "stray", "replacement": name}])
    again = call(known, "POST", f"/v1/replacements/{name}/close")
    assert again.status_code == 409, again.text
    between = quantities(known, before, "replaced_units", truth)
    assert between == was.expected()["units"]
    reverted = call(known, "POST", f"/v1/replacements/{name}/revert")
    assert reverted.json()["state"] == "reverted"
    check(known, was)
    letters = call(known, "GET", "/v1/dead-letters", kind="refused", limit=500).json()["items"]
    assert any("is closed" in letter["reason"] for letter in letters)


def test_a_cut_that_has_one_record_of_a_close_has_all_of_them(stack: EmbeddedStack) -> None:
    known = stack.read()
    now = utc_now()
    truth = Truth.generate(37, 100, "replaced.whole", now)
    create_meters(known, truth.definitions())
    post(known, truth.events)
    cut_now(known)
    name = opened(known, truth, truth.start, truth.end)
    assert call(known, "POST", f"/v1/replacements/{name}/close").status_code == 200
    with psycopg.connect(known.postgres_dsn) as connection:
        row = connection.execute(
            "SELECT closed_at FROM replacements WHERE name = %s", (name,)
        ).fetchone()
    assert row is not None
    cuts = PostgresReplacements(psycopg.connect(known.postgres_dsn))
    places = {LogPartition(log, number): offset for log, number, offset in row[0]}
    first = min(places)
    below = dict(places)
    assert cuts.raised(known.tenant, below) == below
    raised = cuts.raised(known.tenant, below | {first: places[first] + 1})
    assert raised == {at: offset + 1 for at, offset in places.items()}


@pytest.mark.parametrize("as_json", [True, False])
def test_the_commands_do_and_show_the_same(stack: EmbeddedStack, *, as_json: bool) -> None:
    known = stack.read()
    truth = Truth.generate(34, 2, f"thoughts.commands{int(as_json)}", utc_now())
    create_meters(known, truth.definitions())
    post(known, truth.events)
    cut_now(known)
    event = truth.events[0]

    def run(*arguments: str) -> str:
        options = ["--data-dir", str(stack.data_dir), *(["--json"] if as_json else [])]
        done = CliRunner().invoke(cli.build(), ["event", *arguments, *options])
        assert done.exit_code == 0, done.output
        return done.output

    name = (event["source"], event["id"])
    voided = run("void", *name, "--reason", "wrong region")
    assert json.loads(voided)["state"] == "applied" if as_json else "void is done" in voided
    amended = run("amend", *name, "--reason", "right one", "--data", '{"units":"1"}')
    assert json.loads(amended)["revision"] == 2 if as_json else "revision 2" in amended
    shown = run("show", *name)
    if as_json:
        assert json.loads(shown)["events"][0]["is_live"]
    else:
        assert "revision 1: void by" in shown
        assert "right one" in shown
    assert "wrong region" in run("corrections", "--limit", "10000")
