"""`tollbook bench`: what a stack of its own costs and how fast it is, beside what it should."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.embedded import control
from tollbook.bench.figure import Figure, figures_table
from tollbook.bench.latency import measure_latency
from tollbook.bench.load import Shape
from tollbook.bench.metering import measure_metering
from tollbook.bench.recount import measure_recount
from tollbook.screen import open_console, show
from tollbook.stack_commands import bring_up
from tollbook.stack_file import Stack, read_stack


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(bench)


def bench(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="A fifth of the events, and fewer configurations.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure what metering costs, on a stack of its own in a temporary folder.

    CPU-seconds per million events stay the same on a busy machine; rates and latencies want it
    idle. Each figure stands beside its target and the configuration that it holds for.
    """
    console = Console(stderr=True, highlight=False)
    figures = list(_measure(console, quick=quick))
    if as_json:
        print(json.dumps([figure.to_content() for figure in figures], indent=1))
    else:
        show(figures_table(figures), console=open_console())


def _measure(console: Console, *, quick: bool) -> Iterator[Figure]:
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
