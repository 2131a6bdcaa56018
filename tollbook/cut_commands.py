"""`tollbook cut fix`, `list`, `show` and `changes`: the chain of fixed cuts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.screen import Column, amounts, count_of, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, Stack, read_stack

if TYPE_CHECKING:
    from pipelines.cut import FixedCut

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to work on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Number = Annotated[int, typer.Argument(min=1, help="Number of a cut.")]

_LISTED_MAX = 1_000_000


def register(app: typer.Typer) -> None:
    """Add these commands."""
    cuts = group(app, "cut", "Cuts: how far into the log billing and answers look.")
    cuts.command("fix")(fix)
    cuts.command("list")(list_cuts)
    cuts.command("show")(show_cut)
    cuts.command("changes")(show_changes)


def fix(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    at: Annotated[
        str | None, typer.Option(help="All that the log took before this instant; else by now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fix the next cut, once all below it is counted; usage as of it never changes."""
    from tollbook.usage_cuts import fix_cut  # noqa: PLC0415
    from tollbook.usage_question import read_instant  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with _told():
        _show([fix_cut(stack, read_instant("at", at) or datetime.now(UTC))], as_json=as_json)


def list_cuts(data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """List all fixed cuts, the first first."""
    from pipelines.postgres_cuts import PostgresCuts  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        found = PostgresCuts(connection).listed(stack.tenant, 0, _LISTED_MAX)
    if as_json:
        print(json.dumps([each.to_content() for each in found]))
    elif found:
        _show(found, as_json=False)
    else:
        show("No cuts are fixed yet.")


def show_cut(
    number: Number, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False
) -> None:
    """Show one cut: how far it reaches in every partition of every log."""
    from tollbook.usage_cuts import shown  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    found = _find(stack, number)
    with _told():
        content = shown(stack, found)
    if as_json:
        print(json.dumps(content))
        return
    _show([found], as_json=False)
    audit = content["audit"]
    if audit["voided"]:
        show(f"\nIts audit voided {count_of(audit['voided'], 'copy')}:")
        names = [Column(name) for name in ("copy", "source", "id", "counted instead", "body")]
        copies = [
            [
                each["position"],
                each["source"],
                each["id"],
                each["duplicate_of"],
                "another" if each["is_conflict"] else "the same",
            ]
            for each in audit["copies"]
        ]
        show(table_of(names, copies))
    rows = [
        [str(at.log), str(at.partition), f"{end:,}"] for at, end in sorted(found.offsets.items())
    ]
    show("", table_of(amounts("log", "partition", "next offset"), rows))


def show_changes(
    since: Number, until: Number, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False
) -> None:
    """Show what may differ as of the second cut from what was so as of the first."""
    from tollbook.usage_cuts import changes  # noqa: PLC0415

    with _told():
        found = changes(read_stack(data_dir.resolve()), since, until)
    if as_json:
        print(json.dumps(found))
        return
    rows = [[each["meter"], each["subject"], each["from"], each["to"]] for each in found["changes"]]
    columns = [Column("meter"), Column("subject"), Column("from"), Column("to")]
    show(table_of(columns, rows) if rows else "Nothing changed.")


def _find(stack: Stack, number: int) -> "FixedCut":
    from tollbook.billing_wiring import open_database  # noqa: PLC0415
    from tollbook.usage_cuts import find_cut  # noqa: PLC0415

    with open_database(stack) as connection:
        found = find_cut(connection, stack.tenant, number)
    if found is None:
        raise StackError(f"there is no cut {number}", "See `tollbook cut list`.")
    return found


def _show(cuts: "list[FixedCut]", *, as_json: bool) -> None:
    contents = [each.to_content() for each in cuts]
    if as_json:
        print(json.dumps(contents[0]))
        return
    names = ("number", "at", "fixed_at", "facts_revision")
    rows = [[*(str(each[name]) for name in names), str(len(each["offsets"]))] for each in contents]
    times = [Column("at"), Column("fixed at")]
    show(table_of([*amounts("cut"), *times, *amounts("facts", "partitions")], rows))


@contextmanager
def _told() -> Iterator[None]:
    """Word what cannot be done as commands do."""
    from pipelines.outage import TransientError  # noqa: PLC0415

    try:
        yield
    except (TimeoutError, TransientError) as error:
        raise StackError(str(error), "See `tollbook status`, then run it again.") from error
    except (LookupError, ValueError) as error:
        raise StackError(str(error.args[0]), "See `tollbook cut list`.") from error
