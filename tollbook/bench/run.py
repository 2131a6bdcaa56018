"""Runs the measurements of `tollbook bench`, each on a stack of its own in a temporary folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from infra.embedded import control
from tollbook.bench.figure import Figure
from tollbook.bench.latency import measure_latency, measure_recovery
from tollbook.bench.load import Shape
from tollbook.bench.metering import measure_metering
from tollbook.bench.recount import measure_recount
from tollbook.stack_commands import bring_up
from tollbook.stack_file import Stack, read_stack


def measure(console: Console, *, quick: bool) -> Iterator[Figure]:
    """Yield figures as they are measured."""
    events = 200_000 if quick else 1_000_000
    shapes = [Shape(events), Shape(events, minutes=20)]
    if not quick:
        shapes += [Shape(events, subjects, 1, 1) for subjects in (10_000, 100_000, 1_000_000)]
    with _stack(console, workers=2) as stack:
        for shape in shapes:
            console.print(f"metering {events:,} events: {shape}")
            yield from measure_metering(stack, shape)
        yield measure_recount(stack, shapes[0])
        console.print("accepted to queryable")
        yield from measure_latency(stack, 5 if quick else 30)
        console.print("a worker is killed")
        yield measure_recovery(stack, 6 if quick else 30)
    for workers in () if quick else (1, 4):
        with _stack(console, workers=workers) as stack:
            console.print(f"metering with {workers} workers")
            yield from measure_metering(stack, Shape(events))


@contextmanager
def _stack(console: Console, workers: int) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="tollbook-bench-") as folder:
        data_dir = Path(folder).resolve()
        options = control.UpOptions(data_dir=data_dir, detach=True, workers=workers)
        try:
            bring_up(console, options)
            yield read_stack(data_dir)
        finally:
            control.stop(data_dir, lambda _: None)
