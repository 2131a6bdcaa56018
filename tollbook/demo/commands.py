"""`tollbook demo`: the whole of Tollbook on a year of real flights, checked by a recount."""

import json
import shutil
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.embedded.errors import StackError
from tollbook.demo.failure import DemoError

if TYPE_CHECKING:
    from tollbook.demo.show import Show


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    *,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="An empty folder; a temporary one if none is named."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running.")] = False,
    months: Annotated[int, typer.Option(min=1, max=12, help="How many months to play.")] = 12,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print figures as JSON; the show goes to stderr.")
    ] = False,
) -> None:
    """Bill a year of real flights on a stack of real servers, and recount every row.

    The exit status is 1 if anything differs from the recount.
    """
    from tollbook.demo.screens import open_console  # noqa: PLC0415 - keeps the command line quick
    from tollbook.demo.show import Show  # noqa: PLC0415

    folder = _empty_folder(data_dir)
    show = Show(open_console(to_stderr=as_json), folder, months, keep)
    try:
        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            show.run()
    except DemoError as error:
        typer.secho(f"tollbook: {error}", fg="red", err=True)
        raise typer.Exit(1) from error
    finally:
        if data_dir is None and not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        print(json.dumps(_figures(show), indent=1))
    raise typer.Exit(1 if show.figures["differences"] else 0)


def _figures(show: "Show") -> dict[str, object]:
    checks = [
        {
            "name": check.name,
            "compared": check.compared,
            "total": check.total,
            "differences": len(check.differences),
        }
        for check in show.checks
    ]
    seconds = {name: round(value, 1) for name, value in show.seconds_by_phase.items()}
    return show.figures | {"checks": checks, "seconds": seconds}


def _empty_folder(data_dir: Path | None) -> Path:
    """Return the folder to play in.

    Raises:
        StackError: it holds something, which the recount would not know of.
    """
    if data_dir is None:
        return Path(tempfile.mkdtemp(prefix="tollbook-demo-"))
    folder = data_dir.resolve()
    if folder.exists() and any(folder.iterdir()):
        raise StackError(f"{data_dir} is not empty", "The demo wants an empty or a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
