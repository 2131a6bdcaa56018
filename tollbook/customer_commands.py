"""`tollbook customer` and `credit-note`, and `subscription create`: who pays, owes and is owed."""

import getpass
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.invoice_commands import invoice_table, list_documents, show_document
from tollbook.screen import Cell, Column, amounts, bold, count_of, grouped, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack
from tollbook.wallet_tables import wallet_table

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to work on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_LISTED_MAX = 1_000_000


def register(app: typer.Typer) -> None:
    """Add these commands."""
    customers = group(app, "customer", "Customers: who pays, and what they owe.")
    customers.command("list")(list_all)
    customers.command("show")(show_one)
    notes = group(app, "credit-note", "Credit notes: what was given back.")
    notes.command("list")(list_notes)
    notes.command("show")(show_note)
    subscriptions = group(
        app, "subscription", "Subscriptions: terms, states, what is done to them."
    )
    subscriptions.command("create")(create_subscription)


def list_all(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    currency: Annotated[str | None, typer.Option(help="Only those billed in it.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only who pays for this subject.")] = None,
    as_json: AsJson = False,
) -> None:
    """List customers by key."""
    from billing.postgres_customers import list_customers  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    given = {"currency": currency, "subject": subject}
    filters = {name: value for name, value in given.items() if value is not None}
    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        found = list_customers(connection, stack.tenant, "", _LISTED_MAX, filters)
    if as_json:
        print(json.dumps(found))
    else:
        show(_table(found) if found else "There are no such customers.")


def show_one(
    key: Annotated[str, typer.Argument(help="Key of a customer.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """Show a customer with its subscriptions, wallets, open invoices and balances."""
    from billing import postgres_customers as customers  # noqa: PLC0415
    from billing.postgres_reports import invoices  # noqa: PLC0415
    from billing.postgres_subscriptions import list_subscriptions  # noqa: PLC0415
    from billing.postgres_wallet_reports import list_wallets  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        asked = (connection, stack.tenant)
        found = customers.read_customer(*asked, key)
        if found is None:
            raise StackError(f"there is no customer {key}", "See `tollbook customer list`.")
        found |= {
            "subjects": customers.list_assignments(*asked, key, 0, _LISTED_MAX),
            "subscriptions": list_subscriptions(*asked, "", _LISTED_MAX, {"customer": key}),
            "wallets": list_wallets(*asked, "", _LISTED_MAX, key),
            "open_invoices": invoices(*asked, {"customer": key, "state": "open",
                                               "document_type": "invoice"}, limit=_LISTED_MAX),
            "balances": customers.balances_of(*asked, key),
        }  # fmt: skip
    if as_json:
        print(json.dumps(found))
        return
    show(*_parts(found))


def list_notes(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    customer: Annotated[str | None, typer.Option(help="Only this customer's.")] = None,
    as_json: AsJson = False,
) -> None:
    """List credit notes."""
    chosen = {"document_type": "credit_note"} | ({"customer": customer} if customer else {})
    list_documents(chosen, data_dir, as_json=as_json)


def show_note(
    number: Annotated[str, typer.Argument(help="Number or id.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    trace: Annotated[bool, typer.Option("--trace", help="Show how amounts come about.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one credit note line by line."""
    show_document("credit note", number, data_dir, trace=trace, as_json=as_json)


def create_subscription(
    key: Annotated[str, typer.Argument(help="Its key.")],
    customer: Annotated[str, typer.Option(help="Whose it is.")],
    price_book: Annotated[str, typer.Option(help="Which prices.")],
    start: Annotated[str, typer.Option(metavar="DATE", help="Its first day, such as 2013-01-01.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    end: Annotated[str | None, typer.Option(metavar="DATE", help="The first day after it.")] = None,
    anchor: Annotated[
        str, typer.Option(help="Where periods begin: calendar, anniversary, a day or a date.")
    ] = "calendar",
    version: Annotated[str, typer.Option(help="A version of the book to stay at.")] = "follow",
    seats: Annotated[
        list[str] | None, typer.Option(metavar="CHARGE=QUANTITY", help="How many seats.")
    ] = None,
    trial_days: Annotated[int | None, typer.Option(help="So many days are free at first.")] = None,
    predecessor: Annotated[str | None, typer.Option(help="The one that it follows.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for its history.")] = "asked for",
    as_json: AsJson = False,
) -> None:
    """Create a subscription of one item, `main`; `apply` takes files with all that there is."""
    pairs = dict(text.partition("=")[::2] for text in seats or ())
    item = {"key": "main", "price_book": price_book, "version": version, "quantities": pairs}
    content = {
        "key": key, "customer": customer, "start": start, "end": end, "anchor": anchor,
        "predecessor": predecessor, "items": [item],
        "trial": None if trial_days is None else {"days": trial_days},
    }  # fmt: skip
    found = _created(data_dir, {k: v for k, v in content.items() if v is not None}, reason)
    if as_json:
        print(json.dumps(found))
    else:
        show(f"subscription {key} is {found['state']}, version {found['version']}.")


def _created(data_dir: Path, content: Mapping[str, Any], reason: str) -> dict[str, Any]:
    from billing.customer import Subscription  # noqa: PLC0415
    from billing.postgres_verbs import Writer, create  # noqa: PLC0415
    from billing.verbs import VerbError  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    try:
        subscription = Subscription.model_validate(content)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in detail["loc"])
        raise StackError(f"{where}: {detail['msg']}", "Mend that, and try again.") from error
    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        writer = Writer(connection, stack.tenant, getpass.getuser(), datetime.now(UTC))
        try:
            return create(writer, subscription, reason)
        except VerbError as error:
            raise StackError(str(error), "Nothing was created.") from error


def _table(found: list[dict[str, Any]]) -> Table:
    names = ("key", "name", "currency", "time_zone", "legal_entity")
    columns = [Column(name.replace("_", " "), folds=name == "name") for name in names]
    rows = [[*(str(one[name]) for name in names), str(one["version"])] for one in found]
    return table_of([*columns, *amounts("version")], rows)


def _parts(found: Mapping[str, Any]) -> tuple[Cell | Table, ...]:
    """Return what a customer is, has agreed to, and owes."""
    subjects = count_of(len(found["subjects"]), "subject")
    terms = f"due in {found['payment_terms_days']} days"
    parts: list[Cell | Table] = [
        bold(f"{found['key']} {found['name']}"),
        f"{found['currency']}, {found['time_zone']}, {terms}, {subjects}",
    ]
    for balance in found["balances"]:
        credit = f", has credit of {grouped(balance['credit'])}" if balance["credit_minor"] else ""
        parts.append(f"owes {grouped(balance['owed'])} {balance['currency']}{credit}")
    if found["subscriptions"]:
        columns = [Column(name) for name in ("subscription", "state", "start")]
        rows = [[one["key"], one["state"], one["start"]] for one in found["subscriptions"]]
        parts += ["", table_of(columns, rows)]
    if found["wallets"]:
        parts += ["", wallet_table(found["wallets"])]
    if found["open_invoices"]:
        parts += ["", invoice_table(found["open_invoices"])]
    return tuple(parts)
