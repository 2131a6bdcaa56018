"""`tollbook clock show`, `start` and `advance`: what time it is for a tenant."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tollbook.command_group import group
from tollbook.screen import count_of, show
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to work on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    clock = group(app, "clock", "Time: the world's, or a test tenant's own.")
    clock.command("show")(show_clock)
    clock.command("start")(start)
    clock.command("advance")(advance)


def show_clock(data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """Show what time it is for the tenant."""
    from tollbook import clock_runs  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        clock = clock_runs.read(connection, stack.tenant)
    if as_json:
        print(json.dumps(clock_runs.shown(clock)))
        return
    whose = "its own clock" if clock.is_virtual else "the world's clock"
    show(f"{clock.at:%Y-%m-%dT%H:%M:%SZ} by {whose}")


def start(
    at: Annotated[str, typer.Option(help="The instant from which it goes.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """Give a tenant without subscriptions a clock of its own, for tests."""
    from tollbook import clock_runs  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415
    from tollbook.usage_question import read_instant  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    instant = read_instant("at", at)
    assert instant is not None  # noqa: S101 - it is given
    with open_database(stack) as connection:
        clock = clock_runs.start(connection, stack.tenant, instant)
    if as_json:
        print(json.dumps(clock_runs.shown(clock)))
    else:
        show(f"It is {clock.at:%Y-%m-%dT%H:%M:%SZ} until you advance it.")


def advance(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    to: Annotated[str | None, typer.Option(help="An instant, such as 2013-02-01T00:00Z.")] = None,
    by: Annotated[str | None, typer.Option(help="A span, such as 1 month or 36 hours.")] = None,
    closes: Annotated[
        bool, typer.Option("--close", help="Close each month on the way as it is over.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Advance the tenant's own clock; what falls due on the way is done and billed in order."""
    from tollbook import clock_runs  # noqa: PLC0415
    from tollbook.billing_commands import shown_progress  # noqa: PLC0415
    from tollbook.invoice_commands import invoice_table  # noqa: PLC0415
    from tollbook.usage_question import read_instant  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with shown_progress(quiet=as_json) as progress:
        done = clock_runs.advance(stack, read_instant("to", to), by, progress, closes=closes)
    if as_json:
        print(json.dumps(done))
        return
    if done["documents"]:
        show(invoice_table(done["documents"]))
    what = (
        f"{count_of(done['work_done'], 'change')}, {count_of(len(done['documents']), 'document')}"
    )
    show(f"It is {done['at']}: {what} on the way.")
