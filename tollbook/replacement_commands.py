"""`tollbook replacement`: what was sent for a range of time is replaced as a whole."""

import getpass
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.event_commands import given_reason
from tollbook.outages import servers
from tollbook.screen import Column, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack that counts it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `replacement open` printed it.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    replacements = group(
        app, "replacement", "Replace what was sent for a range of time: open, send, close."
    )
    replacements.command("open")(open_replacement)
    replacements.command("close")(close)
    replacements.command("revert")(revert)
    replacements.command("list")(list_replacements)


def open_replacement(
    start: Annotated[str, typer.Option("--from", help="First event time that is replaced.")],
    end: Annotated[str, typer.Option("--to", help="First event time that is not.")],
    reason: Annotated[
        str, typer.Option("--reason", help="Why; kept with it.", callback=given_reason)
    ],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    subject: Annotated[str | None, typer.Option(help="Only events of this subject.")] = None,
    source: Annotated[str | None, typer.Option(help="Only events of this source.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    as_json: AsJson = False,
) -> None:
    """Open one; send events with its name in their attribute `replacement`, then close it."""
    from ingest.event import EPOCH, parse_time  # noqa: PLC0415
    from pipelines.postgres_replacements import PostgresReplacements  # noqa: PLC0415
    from pipelines.replacement import Replacement  # noqa: PLC0415
    from tollbook.trace_wiring import new_replacement_name  # noqa: PLC0415

    first, last = parse_time(start), parse_time(end)
    if first is None or last is None or not EPOCH <= first < last:
        raise StackError(
            f"no range of time: {start} to {end}",
            "Give RFC 3339 times, such as 2026-05-01T00:00:00Z.",
        )
    if subject is None and source is None and event_type is None:
        raise StackError("nothing says what is replaced", "Give --subject, --source or --type.")
    with servers(data_dir) as (stack, connection, _):
        replacement = Replacement(
            tenant=stack.tenant,
            name=new_replacement_name(),
            start=first,
            end=last,
            subject=subject,
            source=source,
            type=event_type,
            author=getpass.getuser(),
            reason=reason,
            state="open",
        )
        PostgresReplacements(connection).add(replacement)
    if as_json:
        print(json.dumps(replacement.to_content()))
    else:
        show(
            replacement.name,
            f'Send events with "replacement": "{replacement.name}"; they wait until'
            f" `tollbook replacement close {replacement.name}`.",
        )


def close(name: Name, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """Close it: what counted in the range no longer does, what was sent for it does."""
    _carry_out(data_dir, name, "close", as_json=as_json)


def revert(name: Name, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """Revert it: what counted before counts again, what was sent for it does not."""
    _carry_out(data_dir, name, "revert", as_json=as_json)


def list_replacements(data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """List replacements, the first opened first."""
    from pipelines.postgres_replacements import PostgresReplacements  # noqa: PLC0415

    with servers(data_dir) as (stack, connection, _):
        found = PostgresReplacements(connection).listed(stack.tenant, None, 10_000)
    contents = [each.to_content() for each in found]
    if as_json:
        print(json.dumps(contents))
        return
    names = ("name", "state", "from", "to", "subject", "source", "type", "author")
    columns = [*map(Column, names), Column("reason", folds=True)]
    rows = [[*(each[name] or "any" for name in names), each["reason"]] for each in contents]
    show(table_of(columns, rows) if rows else "No replacements.")


def _carry_out(data_dir: Path, name: str, action: Any, *, as_json: bool) -> None:
    from tollbook.trace_wiring import open_replacer  # noqa: PLC0415

    with servers(data_dir) as (stack, connection, clickhouse):
        replacer = open_replacer(connection, clickhouse, stack.kafka_bootstrap)
        try:
            state, is_counted = replacer.carry_out(stack.tenant, name, action)
        except (LookupError, ValueError) as error:
            raise StackError(str(error.args[0]), "See `tollbook replacement list`.") from error
        except TimeoutError as error:
            raise StackError(str(error), "Ask again: nothing is done twice.") from error
    if as_json:
        print(json.dumps({"name": name, "state": state, "is_counted": is_counted}))
    else:
        show(f"{name}: {state}" + ("" if is_counted else ", but not counted yet"))
