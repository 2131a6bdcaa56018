"""`tollbook quarantine list`, `show` and `release`: sources most of whose events were bad."""

import getpass
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.outages import servers
from tollbook.screen import Column, amounts, count_of, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR

UNREADABLE = "(cannot be read)"
"""Stands for the source of what names none."""

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack that counts it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="As listed; '' for what names no source."),
]
NoTenant = Annotated[
    bool, typer.Option("--no-tenant", help="What names no tenant, instead of the stack's tenant.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    quarantine = group(
        app, "quarantine", "Sources most of whose events were bad: set aside, not counted."
    )
    quarantine.command("list")(list_sources)
    quarantine.command("show")(show_source)
    quarantine.command("release")(release)


def list_sources(
    data_dir: DataDir = DEFAULT_DATA_DIR, *, no_tenant: NoTenant = False, as_json: AsJson = False
) -> None:
    """List sources of which something was set aside."""
    from tollbook.quarantine_shown import sources_content  # noqa: PLC0415

    with servers(data_dir) as (stack, connection, clickhouse):
        tenant = "" if no_tenant else stack.tenant
        contents = sources_content(connection, clickhouse, tenant)
    if as_json:
        print(json.dumps(contents))
        return
    numbers = ("waiting", "released", "unreadable", "bytes")
    columns = [Column("source"), Column("state"), *amounts(*numbers), Column("since"),
               Column("until"), Column("partitions", folds=True)]  # fmt: skip
    rows = [
        [
            each["source"] or UNREADABLE,
            each["state"],
            *(f"{each[name]:,}" for name in numbers),
            each["first_at"] or "",
            each["last_at"] or "",
            ", ".join(each["partitions"]),
        ]
        for each in contents
    ]
    show(table_of(columns, rows) if rows else "Nothing was set aside.")


def show_source(
    source: Source,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    after: Annotated[
        str | None, typer.Option(metavar="POSITION", help="Only behind this position.")
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, max=10_000, help="So many at most.")
    ] = 100,
    no_tenant: NoTenant = False,
    as_json: AsJson = False,
) -> None:
    """Show what was set aside of a source, by position; `dead-letters show` has all of one."""
    from pipelines.clickhouse_quarantine import ClickHouseQuarantine  # noqa: PLC0415
    from pipelines.position import Position  # noqa: PLC0415

    try:
        start = None if after is None else Position.from_text(after)
    except ValueError as error:
        raise StackError(str(error), "Positions are in `tollbook quarantine show`.") from error
    with servers(data_dir) as (stack, connection, clickhouse):
        tenant = "" if no_tenant else stack.tenant
        _require(connection, clickhouse, tenant, source)
        tables = ClickHouseQuarantine(clickhouse)
        found = tables.listed(tenant, source, after=start, limit=limit)
    if as_json:
        print(json.dumps([letter.to_content() for letter in found]))
        return
    columns = [Column("position"), Column("when"), Column("kind"), *amounts("bytes")]
    rows = [
        [str(each.position), each.ingested_at, each.kind, f"{each.body_bytes:,}", each.reason]
        for each in found
    ]
    show(table_of([*columns, Column("reason", folds=True)], rows) if rows else "Nothing more.")
    if len(found) == limit:
        show(f"There may be more: --after {found[-1].position}")


def release(
    source: Source,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    no_tenant: NoTenant = False,
    as_json: AsJson = False,
) -> None:
    """Let a source count again: what it sends from now on, and all events set aside before.

    Each event counts once, also where it was sent again meanwhile, or this command is run again.
    """
    from tollbook.trace_wiring import open_releaser  # noqa: PLC0415

    with servers(data_dir) as (stack, connection, clickhouse):
        tenant = "" if no_tenant else stack.tenant
        _require(connection, clickhouse, tenant, source)
        releaser = open_releaser(connection, clickhouse, stack.kafka_bootstrap)
        try:
            done = releaser.release(tenant, source, getpass.getuser())
        except TimeoutError as error:
            raise StackError(
                str(error), "Look at `tollbook status`, then release it again: it goes on."
            ) from error
    if as_json:
        print(json.dumps(done.to_content(source)))
    else:
        counted = "and judged" if done.is_counted else "but not judged yet"
        show(f"{source or UNREADABLE}: {count_of(done.sent, 'event')} sent again, {counted}")
        show("What is bad still is among `tollbook dead-letters list`.")
        if done.unreadable:
            show(
                f"{count_of(done.unreadable, 'record')} cannot be read and stay set aside; correct"
                " one by `tollbook dead-letters replay POSITION --edit FILE`"
            )
    sys.exit(0 if done.is_counted else 1)


def _require(connection: object, clickhouse: object, tenant: str, source: str) -> None:
    from tollbook.quarantine_shown import is_known  # noqa: PLC0415

    if not is_known(connection, clickhouse, tenant, source):
        named = f"of source {source!r}" if source else "of what names no source"
        raise StackError(f"nothing {named} was set aside", "See `tollbook quarantine list`.")
