"""What metering costs by process, beside its targets, and beside what others would do.

Prints, asserts no times. CPU-seconds per million events stay the same on a busy machine.
"""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from ingest.topic import decode_record
from tests.embedded_stack import EmbeddedStack, wait_until
from tests.forks import REPOSITORY
from tollbook.bench.figure import Figure, costs_table, figures_table
from tollbook.bench.latency import measure_latency
from tollbook.bench.load import Shape, records
from tollbook.bench.metering import cpu_seconds, measure_metering
from tollbook.bench.recount import measure_recount
from tollbook.screen import show
from tollbook.stack_file import Stack

# Slow machines are for measuring on, too.
pytestmark = pytest.mark.timeout(1_800)

FEW = Shape()
MANY = Shape(minutes=20)
PLAIN_EVENTS = 20_000
CHEAPER_TIMES_TARGET = 30


def tell(figures: list[Figure]) -> None:
    """Print figures as `tollbook bench` does."""
    show("", figures_table(figures))


@pytest.mark.parametrize("shape", [FEW, MANY], ids=str)
def test_cost_by_touched_windows(stack: EmbeddedStack, shape: Shape) -> None:
    tell(measure_metering(stack.read(), shape))


def test_cost_by_subjects(stack: EmbeddedStack) -> None:
    """Each subject with one window, and then with so many that all have two million together."""
    known, events = stack.read(), 1_000_000
    one_window = [Shape(events, subjects, 1, 1) for subjects in (10_000, 100_000, events)]
    as_many = [Shape(events, subjects, events // subjects, 1) for subjects in (10_000, 100_000)]
    figures = [each for shape in one_window + as_many for each in measure_metering(known, shape)]
    show(f"{events:,} events, {len(os.sched_getaffinity(0))} cores", costs_table(figures))


def test_cost_by_workers(tmp_path: Path) -> None:
    figures: list[Figure] = []
    for workers in (1, 2, 4):
        stack = EmbeddedStack(tmp_path / f"{workers}", ("--workers", str(workers)))
        stack.up()
        try:
            figures += measure_metering(stack.read(), FEW)
        finally:
            stack.down()
    show(f"{FEW.events:,} events, {len(os.sched_getaffinity(0))} cores", costs_table(figures))


def test_accepted_to_queryable(stack: EmbeddedStack) -> None:
    tell(measure_latency(stack.read(), 30))


def test_side_by_side_with_an_idiomatic_flow_and_with_recounting(stack: EmbeddedStack) -> None:
    known = stack.read()
    shape = Shape(300_000)
    ours = measure_metering(known, shape)
    workers = next(figure for figure in ours if figure.name == "metering: workers")
    flow, memory = idiomatic(known, Shape(PLAIN_EVENTS))
    where = f"{PLAIN_EVENTS:,} of the same events as JSON, one a message"
    unit = "CPU-s per million events"
    tell(
        [
            *ours,
            Figure("per-event Bytewax: worker", flow, unit, where),
            Figure("per-event Bytewax: redis", memory, unit, where),
            Figure(
                f"per-event Bytewax costs so many times more (target: over {CHEAPER_TIMES_TARGET})",
                flow / workers.value,
                "times",
                where,
            ),
            measure_recount(known, shape),
        ]
    )


def idiomatic(stack: Stack, shape: Shape) -> tuple[float, float]:
    """Return what the idiomatic flow and its Redis spend, in CPU-seconds per million events."""
    topic = f"bench.idiomatic.{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "linger.ms": 5})
    for event in plain_events(shape):
        producer.produce(topic, event)
        producer.poll(0)
    producer.flush()
    before = cpu_seconds(stack.pids)["redis"]
    command = [sys.executable, "-P", "-m", "tests.bench.idiomatic_flow"]
    done = subprocess.run(
        [*command, stack.kafka_bootstrap, topic, stack.redis_url],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    # It counts something, or its cost says nothing.
    assert told["windows"] > 0, done.stdout
    spent = cpu_seconds(stack.pids)["redis"] - before
    return told["cpu_seconds"] / shape.events * 1e6, spent / shape.events * 1e6


def plain_events(shape: Shape) -> Iterator[bytes]:
    """Yield the events of a shape as structured JSON, one by one."""
    for _, value in records(shape, "default", "bench.idiomatic", 1):
        for event in pa.Table.from_batches([decode_record(value)]).to_pylist():
            body = {name: event[name] for name in ("id", "source", "type", "subject")}
            body |= {
                "specversion": "1.0",
                "time": event["time"].isoformat(),
                "data": json.loads(event["data"]),
            }
            yield json.dumps(body).encode()


def test_a_worker_killed_amid_a_million_windows_counts_again(stack: EmbeddedStack) -> None:
    """What was counted in memory is counted again from the log, and then what came since."""
    known = stack.read()
    shape = Shape(minutes=20, name="kill")
    tell(measure_metering(known, shape))
    pid = known.pids["worker-0"]
    started = time.monotonic()
    psutil.Process(pid).kill()
    wait_until(lambda: stack.read().pids.get("worker-0", pid) != pid, 60)
    stack.wait_until_all_ready(120)
    ready = time.monotonic() - started
    again = measure_metering(stack.read(), Shape(50_000, name="again"))
    caught_up = time.monotonic() - started
    where = "killed with a million windows touched; then 50,000 events more"
    tell(
        [
            *again,
            Figure("restart of a killed worker", ready, "s", where),
            Figure("counts again after a kill", caught_up, "s", where, 20),
        ]
    )
