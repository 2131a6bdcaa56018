"""Copies that never met: under other subjects, in another log. Each identity counts once."""

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.e2e.log_world import newest, put, tollbook
from tests.embedded_stack import HTTP, EmbeddedStack, wait_until
from tests.feed import Truth, post, utc_now
from tests.forks import REPOSITORY
from tests.metering import check_totals, create_meters, cut_now, quantities, reader_of
from tollbook.stack_file import Stack
from tollbook.usage_wiring import open_clickhouse

SUBJECTS = [f"other-{number}" for number in range(6)]


def answers(stack: Stack, truth: Truth, number: int) -> str:
    """Return all that is answered as of a cut, byte by byte."""
    reader = reader_of(stack)
    cut = reader.cut(stack.tenant, number)
    keys = [f"audit_copies_{name}" for name in ("units", "top", "mean")]
    return json.dumps(
        [[key, sorted(quantities(stack, cut, key, truth).items())] for key in keys], default=str
    )


def ask(stack: Stack, path: str) -> Any:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    answer = HTTP.get(f"{stack.api_url}{path}", headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def copies_counted(stack: Stack, truth: Truth, number: int) -> dict[str, Decimal]:
    """Return what counts under the subjects of copies, as of a cut."""
    strange = Truth(
        truth.event_type, truth.start, truth.end, [{"subject": name} for name in SUBJECTS]
    )
    cut = reader_of(stack).cut(stack.tenant, number)
    found = {}
    for name in ("calls", "who"):
        for subject, value in quantities(stack, cut, f"audit_copies_{name}", strange).items():
            found[f"{name} {subject}"] = value
    return found


def test_each_identity_counts_once_whatever_subject_log_or_body_its_copies_have(
    own: EmbeddedStack,
) -> None:
    known = own.read()
    truth = Truth.generate(11, 300, "audit.copies", utc_now())
    create_meters(known, truth.definitions())
    post(known, truth.events)
    first = cut_now(known)
    before = answers(known, truth, first.number)

    # The same ids under other subjects: some as they were, some with another body.
    copies = [
        event
        | {"subject": SUBJECTS[number % 6]}
        | ({"data": event["data"] | {"units": "999.5"}} if number % 3 == 0 else {})
        for number, event in enumerate(truth.events[:120])
    ]
    post(known, copies)
    assert copies_counted(known, truth, first.number) == {}
    second = cut_now(known)
    check_totals(known, truth)
    assert copies_counted(known, truth, second.number) == {}
    assert answers(known, truth, first.number) == before
    assert answers(known, truth, second.number) == before
    shown = tollbook(own, "cut", "show", str(second.number))["audit"]
    # With two partitions about half of the copies met what they are of: those are the workers'.
    assert 20 < shown["voided"] < 100
    assert shown["conflicts"] == shown["voided"], "another subject is another body"
    assert len(shown["copies"]) == shown["voided"]

    # In another log the same ids under their own subjects: the survivors of before stay.
    opened = tollbook(own, "log", "open", "--partitions", "3")
    wait_until(lambda: f"events go into log {opened['log']}" in own.log("ingest"), 60)
    post(known, truth.events[50:150])
    third = cut_now(known)
    shown = tollbook(own, "cut", "show", str(third.number))["audit"]
    assert (shown["voided"], shown["conflicts"]) == (100, 0)
    for number in (first.number, second.number, third.number):
        assert answers(known, truth, number) == before
    assert copies_counted(known, truth, third.number) == {}

    path = f"/v1/cuts/{third.number}/changes?since={second.number}&limit=500"
    changed = ask(known, path)["items"]
    touched = {row["subject"] for row in changed if row["meter"] == "audit_copies_units"}
    assert touched >= {event["subject"] for event in truth.events[50:150]}

    stored = ask(known, f"/v1/events/tests/{truth.events[60]['id']}")["events"]
    live = [each for each in stored if each["is_live"]]
    assert len(stored) >= 2
    assert len(live) == 1
    assert {each["duplicate_of"] for each in stored} == {None, live[0]["position"]}
    letters = ask(known, "/v1/dead-letters?kind=conflict&limit=500")["items"]
    assert len([each for each in letters if "audit.copies" in json.dumps(each)]) == 120
    rows = open_clickhouse(known.clickhouse_url).query(
        "SELECT count(), uniqExact(id) FROM events WHERE type = 'audit.copies'"
    )
    assert rows.result_rows[0] == (300, 300)


def test_an_interval_that_divides_windows_leaves_copies_out_too(own: EmbeddedStack) -> None:
    """Edges are read raw; the piece of a segment that a cut divides is, too."""
    known = own.read()
    truth = Truth.generate(12, 200, "audit.edges", utc_now())
    create_meters(known, truth.definitions())
    post(known, truth.events)
    copies = [event | {"subject": SUBJECTS[0]} for event in truth.events[:80]]
    log = newest(own)
    for event in copies:
        put(known, log["topic"], 0, event)
    cut = cut_now(known)
    middle = truth.start + (truth.end - truth.start) / 2 - timedelta(seconds=1234)
    for start, end in ((truth.start, middle), (middle, truth.end)):
        inside = [
            event for event in truth.events if start <= datetime.fromisoformat(event["time"]) < end
        ]
        asked = Truth(truth.event_type, start, end, inside)
        found = quantities(known, cut, "audit_edges_units", asked)
        assert found == asked.expected().get("units", {})


def test_a_tenant_is_audited_by_itself_when_it_is_time_and_the_status_says_so(
    own: EmbeddedStack,
) -> None:
    known = own.read()
    truth = Truth.generate(13, 20, "audit.daily", utc_now())
    post(known, truth.events)
    before = len(tollbook(own, "cut", "list"))
    log = newest(own)
    # Copies that no partition can see, whichever their events are in.
    for number in range(log["partitions"]):
        put(known, log["topic"], number, truth.events[0] | {"subject": SUBJECTS[number]})
    addresses = {
        "TOLLBOOK_KAFKA_BOOTSTRAP": known.kafka_bootstrap,
        "TOLLBOOK_POSTGRES_DSN": known.postgres_dsn,
        "TOLLBOOK_CLICKHOUSE_URL": known.clickhouse_url,
        "TOLLBOOK_AUDIT_SECONDS": "1",
    }
    auditor = subprocess.Popen(
        [sys.executable, "-P", "-m", "pipelines.auditor"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **addresses},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert auditor.stderr is not None
    said = next(line for line in auditor.stderr if "audited tenant=" in line)
    auditor.terminate()
    auditor.stderr.read()
    assert auditor.wait(60) == 0
    cuts = tollbook(own, "cut", "list")
    assert f"cut={cuts[before]['number']} " in said
    shown = tollbook(own, "cut", "show", str(cuts[before]["number"]))["audit"]
    assert shown["voided"] == log["partitions"] - 1, "in one partition the worker saw it"
    wait_until(lambda: "last audit" in own.part("auditor").note, 20)
