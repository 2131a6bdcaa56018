"""`tollbook meter`: what is measured, by version; and what a definition would have counted."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.outages import outages_told
from tollbook.screen import Column, amounts, grouped, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, Stack, read_stack

if TYPE_CHECKING:
    from billing.declaration import Declarations
    from pipelines.postgres_meters import MeterVersion, PostgresMeters

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to work on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="YAML with meters, and nothing else.")]
Key = Annotated[str, typer.Argument(metavar="METER", help="Key of the meter.")]
_SUBJECTS_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add these commands."""
    meters = group(app, "meter", "What is measured: create, list, show, archive, backtest.")
    meters.command("create")(create)
    meters.command("list")(list_meters)
    meters.command("show")(show_meter)
    meters.command("archive")(archive)
    meters.command("backtest")(backtest)


def create(file: File, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """Create meters, or new versions of them; the same definition again changes nothing.

    They count all events that are stored, and all that come.
    """
    declared = _read(file)
    stack = read_stack(data_dir.resolve())
    _declare(stack, declared)
    _print([_versions(stack, key)[-1] for key in declared.meters], as_json=as_json)


def list_meters(data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """List the meters, each in its latest version."""
    stack = read_stack(data_dir.resolve())
    with outages_told():
        found = _meters(stack).listed(stack.tenant)
    if not found and not as_json:
        show("No meters.")
        return
    _print(found, as_json=as_json)


def show_meter(key: Key, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """Show all versions of a meter."""
    stack = read_stack(data_dir.resolve())
    found = [version.to_content() for version in _versions(stack, key)]
    if as_json:
        print(json.dumps({**found[-1], "versions": found}))
        return
    for content in found:
        for name, value in content.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            show(f"{name:<13} {text}")
        show("")


def archive(
    key: Key,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    effective_at: Annotated[
        str | None,
        typer.Option(
            "--effective-at", metavar="INSTANT", help="By default the next start of a window."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a meter count nothing from an instant on; what it has counted stays readable."""
    from billing.declaration import Declarations, Meter  # noqa: PLC0415
    from tollbook.billing_wiring import read_moment  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    latest = _versions(stack, key)[-1]
    moment = None if effective_at is None else read_moment(effective_at)
    meter = Meter(latest.definition, moment, archives=True)
    _declare(stack, Declarations(meters={key: meter}))
    _print(_versions(stack, key)[-1:], as_json=as_json)


def backtest(
    file: File,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    since: Annotated[
        str | None, typer.Option("--from", metavar="INSTANT", help="Since this instant.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="INSTANT", help="Until before this instant.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what definitions would have counted over all stored events; nothing is saved."""
    from pipelines.question import TooMuchError  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415
    from tollbook.meter_backtest import backtest as run  # noqa: PLC0415
    from tollbook.usage_wiring import open_clickhouse  # noqa: PLC0415

    declared = _read(file)
    interval = _instant("--from", since), _instant("--to", until)
    stack = read_stack(data_dir.resolve())
    found = []
    try:
        with outages_told(), open_database(stack) as connection:
            clickhouse = open_clickhouse(stack.clickhouse_url)
            for meter in declared.meters.values():
                definition = meter.definition
                found.append(
                    run(connection, clickhouse, stack.tenant, definition, interval, events_max=None)
                )
    except TooMuchError as error:
        raise StackError(str(error), "Give --from and --to.") from error
    if as_json:
        print(json.dumps(found))
        return
    for one in found:
        _show_backtest(one)


def _show_backtest(found: dict[str, Any]) -> None:
    slow = ", event by event" if found["slow"] else ""
    show(f"{found['meter']}: {found['events']:,} events{slow}, {found['rejected']:,} rejected")
    if found["rejections"]:
        columns = [*amounts("events"), Column("reason", folds=True), Column("such as", folds=True)]
        rows = [
            (f"{each['events']:,}", each["reason"], f"{each['example']['id']}")
            for each in found["rejections"]
        ]
        show(table_of(columns, rows))
    subjects = found["subjects"]
    differ = [row for row in subjects if row.get("difference", "0") != "0"]
    shown = (differ or subjects)[:_SUBJECTS_SHOWN]
    names = [name for name in ("value", "current", "difference") if name in (shown or [{}])[0]]
    if shown:
        rows = [(row["subject"], *(grouped(row[name] or "") for name in names)) for row in shown]
        show(table_of([Column("subject", folds=True), *amounts(*names)], rows))
    if len(shown) < len(subjects):
        show(f"{len(shown)} of {len(subjects):,} subjects shown; --json has all")


def _print(found: "list[MeterVersion]", *, as_json: bool) -> None:
    contents = [version.to_content() for version in found]
    if as_json:
        print(json.dumps(contents))
        return
    rows = []
    for version, content in zip(found, contents, strict=True):
        state = content["state"]
        if version.progress is not None:
            done, total = version.progress
            state += f" {100 * done // max(total, 1)} %"
        what = [version.definition.rule, version.definition.window, state]
        since = content["effective_at"] or "ever"
        slow = "slow" if content["slow"] else ""
        rows.append((content["key"], str(version.version), *what, since, slow))
    names = ("meter", "version", "aggregation", "window", "state", "since", "")
    show(table_of([Column(name) for name in names], rows))


def _declare(stack: Stack, declared: "Declarations") -> None:
    from billing.postgres_catalog import DeclarationError, apply  # noqa: PLC0415
    from tollbook import billing_wiring as wiring  # noqa: PLC0415

    try:
        with outages_told(), wiring.open_database(stack) as connection:
            apply(connection, stack.tenant, declared, datetime.now(UTC))
    except DeclarationError:
        _refuse(declared)
    wiring.activate_meters(stack)


def _read(file: Path) -> "Declarations":
    from tollbook.billing_wiring import read_files  # noqa: PLC0415

    declared = read_files([file])
    others = (declared.price_books, declared.customers, declared.subscriptions)
    if declared.faults:
        _refuse(declared)
    if any(others) or not declared.meters:
        raise StackError(f"{file} declares other than meters", "Use `tollbook apply` for it.")
    return declared


def _refuse(declared: "Declarations") -> None:
    for fault in sorted(set(declared.faults)):
        text = str(fault).removeprefix("?: ")
        typer.secho(text, fg="red", err=True)
    raise typer.Exit(1)


def _versions(stack: Stack, key: str) -> "list[MeterVersion]":
    with outages_told():
        found = _meters(stack).versions(stack.tenant, key)
    if not found:
        raise StackError(f"there is no meter {key}", "`tollbook meter list` shows those there are.")
    return found


def _meters(stack: Stack) -> "PostgresMeters":
    from pipelines.postgres_meters import PostgresMeters  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    return PostgresMeters(open_database(stack))


def _instant(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no instant", param_hint=option) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
