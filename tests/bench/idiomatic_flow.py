"""The alternative, as tutorials write it: each event an object, in Bytewax's own operators.

Run as `python -m tests.bench.idiomatic_flow BOOTSTRAP TOPIC REDIS_URL`; prints how many windows it
counted and its own CPU-seconds, start not included. It keeps none of our guarantees.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import redis
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

Total = tuple[int, int]


class _Count(StatelessSinkPartition[Any]):
    def __init__(self, found: list[int]) -> None:
        self._found = found

    def write_batch(self, items: list[Any]) -> None:
        self._found.append(len(items))


class _Counter(DynamicSink[Any]):
    def __init__(self, found: list[int]) -> None:
        self._found = found

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Count:
        del step_id, worker_index, worker_count
        return _Count(self._found)


def _key(event: dict[str, Any]) -> str:
    data = event["data"]
    return f"{event['subject']}|{data['model']}|{data['region']}"


def build(bootstrap: str, topic: str, memory: redis.Redis, found: list[int]) -> Dataflow:
    """Return the dataflow: parse, dedupe, key, fold per minute."""

    def is_new(event: dict[str, Any]) -> bool:
        name = f"seen:{event['source']}:{event['id']}"
        return memory.set(name, 1, nx=True, ex=86_400) is not None

    def added(total: Total, event: dict[str, Any]) -> Total:
        return total[0] + 1, total[1] + event["data"]["tokens"]

    flow = Dataflow("idiomatic")
    source = KafkaSource([bootstrap], [topic], tail=False, batch_size=1000)
    messages: Any = op.input("messages", flow, source)
    events: Any = op.map("parse", messages, lambda message: json.loads(message.value))
    fresh: Any = op.filter("dedupe", events, is_new)
    keyed: Any = op.key_on("key", fresh, _key)
    clock: Any = win.EventClock(
        lambda event: datetime.fromisoformat(event["time"]),
        wait_for_system_duration=timedelta(seconds=10),
    )
    windower = win.TumblingWindower(
        length=timedelta(minutes=1), align_to=datetime(2025, 1, 1, tzinfo=UTC)
    )
    totals: Any = win.fold_window(
        "fold",
        keyed,
        clock,
        windower,
        lambda: (0, 0),
        added,
        lambda left, right: (left[0] + right[0], left[1] + right[1]),
    )
    op.output("count", totals.down, _Counter(found))
    return flow


def main() -> None:
    """Count a topic to its end."""
    bootstrap, topic, redis_url = sys.argv[1:]
    found: list[int] = []
    flow = build(bootstrap, topic, redis.Redis.from_url(redis_url), found)
    before = time.process_time()
    cli_main(flow)  # type: ignore[no-untyped-call]
    told = {"windows": sum(found), "cpu_seconds": time.process_time() - before}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
