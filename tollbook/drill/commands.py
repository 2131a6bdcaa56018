"""`tollbook drill`: every fault on purpose, against a stack of its own, checked by a recount."""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.embedded import control
from infra.embedded.errors import StackError
from tollbook.screen import Column, amounts, open_console, show, table_of
from tollbook.stack_commands import bring_up

if TYPE_CHECKING:
    from tollbook.drill.case import Outcome


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(drill)


def drill(
    *,
    seed: Annotated[int, typer.Option(min=0, help="Which events, which moments.")] = 1,
    seconds: Annotated[
        int, typer.Option(min=0, help="Go on with further seeds for so long; 0 is one round.")
    ] = 0,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", help="Only this one; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less events, shorter faults.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="An empty folder; a temporary one if none.")
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the faults and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hurt a stack of its own in every way there is, and recount what it counted.

    What will be sent is written down first. The exit status is 1 if anything differs.
    """
    from tollbook.drill.faults import FAULTS  # noqa: PLC0415 - keeps the command line quick

    if list_them:
        _list(as_json=as_json)
        return
    if unknown := sorted(set(fault or []) - FAULTS.keys()):
        raise StackError(f"there is no fault {unknown[0]}", "See `tollbook drill --list`.")
    folder = data_dir.resolve() if data_dir else Path(tempfile.mkdtemp(prefix="tollbook-drill-"))
    outcomes = _run(folder, fault or list(FAULTS), seed, seconds, quick=quick, as_json=as_json)
    failed = [outcome for outcome in outcomes if outcome.failures]
    if data_dir is None and not failed:
        shutil.rmtree(folder, ignore_errors=True)
    elif failed and not as_json:
        show(f"What was sent, and all logs, are in {folder}")
    if as_json:
        print(json.dumps([content_of(outcome) for outcome in outcomes], indent=1))
    sys.exit(1 if failed else 0)


def _run(
    folder: Path, names: list[str], seed: int, seconds: int, *, quick: bool, as_json: bool
) -> "list[Outcome]":
    """Play the faults, round after round, each with a seed of its own."""
    import time  # noqa: PLC0415

    from tollbook.drill.arena import Arena  # noqa: PLC0415
    from tollbook.drill.case import FULL, QUICK, play  # noqa: PLC0415
    from tollbook.drill.faults import FAULTS  # noqa: PLC0415

    console = open_console(sys.stderr if as_json else None)
    arena = Arena(folder)
    outcomes: list[Outcome] = []
    until = time.monotonic() + seconds
    try:
        arena.open(lambda options: bring_up(console, options))
        while not outcomes or time.monotonic() < until:
            for name in names:
                with console.status(f"seed {seed}: {name}"):
                    outcomes.append(play(arena, FAULTS[name], QUICK if quick else FULL, seed))
                _tell(outcomes[-1], console)
            seed += 1
    finally:
        control.stop(folder, lambda _: None)
    if not as_json:
        show(_table(outcomes))
    return outcomes


def _tell(outcome: "Outcome", console: Any) -> None:
    verdict = "all equal" if not outcome.failures else "DIFFERS"
    line = f"{outcome.fault.name}, seed {outcome.seed}: {verdict}, {outcome.seconds:.0f} s"
    show(line, *(f"  {failure}" for failure in outcome.failures), console=console)


def _table(outcomes: "list[Outcome]") -> Any:
    columns = [
        Column("fault"),
        *amounts("seed", "events", "checked", "restarts", "recovery s"),
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
        print(json.dumps({fault.name: fault.about for fault in FAULTS.values()}, indent=1))
        return
    rows = [[fault.name, fault.about] for fault in FAULTS.values()]
    show(table_of([Column("fault"), Column("what it does", folds=True)], rows))


def content_of(outcome: "Outcome") -> dict[str, Any]:
    """Return what one case did and found as JSON content."""
    return {
        "fault": outcome.fault.name,
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
