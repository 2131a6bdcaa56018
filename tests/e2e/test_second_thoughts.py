"""Events are taken back, changed and brought back."""

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tests.embedded_stack import EmbeddedStack
from tests.feed import Truth, utc_now
from tests.metering import create_meters, cut_now
from tollbook import cli
from tollbook.stack_file import Stack

ROUTE = "/v1/event-corrections"


def call(stack: Stack, method: str, path: str, content: Any = None, **parameters: Any) -> Any:
    return httpx.request(
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
    answer = httpx.post(f"{stack.ingest_url}/v1/events", content=content, headers=headers)
    assert answer.status_code == 204, answer.text


def correct(stack: Stack, *corrections: dict[str, Any], status: int = 200) -> Any:
    body = {"reason": "a test thought again", "corrections": list(corrections)}
    answer = call(stack, "POST", ROUTE, body)
    assert answer.status_code == status, answer.text
    return answer.json()


def named(event: dict[str, Any], kind: str, **changes: Any) -> dict[str, Any]:
    return {"kind": kind, "source": event["source"], "id": event["id"], **changes}


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
    answer = httpx.post(f"{known.api_url}{ROUTE}", json={}, timeout=10)
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
    assert "wrong region" in run("corrections")
