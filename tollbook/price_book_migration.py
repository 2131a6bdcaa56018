"""`tollbook price-book migrate`: moves pinned subscribers to another version at a date."""

import getpass
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.price_book_backtest import to_rows
from tollbook.screen import Cell, Column, amounts, count_of, grouped, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack

if TYPE_CHECKING:
    from billing.comparison import Comparison
    from billing.facts import Facts
    from billing.migration import Move
    from billing.postgres_facts import Connection
    from pipelines.usage import UsageReader

_LATEST_DAYS = timedelta(days=400)
"""How long ago the last period of a charge, a year's too, has begun at most."""


def register(app: typer.Typer) -> None:
    """Add this command."""
    group(app, "price-book", "Price books.").command("migrate")(migrate)


def migrate(
    price_book: Annotated[str, typer.Argument(help="The book's key.")],
    to: Annotated[int, typer.Option(help="The version that they are moved to.")],
    on: Annotated[str, typer.Option("--at", metavar="DATE", help="The first day it prices.")],
    data_dir: Annotated[Path, typer.Option(help="The stack to work on.")] = DEFAULT_DATA_DIR,
    *,
    of_version: Annotated[
        int | None, typer.Option("--from-version", help="Only those at this version.")
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Change nothing: show who, and at which price.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for their history.")] = "migrated",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Move subscriptions that are pinned to other versions; those that follow the book stay.

    All are moved, or none. A preview rates the last period of each of their charges again, by the
    version that they would be moved to.
    """
    from tollbook.billing_wiring import open_database, open_usage  # noqa: PLC0415

    try:
        day = date.fromisoformat(on)
    except ValueError as error:
        raise StackError(f"not a day: {on}", "Write it like 2013-01-31.") from error
    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        facts, moves = plan(connection, stack.tenant, price_book, to, day, of_version)
        found: dict[str, Any] = {"price_book": price_book, "to": to, "at": day.isoformat()}
        if preview:
            usage = open_usage(stack)
            compared = worth(connection, usage, stack.tenant, moves, price_book, to)
            found["customers"] = [] if compared is None else to_rows(compared)["customers"]
        elif moves:
            carry_out(connection, stack.tenant, facts, moves, to, day, reason)
    found["subscriptions"] = [asdict(move) for move in moves]
    if as_json:
        print(json.dumps(found))
        return
    show(*_parts(found, preview=preview))


def plan(
    connection: "Connection",
    tenant: str,
    price_book: str,
    to: int,
    on: date,
    of_version: int | None = None,
) -> "tuple[Facts, list[Move]]":
    """Return what is known now, and which items would be moved."""
    from billing.facts import LATEST  # noqa: PLC0415
    from billing.migration import moves_to  # noqa: PLC0415
    from billing.postgres_facts import load_facts  # noqa: PLC0415

    facts = load_facts(connection, tenant, LATEST)
    book = facts.price_books.get(price_book)
    if book is None or all(one.version != to for one in book.versions):
        raise StackError(
            f"price book {price_book} has no published version {to}",
            "See `tollbook price-book list`.",
        )
    return facts, moves_to(facts, price_book, to, on, of_version)


def worth(
    connection: "Connection",
    usage: "UsageReader",
    tenant: str,
    moves: "Sequence[Move]",
    price_book: str,
    to: int,
) -> "Comparison | None":
    """Return what the last periods of moved subscriptions cost, and would; None of nothing."""
    from billing.backtest import compare  # noqa: PLC0415
    from billing.migration import last_periods  # noqa: PLC0415
    from billing.postgres_backtest import load_facts_at, load_past  # noqa: PLC0415
    from billing.price_book_draft import Draft  # noqa: PLC0415
    from pipelines.postgres_cuts import PostgresCuts  # noqa: PLC0415

    cut = PostgresCuts(connection).latest(tenant)
    if cut is None:
        return None
    facts = load_facts_at(connection, cut)
    versions = facts.price_books[price_book].versions if price_book in facts.price_books else ()
    target = next((one for one in versions if one.version == to), None)
    if target is None:
        raise StackError(f"version {to} is newer than what was billed", "Bill, then try again.")
    draft = Draft(price_book, target)
    around = (cut.at.date() - _LATEST_DAYS, cut.at.date() + _LATEST_DAYS)
    past = load_past(connection, facts, cut, draft, around)
    past = last_periods(past, {move.subscription for move in moves})
    return compare(past, draft, usage, sorted(past.billed))


def carry_out(
    connection: "Connection",
    tenant: str,
    facts: "Facts",
    moves: "Sequence[Move]",
    to: int,
    on: date,
    reason: str,
) -> None:
    """Move them all, or raise StackError."""
    from billing.declaration import Declarations  # noqa: PLC0415
    from billing.migration import moved  # noqa: PLC0415
    from billing.postgres_catalog import DeclarationError, apply  # noqa: PLC0415
    from billing.postgres_subscriptions import Cause  # noqa: PLC0415

    declared = Declarations(subscriptions=moved(facts, moves, to, on))
    cause = Cause(getpass.getuser(), reason)
    try:
        apply(connection, tenant, declared, datetime.now(UTC), cause)
    except DeclarationError as error:
        faults = "; ".join(sorted({fault.message for fault in declared.faults}))
        raise StackError(faults, "Nobody was moved.") from error


def _parts(found: Mapping[str, Any], *, preview: bool) -> tuple[Cell | Table, ...]:
    moves = found["subscriptions"]
    if not moves:
        return ("Nobody is pinned to another version of it on that day.",)
    columns = [Column(name) for name in ("subscription", "item", "customer")]
    rows = [
        [one["subscription"], one["item"], one["customer"], str(one["version"])] for one in moves
    ]
    what = "To be moved" if preview else "Moved"
    told = f"{what}: {count_of(len(moves), 'item')}, to version {found['to']} on {found['at']}."
    parts: list[Cell | Table] = [table_of([*columns, *amounts("from version")], rows), "", told]
    if found.get("customers"):
        costs = [
            [
                one["customer"],
                *(grouped(one[name]) for name in ("before", "after")),
                one["currency"],
            ]
            for one in found["customers"]
        ]
        names = amounts("last periods", "would cost")
        parts += ["", table_of([Column("customer"), *names, Column("")], costs)]
    return tuple(parts)
