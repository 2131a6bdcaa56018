"""`tollbook apply`, `bill` and `close`: from declared facts to issued invoices."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from infra.embedded.errors import StackError
from tollbook import (
    invoice_commands,
    price_book_backtest,
    price_book_commands,
    price_book_migration,
    price_book_versions,
)
from tollbook.screen import Cell, Column, count_of, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack

if TYPE_CHECKING:
    from billing.postgres_catalog import Applied

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to work on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_STYLES = {"created": "green", "changed": "yellow", "unchanged": "dim"}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(apply)
    app.command()(bill)
    app.command()(close)
    invoice_commands.register(app)
    price_book_commands.register(app)
    price_book_versions.register(app)
    price_book_backtest.register(app)
    price_book_migration.register(app)


def apply(
    files: Annotated[list[Path], typer.Argument(help="YAML files.", metavar="FILE...")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """Make declared meters, price books, customers, subscriptions and wallets known.

    All files are checked as one before anything is applied; applying again changes nothing.
    """
    from billing.postgres_catalog import DeclarationError  # noqa: PLC0415
    from billing.postgres_catalog import apply as apply_declared  # noqa: PLC0415
    from tollbook import billing_wiring as wiring  # noqa: PLC0415

    declared = wiring.read_files(files)
    stack = read_stack(data_dir.resolve())
    applied: list[Applied] = []
    try:
        with wiring.open_database(stack) as connection:
            applied = apply_declared(connection, stack.tenant, declared, datetime.now(UTC))
    except DeclarationError:
        for fault in sorted(set(declared.faults)):
            typer.secho(str(fault), fg="red", err=True)
        count = len(set(declared.faults))
        things = "fault" if count == 1 else "faults"
        typer.secho(f"tollbook: nothing was applied: {count} {things}", fg="red", err=True)
        raise typer.Exit(1) from None
    wiring.activate_meters(stack)
    if as_json:
        print(json.dumps([{"kind": a.kind, "key": a.key, "outcome": a.outcome, "detail": a.detail}
                          for a in applied]))  # fmt: skip
        return
    show_applied(applied)


def show_applied(applied: "Sequence[Applied]") -> None:
    """Print what became of each declared thing, and how many of each there are."""
    rows: list[tuple[Cell, ...]] = [
        (one.kind, one.key, Text(one.outcome, _STYLES[one.outcome]), one.detail)
        for one in applied
        if one.outcome != "unchanged" or len(applied) <= 40
    ]
    if rows:
        columns = [Column("kind"), Column("key"), Column("outcome"), Column("", folds=True)]
        show(table_of(columns, rows))
    counts = Counter(one.outcome for one in applied)
    show(", ".join(f"{counts[name]} {name}" for name in _STYLES))


def bill(
    through: Annotated[str, typer.Option(help="A date (midnight of each customer) or instant.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """Issue all that falls due through a moment; running it again bills nothing twice."""
    from tollbook.bill_runs import bill_through  # noqa: PLC0415
    from tollbook.billing_wiring import read_moment  # noqa: PLC0415

    moment = read_moment(through)
    stack = read_stack(data_dir.resolve())
    with shown_progress(quiet=as_json) as progress:
        result = bill_through(stack, moment, progress)
    _print_result(result, as_json=as_json)


def close(
    period: Annotated[str, typer.Option(help="A month, such as 2013-01.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    lock: Annotated[bool, typer.Option("--lock", help="Lock the month's books.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bill all that is due in a month, recognise and accrue what it earned, and close it."""
    from billing.period import month_of  # noqa: PLC0415
    from tollbook.bill_runs import close_month  # noqa: PLC0415

    try:
        month = month_of(period)
    except ValueError as error:
        raise StackError(f"not a month: {period}", "Write it like 2013-01.") from error
    stack = read_stack(data_dir.resolve())
    with shown_progress(quiet=as_json) as progress:
        result = close_month(stack, month, progress, lock=lock)
    _print_result(result, as_json=as_json)


@contextmanager
def shown_progress(
    *, quiet: bool, waiting: str = "waiting for the cut", doing: str = "issuing"
) -> Iterator[Any]:
    """Yield what shows the progress of a run, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    shown = Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=hidden)
    with shown:
        task = shown.add_task(waiting, total=None)

        def update(done: int, total: int) -> None:
            shown.update(task, description=doing, completed=done, total=total)

        yield update


def _print_result(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    show_result(result)


def show_result(result: Mapping[str, Any]) -> None:
    """Print what a run issued and booked."""
    if result["resumed"]:
        show(
            f"A run that was cut short was finished at its own cut {result['cuts'][0]}:"
            f" {count_of(result['documents_before'], 'document')} issued before, none again."
        )
    if result["documents"]:
        show(invoice_commands.invoice_table(result["documents"]))
    for currency, total in result["totals"].items():
        own = [one for one in result["documents"] if one["currency"] == currency]
        show(f"{count_of(len(own), 'document')}, {total} {currency}")
    posted = {name: count for name, count in result.get("entries", {}).items() if count}
    if posted:
        show(", ".join(count_of(count, f"{name} entry") for name, count in posted.items()))
    if result["nothing_because"] and not posted:
        show(f"Nothing to do: {result['nothing_because']}")
    if "locked_through" in result:
        show(f"The books are locked through {result['locked_through']}.")
