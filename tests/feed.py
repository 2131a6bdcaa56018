"""A sender that never gives up, and the truth of what it sent."""

import json
import math
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import httpx

from tests.embedded_stack import HTTP
from tollbook.stack_file import Stack

ANSWER_SECONDS = 20.0
TRIES_MAX = 200


@dataclass
class Truth:
    """Events as sent, once each; the oracle recounts them with nothing of ours."""

    event_type: str
    start: datetime
    end: datetime
    events: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    resends: int = 0

    @classmethod
    def generate(cls, seed: int, count: int, event_type: str, now: datetime) -> "Truth":
        """Return `count` events over the two hours before `now`, in no order."""
        rnd = random.Random(seed)
        truth = cls(event_type, now - timedelta(days=1), now + timedelta(days=1))
        for number in range(count):
            units = Decimal(rnd.randrange(1, 10**7)) / 10**4
            truth.events.append(
                {
                    "specversion": "1.0",
                    "id": f"{event_type}-{number}",
                    "source": "tests",
                    "type": event_type,
                    "subject": f"s{rnd.randrange(40)}",
                    "time": (
                        now - timedelta(microseconds=number + rnd.randrange(7200) * 10**6)
                    ).isoformat(),
                    "data": {
                        "region": rnd.choice("ab"),
                        "units": str(units),
                        "who": rnd.randrange(100),
                    },
                }
            )
        return truth

    def expected(self) -> dict[str, dict[str, Decimal]]:
        """Recount: per meter and subject."""
        of_subject: dict[str, list[dict[str, Any]]] = {}
        for event in self.events:
            of_subject.setdefault(event["subject"], []).append(event["data"])
        found: dict[str, dict[str, Decimal]] = {}
        for subject, data in of_subject.items():
            units = sorted(Decimal(each["units"]) for each in data)
            mean = Fraction(sum(units, Decimal(0))) / len(units)
            answers = {
                "calls": Decimal(len(data)),
                "units": sum(units, Decimal(0)),
                "least": units[0],
                "top": units[-1],
                "mean": Decimal(int(mean * 10**12 + Fraction(1, 2))) / 10**12,
                "p90": units[math.ceil(Fraction(90 * len(units), 100)) - 1],
                "who": Decimal(len({each["who"] for each in data})),
                "last": Decimal(self._last(subject)),
            }
            for name, value in answers.items():
                found.setdefault(name, {})[subject] = value
        return found

    def _last(self, subject: str) -> str:
        own = [event for event in self.events if event["subject"] == subject]
        last = max(datetime.fromisoformat(event["time"]) for event in own)
        return next(
            str(event["data"]["units"])
            for event in own
            if datetime.fromisoformat(event["time"]) == last
        )

    def definitions(self) -> list[dict[str, Any]]:
        """Return the meters that `expected` recounts."""
        shapes: list[dict[str, Any]] = [
            {"key": "calls", "aggregation": "count", "dimensions": {"region": "$.region"}},
            {"key": "units", "aggregation": "sum", "value": "$.units"},
            {"key": "least", "aggregation": "min", "value": "$.units"},
            {"key": "top", "aggregation": "max", "value": "$.units"},
            {"key": "mean", "aggregation": "avg", "value": "$.units"},
            {"key": "p90", "aggregation": "percentile", "value": "$.units", "percentile": "90"},
            {"key": "who", "aggregation": "unique_count", "value": "$.who"},
            {"key": "last", "aggregation": "latest", "value": "$.units"},
        ]
        prefix = self.event_type.replace(".", "_")
        return [s | {"key": f"{prefix}_{s['key']}", "event_type": self.event_type} for s in shapes]

    def batches(self, rnd: random.Random, size: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the events in batches, a tenth of them again in some later batch."""
        late: list[dict[str, Any]] = []
        for start in range(0, len(self.events), size):
            batch = self.events[start : start + size]
            again = [event for event in late if rnd.random() < 0.5]
            late = [event for event in late if event not in again]
            late += [event for event in batch if rnd.random() < 0.1]
            yield batch + again
        yield late


def send_all(truth: Truth, ingest_url: str, api_key: str, *, seed: int, size: int) -> None:
    """Send every batch until it is accepted, four at a time; some accepted ones again."""
    rnd = random.Random(seed)
    batches = list(truth.batches(rnd, size))
    repeats = {number for number in range(len(batches)) if rnd.random() < 0.1}
    headers = {
        "Authorization": f"Bearer {api_key}",
        "Content-Type": "application/cloudevents-batch+json",
    }
    lock = threading.Lock()

    def send(number: int, client: httpx.Client) -> None:
        body = json.dumps(batches[number]).encode()
        for _ in range(TRIES_MAX):
            with lock:
                truth.requests += 1
            try:
                answer = client.post(f"{ingest_url}/v1/events", content=body, headers=headers)
            except httpx.TransportError:
                status = 0
            else:
                status = answer.status_code
            if status == 204:
                return
            assert status in {0, 503}, f"{status}: an honest event was refused"
            with lock:
                truth.resends += 1
            time.sleep(0.1)
        raise AssertionError("ingest did not come back")

    with httpx.Client(timeout=ANSWER_SECONDS) as client, ThreadPoolExecutor(4) as pool:
        order = [*range(len(batches)), *sorted(repeats)]
        for done in [pool.submit(send, number, client) for number in order]:
            done.result()


def utc_now() -> datetime:
    """Return the present, to whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def post(stack: Stack, events: Sequence[Mapping[str, object]]) -> None:
    """Send events in one request, which has to be acknowledged."""
    answer = HTTP.post(
        f"{stack.ingest_url}/v1/events",
        content=json.dumps(events).encode(),
        headers={
            "Authorization": f"Bearer {stack.api_key}",
            "Content-Type": "application/cloudevents-batch+json",
        },
        timeout=20,
    )
    assert answer.status_code == 204, answer.text
