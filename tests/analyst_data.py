"""The data of docs/analysts.md: two months of a small tenant, with copies, faults and corrections.

Everything follows from the seed, but for when it arrives; the truth is kept beside it.
"""

import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from tests.analysts import make_tenant
from tests.embedded_stack import HTTP, wait_until
from tests.metering import create_meters, cut_now
from tollbook.stack_file import Stack

TENANT, OWNER_KEY = "handbook", "tb_handbook_owner"
MAY = datetime(2026, 5, 1, tzinfo=UTC)
JULY = datetime(2026, 7, 1, tzinfo=UTC)
SILENT = (datetime(2026, 6, 10, 3, tzinfo=UTC), datetime(2026, 6, 10, 7, tzinfo=UTC))
SUBJECTS = {"aurora": 6, "borealis": 4, "cosmos": 3, "dune": 2, "ember": 1}
MODELS = {"small": 900, "large": 4000}

METERS: list[dict[str, Any]] = [
    {"key": "calls", "aggregation": "count", "dimensions": {"region": "$.region"}},
    {"key": "tokens", "aggregation": "sum", "value": "$.tokens",
     "dimensions": {"model": "$.model", "region": "$.region"}},
    {"key": "users", "aggregation": "unique_count", "value": "$.user"},
]  # fmt: skip


@dataclass
class Handbook:
    """What was sent, and what of it counts in the end."""

    events: list[dict[str, Any]]
    counted: list[dict[str, Any]] = field(default_factory=list)


def load(stack: Stack) -> Handbook:
    """Send everything to a stack, under a tenant of its own, and wait until it is counted."""
    make_tenant(stack, TENANT)
    with psycopg.connect(stack.postgres_dsn) as connection:
        connection.execute(
            "UPDATE tenants SET open_for_history = true WHERE tenant = %s", (TENANT,)
        )
        connection.execute(
            "INSERT INTO api_keys (key_hash, tenant, name, role) VALUES (%s, %s, 'k', 'owner')",
            (hashlib.sha256(OWNER_KEY.encode()).digest(), TENANT),
        )
        connection.execute("INSERT INTO fact_revisions (tenant) VALUES (%s)", (TENANT,))
    known = replace(stack, tenant=TENANT, api_key=OWNER_KEY)
    create_meters(known, [meter | {"event_type": "llm.request"} for meter in METERS])
    book = generate()
    for start in range(0, len(book.events), 400):
        _send(known, book.events[start : start + 400])
    _send(known, [event for event in book.events[:90] if event["source"] == "gateway-b"])
    _send(known, [_changed(book.events[5], tokens="1"), _changed(book.events[6], tokens="1")])
    _send(known, list(_late(datetime.now(UTC))))
    cut_now(known)
    _correct(known, book)
    cut_now(known)
    return book


def generate() -> Handbook:
    """Return the events, three of which have a value that no sum can use."""
    rnd = random.Random(1914)
    names, weights = list(SUBJECTS), list(SUBJECTS.values())
    events: list[dict[str, Any]] = []
    while len(events) < 2000:
        moment = MAY + timedelta(seconds=rnd.randrange(int((JULY - MAY).total_seconds())))
        subject = rnd.choices(names, weights)[0]
        if SILENT[0] <= moment < SILENT[1] or (subject == "ember" and moment.month == 5):
            continue
        model = rnd.choices(list(MODELS), [5, 2])[0]
        tokens = Decimal(rnd.randrange(MODELS[model] * 1000)) / 1000
        number = len(events)
        data = {
            "model": model,
            "region": rnd.choice(["eu", "eu", "us"]),
            "tokens": "many" if number in (700, 701, 1500) else str(tokens),
            "user": f"u{rnd.randrange(60)}",
        }
        source = rnd.choice(["gateway-a", "gateway-b"])
        events.append(_event(f"r{number}", source, subject, moment, "llm.request", data))
    return Handbook(events, list(events))


def _late(now: datetime) -> Iterable[dict[str, Any]]:
    delays = [2] * 12 + [240] * 5 + [5 * 3600] * 3 + [3 * 86_400] * 2
    for number, seconds in enumerate(delays):
        moment = now - timedelta(seconds=seconds)
        yield _event(f"b{number}", "edge", "aurora", moment, "heartbeat", {})


def _event(
    name: str, source: str, subject: str, moment: datetime, kind: str, data: dict[str, Any]
) -> dict[str, Any]:
    named = {"specversion": "1.0", "id": name, "source": source, "type": kind}
    return named | {"subject": subject, "time": moment.isoformat(), "data": data}


def _changed(event: dict[str, Any], **data: str) -> dict[str, Any]:
    return event | {"data": event["data"] | data}


def _send(stack: Stack, events: list[dict[str, Any]]) -> None:
    def status() -> int:
        answer = HTTP.post(
            f"{stack.ingest_url}/v1/events",
            content=json.dumps(events).encode(),
            headers={
                "Authorization": f"Bearer {stack.api_key}",
                "Content-Type": "application/cloudevents-batch+json",
            },
            timeout=30,
        )
        return answer.status_code

    # A new key is known a second later, at most.
    wait_until(lambda: status() == 204, 60)


def _correct(stack: Stack, book: Handbook) -> None:
    """Void one event and amend another, in the stack and in the truth."""
    voided, amended = book.events[10], book.events[11]
    after = _changed(amended, tokens="12.5")
    corrections = [
        {"kind": "void", "source": voided["source"], "id": voided["id"]},
        {"kind": "amend", "source": after["source"], "id": after["id"], "data": after["data"]},
    ]
    answer = HTTP.post(
        f"{stack.api_url}/v1/event-corrections",
        json={"reason": "sent by a test system", "corrections": corrections},
        headers={"Authorization": f"Bearer {stack.api_key}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    book.counted.remove(voided)
    book.counted[book.counted.index(amended)] = after
