"""What metering costs, from accepted to stored: CPU-seconds per million events, by process.

The log is filled through ingest's own encoding while the workers run; then the time and CPU until
everything is counted are taken. The events: about 270 bytes as JSON, four members of data, two
meters with two dimensions each.
"""

import random
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import psutil
import pyarrow as pa
import pytest
from confluent_kafka import Producer

from ingest.topic import (
    ARROW_CONTENT_TYPE,
    CONTENT_TYPE_HEADER,
    EVENT_SCHEMA,
    TOPIC,
    encode_record,
    partition_of,
)
from tests.embedded_stack import EmbeddedStack
from tests.metering import create_meters, reader_of
from tollbook.stack_file import Stack

EVENTS = 1_000_000
RECORD_EVENTS = 1_000
PARTITIONS = 4
MEASURED = ("worker-0", "worker-1", "clickhouse", "redis", "kafka")


def records(event_type: str, subjects: int, minutes: int) -> Iterator[tuple[int, bytes]]:
    """Yield (partition, record): each of one partition's subjects."""
    rnd = random.Random(1)
    start_us = int((datetime.now(UTC) - timedelta(hours=2)).timestamp() * 1e6)
    names: list[list[str]] = [[] for _ in range(PARTITIONS)]
    for number in range(subjects):
        name = f"customer-{number}"
        names[partition_of("default", name, PARTITIONS)].append(name)
    texts = [
        b'{"tokens":%d,"model":"%c","region":"%s","path":"/v1/chat"}'
        % (rnd.randrange(1, 2000), rnd.choice(b"abc"), rnd.choice([b"eu", b"us"]))
        for _ in range(5000)
    ]
    for number in range(EVENTS // RECORD_EVENTS):
        of_partition = names[number % PARTITIONS]
        times = start_us + np.arange(RECORD_EVENTS) * (minutes * 60_000_000 // RECORD_EVENTS)
        columns = [
            ["default"] * RECORD_EVENTS,
            [uuid.uuid4().hex for _ in range(RECORD_EVENTS)],
            ["gateway"] * RECORD_EVENTS,
            [event_type] * RECORD_EVENTS,
            rnd.choices(of_partition, k=RECORD_EVENTS),
            times,
            [False] * RECORD_EVENTS,
            rnd.choices(texts, k=RECORD_EVENTS),
            [b""] * RECORD_EVENTS,
        ]
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, EVENT_SCHEMA, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA)
        yield number % PARTITIONS, encode_record(batch)


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """Return the CPU-seconds of each process so far."""
    found = {}
    for name in MEASURED:
        times = psutil.Process(stack.pids[name]).cpu_times()
        found[name] = times.user + times.system
    return found


def produce(stack: Stack, made: list[tuple[int, bytes]]) -> dict[int, int]:
    """Send records; return the offset after the last per partition."""
    ends: dict[int, int] = {}
    producer = Producer(
        {"bootstrap.servers": stack.kafka_bootstrap, "linger.ms": 5, "compression.type": "lz4"}
    )

    def delivered(_: object, message: object) -> None:
        ends[message.partition()] = message.offset() + 1  # type: ignore[attr-defined]

    for partition, value in made:
        headers: list[tuple[str, str | bytes | None]] = [(CONTENT_TYPE_HEADER, ARROW_CONTENT_TYPE)]
        producer.produce(TOPIC, value, partition=partition, headers=headers, on_delivery=delivered)
        producer.poll(0)
    producer.flush()
    return ends


@pytest.mark.parametrize(("subjects", "minutes"), [(5_000, 10), (5_000, 90)])
def test_cost_of_metering(stack: EmbeddedStack, subjects: int, minutes: int) -> None:
    known = stack.read()
    name = f"bench.s{subjects}.m{minutes}"
    dimensions = {"model": "$.model", "region": "$.region"}
    prefix = name.replace(".", "_")
    common = {"event_type": name, "dimensions": dimensions, "window": "1m"}
    create_meters(
        known,
        [
            common | {"key": f"{prefix}_calls", "aggregation": "count"},
            common | {"key": f"{prefix}_tokens", "aggregation": "sum", "value": "$.tokens"},
        ],
    )
    made = list(records(name, subjects, minutes))
    reader = reader_of(known)
    before, started = cpu_seconds(known), time.monotonic()
    ends = produce(known, made)
    while any(
        reader.chain.progress()[at] < ends.get(at.partition, 0) for at in reader.chain.progress()
    ):
        time.sleep(0.1)
    seconds = time.monotonic() - started
    spent = {part: cpu_seconds(known)[part] - before[part] for part in MEASURED}
    millions = EVENTS / 1e6
    shown = ", ".join(f"{part} {cpu / millions:.2f}" for part, cpu in spent.items())
    workers = (spent["worker-0"] + spent["worker-1"]) / millions
    print(  # noqa: T201
        f"\n{subjects:,} subjects, {minutes} minutes of windows: {EVENTS / seconds:,.0f} events/s;"
        f" CPU-seconds per million events: workers {workers:.2f} ({shown})"
    )
