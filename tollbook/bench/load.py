"""Events to measure with: about 270 bytes as JSON, four members of data, in ingest's own records.

Each window is touched about equally often, in an order that only the seed decides.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Producer

from ingest.topic import (
    ARROW_CONTENT_TYPE,
    CONTENT_TYPE_HEADER,
    EVENT_SCHEMA,
    TOPIC,
    encode_record,
    partition_of,
)
from tollbook.stack_file import Stack

RECORD_EVENTS = 1_000
DIMENSIONS = {"model": "$.model", "region": "$.region"}
_COMBINATIONS = [
    ("small", "eu"),
    ("small", "us"),
    ("large", "eu"),
    ("large", "us"),
    ("vision", "eu"),
]
_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """How many events, of how many subjects, over how many minutes of event time."""

    events: int = 1_000_000
    subjects: int = 5_000
    minutes: int = 1
    combinations: int = len(_COMBINATIONS)
    name: str = "bench"

    @property
    def event_type(self) -> str:
        """The type of its events, which have meters of their own."""
        return f"{self.name}.e{self.events}.s{self.subjects}.w{self.windows}"

    @property
    def windows(self) -> int:
        """Windows touched, those of both meters."""
        return 2 * min(self.events, self.subjects * self.minutes * self.combinations)

    def __str__(self) -> str:
        return f"{self.subjects:,} subjects, {self.windows:,} touched windows"


def definitions(event_type: str, prefix: str) -> list[dict[str, Any]]:
    """Return two meters with two dimensions each."""
    common = {"event_type": event_type, "dimensions": DIMENSIONS, "window": "1m"}
    return [
        common | {"key": f"{prefix}_calls", "aggregation": "count"},
        common | {"key": f"{prefix}_tokens", "aggregation": "sum", "value": "$.tokens"},
    ]


def records(
    shape: Shape, tenant: str, event_type: str, partitions: int
) -> Iterator[tuple[int, bytes]]:
    """Yield (partition, record); a record holds events of one partition's subjects."""
    dice = np.random.default_rng(1)
    start_us = int((datetime.now(UTC) - timedelta(hours=3)).timestamp()) // 60 * _MINUTE_US
    names = [f"customer-{number}" for number in range(shape.subjects)]
    homes = np.array([partition_of(tenant, name, partitions) for name in names])
    keys = shape.subjects * shape.minutes * shape.combinations
    passes = [dice.permutation(keys) for _ in range(-(-shape.events // keys))]
    wanted = np.concatenate(passes)[: shape.events]
    subjects = wanted % shape.subjects
    for partition in range(partitions):
        own = wanted[homes[subjects] == partition]
        for first in range(0, len(own), RECORD_EVENTS):
            chosen = own[first : first + RECORD_EVENTS]
            yield partition, _record(shape, tenant, event_type, names, chosen, start_us)


def _record(
    shape: Shape, tenant: str, event_type: str, names: Sequence[str], keys: Any, start_us: int
) -> bytes:
    rows = len(keys)
    combinations = keys // shape.subjects % shape.combinations
    minutes = keys // (shape.subjects * shape.combinations)
    data = [
        b'{"tokens":%d,"model":"%s","region":"%s","path":"/v1/chat/completions"}'
        % (1 + key * 7919 % 2000, *(part.encode() for part in _COMBINATIONS[number]))
        for key, number in zip(keys.tolist(), combinations.tolist(), strict=True)
    ]
    columns: list[Any] = [
        [tenant] * rows,
        [str(uuid.uuid4()) for _ in range(rows)],
        ["llm-gateway"] * rows,
        [event_type] * rows,
        [names[number] for number in (keys % shape.subjects).tolist()],
        start_us + minutes * _MINUTE_US + keys % _MINUTE_US,
        [False] * rows,
        data,
        [b""] * rows,
    ]
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns, EVENT_SCHEMA, strict=True)
    ]
    return encode_record(pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA))


def produce(stack: Stack, made: Sequence[tuple[int, bytes]]) -> dict[int, int]:
    """Send records; return the offset after the last per partition."""
    ends: dict[int, int] = {}
    producer = Producer(
        {"bootstrap.servers": stack.kafka_bootstrap, "linger.ms": 5, "compression.type": "lz4"}
    )

    def delivered(_: object, message: Any) -> None:
        ends[message.partition()] = message.offset() + 1

    headers: list[tuple[str, str | bytes | None]] = [(CONTENT_TYPE_HEADER, ARROW_CONTENT_TYPE)]
    for partition, value in made:
        producer.produce(TOPIC, value, partition=partition, headers=headers, on_delivery=delivered)
        producer.poll(0)
    producer.flush()
    return ends
