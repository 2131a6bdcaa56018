"""`tollbook up`, `down` and `status`: the embedded stack from the command line."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.console import Console

from infra.embedded import control
from infra.embedded.board import StackState, read_state
from infra.embedded.cleaning import count_of as count_of_processes
from infra.embedded.cleaning import leftovers
from infra.embedded.errors import StackError
from infra.embedded.jars import cache_directory, fetch_jars, missing_jars, read_lock
from tollbook.command_group import group
from tollbook.screen import bold, count_of, open_console, show
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack
from tollbook.stack_view import (
    StartView,
    alarm_lines,
    download_progress,
    note_lines,
    status_table,
)

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Where the stack keeps its data.", show_default=True)
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    group(app, "scale", "Change how many processes share the work.").command("workers")(workers)


def up(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when all answers; leave it running.")
    ] = False,
    port: Annotated[
        list[str] | None,
        typer.Option("--port", metavar="NAME=NUMBER", help="A port to use, e.g. ingest=8080."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Dataflow workers.")] = 2,
    ingest_processes: Annotated[int, typer.Option(min=1, max=64, help="Ingest processes.")] = 1,
    partitions: Annotated[
        int, typer.Option(min=1, max=256, help="Partitions of the usage topic, when it is made.")
    ] = 4,
) -> None:
    """Bring up the whole stack: Kafka, Redis, Postgres, ClickHouse, ingest, workers, API."""
    console = open_console()
    options = control.UpOptions(
        data_dir=data_dir.resolve(),
        detach=detach,
        ports=_told_ports(port or []),
        workers=workers,
        ingest_processes=ingest_processes,
        partitions=partitions,
    )
    known = read_state(options.data_dir)
    is_ours = known is None or not known.is_up
    if known is not None and known.is_up and known.phase == "ready":
        console.print(f"The stack in {data_dir} is up already.")
        console.print(status_table(known))
        return
    try:
        state = bring_up(console, options)
    except KeyboardInterrupt:
        console.print("\nStopped before it was ready; nothing is left running.")
        raise typer.Exit(130) from None
    console.print(bold(f"\nReady after {state.ready_at - state.started_at:.1f} s."))
    _print_addresses(console, data_dir)
    if is_ours and not detach:
        _stay(console, options.data_dir, seen=state.events[-1][0])


def bring_up(console: Console, options: control.UpOptions) -> StackState:
    """Start a stack and show its parts while they start; return it when all answer."""
    control.check_ground(options)
    _fetch_jars(console)
    with StartView(console) as view:
        return control.start(options, view.show)


def down(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """End the stack; its data stays."""
    console = open_console()
    _take_down(console, data_dir.resolve())


def status(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every part of the stack; the exit status is 1 unless all are ready."""
    state = read_state(data_dir.resolve())
    if state is None or not state.is_up:
        left = len(leftovers(data_dir.resolve()))
        if left:
            raise StackError(
                f"the stack in {data_dir} was killed, with {count_of_processes(left)} left over",
                "End them with `tollbook down`, or go on with `tollbook up`, which ends them too.",
            )
        raise StackError(
            f"no stack is up in {data_dir}",
            f"Start one with `tollbook up --detach --data-dir {quote(str(data_dir))}`.",
        )
    parts = state.parts.values()
    healthy = all(part.state in {"ready", "done"} and not part.alarms for part in parts)
    if as_json:
        print(json.dumps(asdict(state), indent=1))
    else:
        show(status_table(state), *note_lines(state), *alarm_lines(state))
    raise typer.Exit(0 if healthy and state.phase == "ready" else 1)


def workers(
    number: Annotated[int, typer.Argument(min=1, max=256, help="How many there are to be.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Have the partitions counted by so many workers; no total moves, whatever flows meanwhile."""
    state = control.scale(data_dir.resolve(), number, lambda _: None)
    show(f"{count_of(state.workers, 'worker')} share the partitions.")


def _told_ports(words: list[str]) -> dict[str, int]:
    ports = {}
    for word in words:
        name, _, number = word.partition("=")
        if not name or not (number.isascii() and number.isdigit()):
            raise typer.BadParameter(
                f"{word!r} is not NAME=NUMBER, such as ingest=8080", param_hint="--port"
            )
        if not 0 < int(number) < 65_536:
            raise typer.BadParameter(
                f"{word!r}: ports are numbers from 1 to 65535", param_hint="--port"
            )
        ports[name] = int(number)
    return ports


def _fetch_jars(console: Console) -> None:
    directory = cache_directory() / "jars"
    missing = missing_jars(read_lock(), directory)
    if not missing:
        return
    with download_progress(console, missing) as advance:
        fetch_jars(missing, directory, advance)


def _print_addresses(console: Console, data_dir: Path) -> None:
    stack = read_stack(data_dir.resolve())
    console.print(f"  events     {stack.ingest_url}/v1/events")
    console.print(f"  API        {stack.api_url}")
    console.print(f"  addresses and the API key are in {data_dir / 'stack.json'}", soft_wrap=True)


def _stay(console: Console, data_dir: Path, *, seen: int) -> None:
    """Show what happens after event `seen` until Ctrl-C, then take the stack down."""
    console.print("\nCtrl-C ends it.\n")
    try:
        while True:
            state = read_state(data_dir)
            if state is None or not state.is_up:
                raise StackError("the stack has ended", "Start it again with `tollbook up`.")
            seen = _print_events(console, state, seen)
            time.sleep(0.2)
    except KeyboardInterrupt:
        console.print()
        _take_down(console, data_dir)


def _print_events(console: Console, state: StackState, seen: int) -> int:
    for number, at, text in state.events:
        if number > seen:
            console.print(f"{time.strftime('%H:%M:%S', time.localtime(at))}  {text}")
    return max((number for number, _, _ in state.events), default=seen)


def _take_down(console: Console, data_dir: Path) -> None:
    began = time.monotonic()
    with console.status("stopping"):
        ended = control.stop(data_dir, lambda _: None)
    if ended:
        console.print(f"Ended {count_of_processes(ended)} that a killed stack had left.")
    console.print(f"Stopped after {time.monotonic() - began:.1f} s; the data stays in {data_dir}.")
