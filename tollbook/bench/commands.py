"""`tollbook bench`: what a stack of its own costs and how fast it is, beside what it should."""

import json
from typing import Annotated

import typer
from rich.console import Console

from tollbook.screen import open_console, show


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
    from tollbook.bench.figure import figures_table  # noqa: PLC0415 - keeps the command line quick
    from tollbook.bench.run import measure  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    figures = list(measure(console, quick=quick))
    if as_json:
        print(json.dumps([figure.to_content() for figure in figures], indent=1))
    else:
        show(figures_table(figures), console=open_console())
