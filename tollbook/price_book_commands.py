"""`tollbook price-book rate`: what a quantity would cost, without a stack."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.price_book_versions import chosen
from tollbook.price_quotes import rated
from tollbook.screen import Cell, Column, amounts, bold, grouped, show, table_of


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group(app, "price-book", "Price books.").command("rate")(rate)


def rate(
    book: Annotated[Path, typer.Argument(help="A YAML file with price books.")],
    charge: Annotated[str, typer.Option(help="The charge's key.")],
    quantity: Annotated[
        str, typer.Option(help="How much of its meter; seats; what was spent; one event's value.")
    ] = "1",
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME=VALUE",
            help="A dimension's value, rate=NAME of a time of day, or a formula's meter.",
        ),
    ] = None,
    *,
    price_book: Annotated[str | None, typer.Option(help="Which book, if several.")] = None,
    version: Annotated[int | None, typer.Option(help="Which version; else the latest.")] = None,
    currency: Annotated[str | None, typer.Option(help="Else the version's own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rate a quantity as one whole period of a charge."""
    from billing.charge import parse_amount  # noqa: PLC0415

    try:
        used = parse_amount(quantity)
    except ValueError as error:
        raise StackError(str(error), 'Write it like --quantity "1500.5".') from error
    if used < 0:
        raise StackError(f"a quantity is not below zero: {quantity}", "Give what was used.")
    values = dict(_pair(text) for text in given or ())
    found = rated(chosen(book, price_book), charge, used, version, currency, values)
    if as_json:
        print(json.dumps(found))
        return
    show(quote_table(found))


def _pair(text: str) -> tuple[str, str]:
    name, is_pair, value = text.partition("=")
    if not is_pair:
        raise StackError(f"not NAME=VALUE: {text}", "Write it like --with region=eu.")
    return name, value


def quote_table(found: Mapping[str, Any]) -> Table:
    """Return the steps of a price and their sum as an aligned table."""
    rows: list[tuple[Cell, ...]] = [
        (
            step["step"],
            grouped(step.get("quantity", "")),
            step.get("unit_price", ""),
            grouped(step["amount"]),
        )
        for step in found["trace"]
    ]
    rows.append((bold("total"), "", found["currency"], bold(grouped(found["amount"]))))
    return table_of([Column("step"), *amounts("quantity", "unit price", "amount")], rows)
