"""`tollbook subscription`: what customers agreed to, how it stands, and what is done to it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from infra.embedded.errors import StackError
from tollbook.agreed_prices import agreed_parts
from tollbook.command_group import group
from tollbook.screen import Column, amounts, grouped, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack
from tollbook.subscription_shown import print_subscription, subscription_table
from tollbook.subscription_verbs import register_verbs

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to work on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Key = Annotated[str, typer.Argument(help="Key of a subscription.")]

_LISTED_MAX = 1_000_000


def register(app: typer.Typer) -> None:
    """Add these commands."""
    subscriptions = group(
        app, "subscription", "Subscriptions: terms, states, what is done to them."
    )
    subscriptions.command("list")(list_all)
    subscriptions.command("show")(show_one)
    subscriptions.command("history")(show_history)
    register_verbs(subscriptions)


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
        show(subscription_table(found))
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
    print_subscription(found, as_json=as_json)
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
        [
            str(h["version"]),
            h["from"] or "",
            h["to"],
            h["at"],
            h["actor"],
            h["reason"],
            *(_sums(h[name]) for name in ("credited", "charged")),
        ]
        for h in found
    ]
    table = [*amounts("version"), *columns, Column("reason", folds=True)]
    show(table_of([*table, *amounts("credited", "charged")], rows))


def _sums(by_currency: dict[str, str]) -> str:
    return ", ".join(f"{currency} {grouped(amount)}" for currency, amount in by_currency.items())
