"""Meters made while events flow count all of them, exactly, also when the seeder is killed."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.embedded_stack import HTTP, EmbeddedStack, run_tollbook
from tests.feed import Truth, send_all, utc_now
from tests.metering import check_totals, create_meters, cut_now, quantities, reader_of
from tollbook.stack_file import Stack
from tollbook.usage_wiring import open_clickhouse

LIVE_SECONDS = 120.0


def call(stack: Stack, method: str, path: str, **given: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {stack.api_key}"} | given.pop("headers", {})
    return HTTP.request(method, f"{stack.api_url}{path}", headers=headers, timeout=60, **given)


def create(stack: Stack, shape: Mapping[str, Any]) -> None:
    answer = call(stack, "POST", "/v1/meters", json=dict(shape))
    assert answer.status_code == 201, answer.text


def state_of(stack: Stack, key: str) -> str:
    return str(call(stack, "GET", f"/v1/meters/{key}").json()["state"])


def await_live(stack: Stack, keys: list[str], meanwhile: Callable[[], None]) -> None:
    deadline = time.monotonic() + LIVE_SECONDS
    while any(state_of(stack, key) != "live" for key in keys):
        assert time.monotonic() < deadline, [(key, state_of(stack, key)) for key in keys]
        meanwhile()
        time.sleep(0.1)


@contextmanager
def sending(stack: Stack, truth: Truth, seed: int) -> Iterator[None]:
    """Send all of the truth in the background."""
    faults: list[BaseException] = []

    def send() -> None:
        try:
            send_all(truth, stack.ingest_url, stack.api_key, seed=seed, size=20)
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            faults.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not faults, faults


def test_a_meter_made_among_flowing_events_counts_all_of_them_when_it_says_live(
    stack: EmbeddedStack,
) -> None:
    known = stack.read()
    now = utc_now()
    early = Truth.generate(21, 3000, "later", now)
    flowing = Truth.generate(22, 6000, "later", now)
    for number, event in enumerate(flowing.events):
        event["id"] = f"flowing-{number}"
    both = Truth("later", early.start, early.end, early.events + flowing.events)
    send_all(early, known.ingest_url, known.api_key, seed=1, size=200)
    keys = [shape["key"] for shape in both.definitions()]
    with sending(known, flowing, 2):
        for shape in both.definitions():
            create(known, shape)
        await_live(known, keys, lambda: None)
        # A count over all that this cut holds, by an engine that knows nothing of meters.
        cut = cut_now(known)
        found = quantities(known, cut, "later_calls", both)
        assert sum(found.values()) == stored_below(known, cut.number, "later")
    check_totals(known, both)


def stored_below(stack: Stack, cut: int, event_type: str) -> int:
    with psycopg.connect(stack.postgres_dsn) as connection:
        places = connection.execute(
            "SELECT log, partition, next_offset FROM cut_offsets WHERE tenant = %s AND number = %s",
            (stack.tenant, cut),
        ).fetchall()
    where = " OR ".join(f"(log={log} AND partition={p} AND offset<{o})" for log, p, o in places)
    client = open_clickhouse(stack.clickhouse_url)
    sql = f"SELECT uniqExact(id) FROM usage_events WHERE type = '{event_type}' AND ({where})"
    return int(client.query(sql).result_rows[0][0])


def test_a_seeder_killed_again_and_again_counts_nothing_twice(stack: EmbeddedStack) -> None:
    known = stack.read()
    truth = Truth.generate(23, 4000, "killed.seeder", utc_now())
    send_all(truth, known.ingest_url, known.api_key, seed=3, size=200)
    create_meters(known, truth.definitions())
    keys = [shape["key"] for shape in truth.definitions()]
    kills: list[int] = []

    def kill() -> None:
        state = stack.part("seeder")
        if len(kills) < 4 and state.pid and state.pid not in kills:
            kills.append(state.pid)
            os.kill(state.pid, signal.SIGKILL)

    await_live(known, keys, kill)
    assert kills
    check_totals(known, truth)


def test_a_cut_from_before_a_meter_was_activated_is_exact(stack: EmbeddedStack) -> None:
    """Its history rows hold more than the cut: what the cut holds is folded from raw events."""
    known = stack.read()
    truth = Truth.generate(24, 900, "before.cut", utc_now())
    early = Truth(truth.event_type, truth.start, truth.end, truth.events[:400])
    send_all(early, known.ingest_url, known.api_key, seed=4, size=100)
    between = datetime.now(UTC)
    rest = Truth(truth.event_type, truth.start, truth.end, truth.events[400:])
    send_all(rest, known.ingest_url, known.api_key, seed=5, size=100)
    create_meters(known, truth.definitions())
    await_live(known, [shape["key"] for shape in truth.definitions()], lambda: None)
    cut = reader_of(known).fix_cut(known.tenant, between)
    expected = early.expected()
    for shape in truth.definitions():
        name = shape["key"].rsplit("_", 1)[1]
        assert quantities(known, cut, shape["key"], truth) == expected[name], name
    check_totals(known, truth)


def test_a_change_counts_from_its_instant_on_and_is_unseen_by_cuts_fixed_before(
    stack: EmbeddedStack,
) -> None:
    known = stack.read()
    truth = Truth.generate(25, 600, "changes.later", utc_now())
    shape = {"key": "changing", "event_type": "changes.later", "aggregation": "sum"}
    create(known, shape | {"value": "$.units"})
    send_all(truth, known.ingest_url, known.api_key, seed=6, size=100)
    before = cut_now(known)
    boundary = utc_now().replace(minute=0, second=0) - timedelta(hours=1)
    change = shape | {"value": "data.who * 2", "effective_at": boundary.isoformat()}
    assert call(known, "POST", "/v1/meters", json=change).status_code == 201
    await_live(known, ["changing"], lambda: None)
    after = cut_now(known)

    def total(use_old: Callable[[datetime], bool]) -> dict[str, Decimal]:
        found: dict[str, Decimal] = {}
        for event in truth.events:
            is_old = use_old(datetime.fromisoformat(str(event["time"])))
            data = event["data"]
            value = Decimal(data["units"]) if is_old else Decimal(data["who"] * 2)
            found[event["subject"]] = found.get(event["subject"], Decimal(0)) + value
        return found

    assert quantities(known, before, "changing", truth) == total(lambda _: True)
    assert quantities(known, after, "changing", truth) == total(lambda time: time < boundary)


def test_meters_are_created_once_changed_by_version_and_archived_over_http(
    stack: EmbeddedStack,
) -> None:
    known = stack.read()
    shape: dict[str, Any] = {"key": "lives", "event_type": "lives", "aggregation": "count"}
    created = call(known, "POST", "/v1/meters", json=shape)
    assert (created.status_code, created.json()["version"]) == (201, 1)
    again = call(known, "POST", "/v1/meters", json=shape)
    assert (again.status_code, again.json()["version"]) == (200, 1)
    slow = shape | {"filter": "data.name.startsWith('x')"}
    headers = {"Idempotency-Key": "change-lives"}
    changed = [call(known, "POST", "/v1/meters", json=slow, headers=headers) for _ in range(2)]
    assert [(one.status_code, one.json()["version"]) for one in changed] == [(201, 2), (201, 2)]
    assert [one.headers.get("idempotent-replayed") for one in changed] == [None, "true"]
    assert changed[0].json()["slow"] is True
    other = call(known, "POST", "/v1/meters", json=shape, headers=headers)
    assert other.status_code == 422
    archived = call(known, "POST", "/v1/meters/lives/archive")
    assert (archived.status_code, archived.json()["state"]) == (201, "archived")
    found = call(known, "GET", "/v1/meters/lives").json()
    assert [one["state"] == "archived" for one in found["versions"]] == [False, False, True]
    assert call(known, "GET", "/v1/meters/nothing").status_code == 404


def test_a_faulty_definition_is_refused_with_field_and_position(stack: EmbeddedStack) -> None:
    known = stack.read()
    shape = {"key": "faulty", "event_type": "f", "aggregation": "sum", "value": "data.a +"}
    answer = call(known, "POST", "/v1/meters", json=shape)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    [error] = answer.json()["errors"]
    assert (error["field"], error["position"]) == ("value", {"line": 1, "column": 9})
    assert error["caret"] == "data.a +\n        ^"
    assert call(known, "POST", "/v1/meters", json=[1]).status_code == 422
    assert call(known, "GET", "/v1/meters/faulty").status_code == 404


def test_meters_are_made_tried_shown_and_archived_by_command(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    def tollbook(*words: str) -> subprocess.CompletedProcess[str]:
        return run_tollbook("meter", *words, "--data-dir", str(stack.data_dir))

    file = tmp_path / "meters.yaml"
    file.write_text(
        "meters:\n- key: by_hand\n  event_type: h\n  aggregation: count\n  filter: 1 +\n"
    )
    refused = tollbook("create", str(file))
    assert refused.returncode == 1
    assert f"{file}:5: filter: column 4: it ends where something is missing" in refused.stderr
    known = stack.read()
    truth = Truth.generate(26, 30, "h", utc_now())
    send_all(truth, known.ingest_url, known.api_key, seed=7, size=30)
    cut_now(known)
    file.write_text(file.read_text().replace("1 +", "data.region == 'a'"))
    [tried] = json.loads(tollbook("backtest", str(file), "--json").stdout)
    region_a = sum(event["data"]["region"] == "a" for event in truth.events)
    assert (tried["events"], tried["rejected"]) == (30, 0)
    assert sum(int(row["value"]) for row in tried["subjects"]) == region_a
    assert call(known, "GET", "/v1/meters/by_hand").status_code == 404
    [created] = json.loads(tollbook("create", str(file), "--json").stdout)
    assert (created["key"], created["version"]) == ("by_hand", 1)
    assert "by_hand" in tollbook("list").stdout
    [archived] = json.loads(tollbook("archive", "by_hand", "--json").stdout)
    assert (archived["version"], archived["state"]) == (2, "archived")
    versions = json.loads(tollbook("show", "by_hand", "--json").stdout)["versions"]
    assert [each["version"] for each in versions] == [1, 2]
    assert "there is no meter nothing" in tollbook("show", "nothing").stderr
