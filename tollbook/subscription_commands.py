"""`tollbook subscription`: what customers agreed to, how it stands, and what is done to it."""

import getpass
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.embedded.errors import StackError
from tollbook.agreed_prices import agreed_parts
from tollbook.command_group import group
from tollbook.screen import Column, amounts, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack

if TYPE_CHECKING:
    from billing.postgres_verbs import Writer

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to work on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Key = Annotated[str, typer.Argument(help="Key of a subscription.")]
At = Annotated[str, typer.Option(help="now, period_end, or a day such as 2013-02-01.")]
Reason = Annotated[str, typer.Option(help="Why, for its history.")]
Version = Annotated[
    int | None, typer.Option("--version", help="Refuse, unless it is at this version.")
]

_LISTED_MAX = 1_000_000


def register(app: typer.Typer) -> None:
    """Add these commands."""
    subscriptions = group(
        app, "subscription", "Subscriptions: terms, states, what is done to them."
    )
    subscriptions.command("list")(list_all)
    subscriptions.command("show")(show_one)
    subscriptions.command("history")(show_history)
    subscriptions.command("cancel")(cancel)
    subscriptions.command("undo-cancel")(undo_cancel)
    subscriptions.command("trial")(trial)
    subscriptions.command("seats")(seats)


def list_all(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only those of this customer.")] = None,
    as_json: AsJson = False,
) -> None:
    """List subscriptions by key."""
    from billing.postgres_subscriptions import list_subscriptions  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    given = {"state": state, "customer": customer}
    filters = {name: value for name, value in given.items() if value is not None}
    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        found = list_subscriptions(connection, stack.tenant, "", _LISTED_MAX, filters)
    if as_json:
        print(json.dumps(found))
    elif found:
        show(_table(found))
    else:
        show("There are no such subscriptions.")


def show_one(key: Key, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """Show a subscription: its terms and how it stands."""
    from billing.postgres_subscriptions import find_subscription  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        found = find_subscription(connection, stack.tenant, key)
    if found is None:
        raise StackError(f"there is no subscription {key}", "See `tollbook subscription list`.")
    _print(found, as_json=as_json)
    if not as_json:
        show(*agreed_parts(found))


def show_history(
    key: Key, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False
) -> None:
    """Show what became of a subscription: when, by whom, and why."""
    from billing.postgres_subscriptions import list_history  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        found = list_history(connection, stack.tenant, key)
    if not found:
        raise StackError(f"there is no subscription {key}", "See `tollbook subscription list`.")
    if as_json:
        print(json.dumps(found))
        return
    columns = [Column(name) for name in ("from", "to", "at", "actor")]
    rows = [
        [str(h["version"]), h["from"] or "", h["to"], h["at"], h["actor"], h["reason"]]
        for h in found
    ]
    show(table_of([*amounts("version"), *columns, Column("reason", folds=True)], rows))


def cancel(
    key: Key,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    at: At = "period_end",
    reason: Reason = "asked for",
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """End a subscription now, at the end of its period or from a day on."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415

    when = _when(at)
    _do(data_dir, lambda w: verbs.cancel(w, key, when, reason, version), as_json=as_json)


def undo_cancel(
    key: Key,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    reason: Reason = "asked for",
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Take back the planned end of a subscription."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415

    _do(data_dir, lambda w: verbs.undo_cancel(w, key, reason, version), as_json=as_json)


def trial(
    key: Key,
    ends: Annotated[str, typer.Option(help="now, or the first day after it.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    reason: Reason = "asked for",
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Let a trial end on another day; now, it converts at once."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415

    when = _when(ends)
    _do(data_dir, lambda w: verbs.set_trial_end(w, key, when, reason, version), as_json=as_json)


def seats(
    key: Key,
    item: Annotated[str, typer.Option(help="Key of its item.")],
    charge: Annotated[str, typer.Option(help="Key of the charge per seat.")],
    quantity: Annotated[str, typer.Option(help="How many seats.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    at: At = "period_end",
    reason: Reason = "asked for",
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Set how many seats there are from a day on that is not billed yet."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415

    when = _when(at)
    try:
        wanted = (item, charge, Decimal(quantity))
    except InvalidOperation as error:
        raise StackError(f"not a quantity: {quantity}", "Write it like 12.") from error
    _do(data_dir, lambda w: verbs.set_seats(w, key, wanted, when, reason, version), as_json=as_json)


def _do(data_dir: Path, verb: "Callable[[Writer], dict[str, Any]]", *, as_json: bool) -> None:
    from billing.postgres_subscriptions import StaleVersionError  # noqa: PLC0415
    from billing.postgres_verbs import Writer  # noqa: PLC0415
    from billing.verbs import VerbError  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        writer = Writer(connection, stack.tenant, getpass.getuser(), datetime.now(UTC))
        try:
            found = verb(writer)
        except (VerbError, LookupError, StaleVersionError) as error:
            raise StackError(str(error.args[0]), "See `tollbook subscription show KEY`.") from error
    _print(found, as_json=as_json)


def _when(text: str) -> date | str:
    if text in ("now", "period_end"):
        return text
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise StackError(f"not a day: {text}", "Write now, period_end or 2013-02-01.") from error


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    show(_table([found]))


def _table(found: list[dict[str, Any]]) -> Any:
    columns = [Column(name) for name in ("key", "customer", "state", "start", "ends", "overdue")]
    rows = [
        [
            one["key"],
            one["customer"],
            one["state"],
            one["start"],
            one["cancel_at"] or "",
            "yes" if one["overdue"] else "",
            str(one["version"]),
        ]
        for one in found
    ]
    return table_of([*columns, *amounts("version")], rows)
