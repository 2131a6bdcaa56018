"""`tollbook drill`: every fault on purpose, against a stack of its own, checked by a recount."""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.embedded.errors import StackError
from tollbook.screen import Column, amounts, bold, open_console, show, table_of
from tollbook.stack_commands import bring_up

if TYPE_CHECKING:
    from rich.console import Console

    from tollbook.drill.case import Outcome


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(drill)


def drill(
    *,
    faults: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CASE]...", help="Only these; `--list` shows which there are."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Also the long cases; many times the events, longer faults: up to an hour.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Which events, and which moments.")] = 1,
    minutes: Annotated[
        int, typer.Option(min=0, help="Go on with further seeds for so long; 0 is one round.")
    ] = 0,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="An empty folder for the stack.", show_default="temporary"),
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the cases, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hurt a stack in every way there is, and recount what it has counted.

    The stack is one that the drill starts, and takes down again; no other is touched. What will be
    sent is written down first, and each answer, stored event and refusal is compared with that.
    The exit status is 1 if anything differs.
    """
    from tollbook.drill.arena import ArenaError  # noqa: PLC0415 - keeps the command line quick
    from tollbook.drill.faults import FAULTS  # noqa: PLC0415

    if list_them:
        _list(as_json=as_json)
        return
    if unknown := sorted(set(faults or []) - FAULTS.keys()):
        raise StackError(f"there is no case {unknown[0]}", "See `tollbook drill --list`.")
    chosen = faults or [f.name for f in FAULTS.values() if everything or not f.is_long]
    names = [name for name in FAULTS if name in chosen]
    if data_dir is not None and data_dir.exists() and any(data_dir.iterdir()):
        raise StackError(
            f"{data_dir} is not empty, and a drill hurts only a stack that it has started",
            "Name an empty folder, or none: then the drill makes one.",
        )
    folder = data_dir.resolve() if data_dir else Path(tempfile.mkdtemp(prefix="tollbook-drill-"))
    console = open_console(sys.stderr if as_json else None)
    outcomes: list[Outcome] = []
    try:
        _run(console, folder, names, seed, 60 * minutes, outcomes, everything=everything)
    except KeyboardInterrupt:
        show("Stopped; nothing is left running.", console=console)
        status = 130
    except ArenaError as error:
        show(f"The drill cannot go on: {error}", console=console)
        status = 1
    else:
        status = 1 if any(outcome.failures for outcome in outcomes) else 0
    if as_json:
        print(json.dumps([content_of(outcome) for outcome in outcomes], indent=1))
    else:
        show(_table(outcomes))
    if data_dir is None and status != 1:
        shutil.rmtree(folder, ignore_errors=True)
    elif status == 1:
        show(f"What was sent, and all logs, are in {folder}", console=console)
    raise typer.Exit(status)


def _run(
    console: "Console",
    folder: Path,
    names: list[str],
    seed: int,
    seconds: float,
    outcomes: "list[Outcome]",
    *,
    everything: bool,
) -> None:
    """Play the cases, round after round, each round with a seed of its own."""
    from tollbook.drill.arena import Arena  # noqa: PLC0415
    from tollbook.drill.case import BRIEF, FULL, attempt  # noqa: PLC0415
    from tollbook.drill.faults import FAULTS  # noqa: PLC0415

    arena = Arena(folder)
    until = time.monotonic() + seconds
    try:
        arena.open(lambda options: bring_up(console, options))
        while not outcomes or time.monotonic() < until:
            for number, name in enumerate(names, 1):
                with console.status(f"seed {seed}, case {number} of {len(names)}: {name}"):
                    scale = FULL if everything else BRIEF
                    outcomes.append(attempt(arena, FAULTS[name], scale, seed))
                _tell(outcomes[-1], f"{number}/{len(names)}", console)
            seed += 1
            names = [name for name in names if not FAULTS[name].is_last] or names
    finally:
        with console.status("taking the stack down"):
            arena.close()


def _tell(outcome: "Outcome", place: str, console: "Console") -> None:
    verdict = "equal" if not outcome.failures else bold("DIFFERS")
    line = f"{place:>5}  {outcome.fault.name:<26} {outcome.seconds:6.1f} s  {verdict}"
    show(line, *(f"       {failure}" for failure in outcome.failures), console=console)


def _table(outcomes: "list[Outcome]") -> Any:
    columns = [
        Column("case"),
        *amounts("seed", "events", "checked", "restarts", "seconds", "healed s"),
        Column("result"),
        Column("what was done", folds=True),
    ]
    rows = [
        [
            outcome.fault.name,
            f"{outcome.seed}",
            f"{outcome.events:,}",
            f"{sum(check.looked_at for check in outcome.checks):,}",
            f"{outcome.restarts:,}",
            f"{outcome.seconds:.1f}",
            f"{outcome.recovery_s:.1f}",
            "differs" if outcome.failures else "equal",
            ", ".join(f"{what} x{count}" for what, count in outcome.struck.items()),
        ]
        for outcome in outcomes
    ]
    return table_of(columns, rows)


def _list(*, as_json: bool) -> None:
    from tollbook.drill.faults import FAULTS  # noqa: PLC0415

    if as_json:
        found = [
            {"case": fault.name, "about": fault.about, "only_with_all": fault.is_long}
            for fault in FAULTS.values()
        ]
        print(json.dumps(found, indent=1))
        return
    rows = [
        [fault.name, "--all" if fault.is_long else "", fault.about] for fault in FAULTS.values()
    ]
    show(table_of([Column("case"), Column("only with"), Column("what it does", folds=True)], rows))


def content_of(outcome: "Outcome") -> dict[str, Any]:
    """Return what one case did and found as JSON content."""
    return {
        "case": outcome.fault.name,
        "about": outcome.fault.about,
        "seed": outcome.seed,
        "events": outcome.events,
        "seconds": round(outcome.seconds, 1),
        "recovery_seconds": round(outcome.recovery_s, 1),
        "done": dict(outcome.struck),
        "worker_restarts": outcome.restarts,
        "answers_by_status": {str(status): count for status, count in outcome.statuses.items()},
        "checks": [
            {
                "invariant": check.invariant,
                "about": check.about,
                "looked_at": check.looked_at,
                "differences": check.differences,
            }
            for check in outcome.checks
        ],
        "equal": not outcome.failures,
    }
