"""`tollbook usage query`: what a meter measured."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.screen import Column, amounts, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, Stack, read_stack

if TYPE_CHECKING:
    from pipelines.question import UsageQuestion, UsageRow

Words = list[str]

_OPTIONS = {
    "from": "--from",
    "to": "--to",
    "window": "--window",
    "window_time_zone": "--time-zone",
    "group_by": "--group-by",
    "subject": "--subject",
    "customer": "--customer",
    "cut": "--cut",
}
"""How parameters of a question are called here."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group(app, "usage", "Measured usage.").command("query")(query)


def query(
    meter: Annotated[str, typer.Argument(help="Key of the meter.")],
    data_dir: Annotated[Path, typer.Option("--data-dir", help="The stack to read.")] = (
        DEFAULT_DATA_DIR
    ),
    *,
    start: Annotated[str, typer.Option("--from", help="Since this instant or date.")] = "",
    end: Annotated[str, typer.Option("--to", help="Until before this instant or date.")] = "",
    window: Annotated[str, typer.Option(help="1m, 1h, 1d or '1 month'; else one row.")] = "",
    time_zone: Annotated[str, typer.Option(help="Days and months are local to it.")] = "UTC",
    group_by: Annotated[
        Words | None, typer.Option(help="subject, customer or a dimension.")
    ] = None,
    subject: Annotated[Words | None, typer.Option(help="Only this subject's usage.")] = None,
    customer: Annotated[Words | None, typer.Option(help="Only what this customer pays.")] = None,
    where: Annotated[Words | None, typer.Option(help="Only this: DIMENSION=VALUE.")] = None,
    cut: Annotated[int | None, typer.Option(help="As of this fixed cut; else by now.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a meter measured, by window, subject, customer and dimensions."""
    one = {"from": start, "to": end, "window": window, "window_time_zone": time_zone}
    given = {name: [text] for name, text in one.items() if text}
    given |= {"group_by": group_by or [], "subject": subject or []}
    if cut is not None:
        given["cut"] = [str(cut)]
    for text in where or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise StackError(f"--where {text} is not a filter", "Write DIMENSION=VALUE.")
        given.setdefault(f"filter[{name}]", []).append(value)
    question, rows = _read(read_stack(data_dir.resolve()), meter, given, customer or [])
    if as_json:
        print(json.dumps(_content(question, rows)))
    else:
        show(_table(question, rows) if rows else "No usage.")


def _read(
    stack: Stack, meter: str, given: dict[str, Words], customers: Words
) -> "tuple[UsageQuestion, list[UsageRow]]":
    from pipelines.outage import TransientError  # noqa: PLC0415
    from pipelines.question import TooMuchError  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415
    from tollbook.usage_question import (  # noqa: PLC0415
        BadParameterError,
        of_customers,
        read_question,
    )
    from tollbook.usage_wiring import open_clickhouse, open_queries  # noqa: PLC0415

    try:
        question = read_question(meter, given)
        with open_database(stack) as connection:
            question = of_customers(connection, stack.tenant, question, customers)
            queries = open_queries(connection, open_clickhouse(stack.clickhouse_url))
            return question, list(queries.ask(stack.tenant, question, datetime.now(UTC)))
    except BadParameterError as error:
        raise StackError(
            f"{_OPTIONS.get(error.parameter, error.parameter)}: {_as_options(error.reason)}",
            "See `tollbook usage query --help`.",
        ) from error
    except TooMuchError as error:
        raise StackError(str(error), "See `tollbook usage query --help`.") from error
    except LookupError as error:
        raise StackError(str(error.args[0]), "See `tollbook usage query --help`.") from error
    except TransientError as error:
        raise StackError(str(error), "See `tollbook status`.") from error


def _as_options(reason: str) -> str:
    """Return a reason with the options that were given, where it names parameters."""
    return " ".join(
        _OPTIONS.get(word, word) if word == "from" else word for word in reason.split(" ")
    )


def _content(question: "UsageQuestion", rows: "Sequence[UsageRow]") -> dict[str, Any]:
    from tollbook.usage_answer import to_content  # noqa: PLC0415

    return to_content(question, rows)


def _table(question: "UsageQuestion", rows: "Sequence[UsageRow]") -> Table:
    from tollbook.usage_answer import columns_of, to_cells  # noqa: PLC0415

    *names, _ = columns_of(question)
    columns = [Column(name.replace("_", " ").removeprefix("window ")) for name in names]
    rows_of = to_cells(question, rows, question.zone)
    return table_of(
        [*columns, *amounts("value")],
        [[*cells[:-1], f"{Decimal(cells[-1]):,f}"] for cells in rows_of],
    )
