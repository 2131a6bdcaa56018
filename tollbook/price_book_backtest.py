"""`tollbook price-book backtest`: what past usage would have cost under a draft."""

import json
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.price_book_versions import Which, chosen
from tollbook.screen import Cell, Column, amounts, bold, count_of, grouped, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, Stack, read_stack

if TYPE_CHECKING:
    from billing.comparison import Comparison, Sums
    from billing.price_book import PriceBook

AGAINST_POLICY = 3
"""The status where bills rise or revenue falls by too much."""

_SHOWN_MAX = 20


def register(app: typer.Typer) -> None:
    """Add this command."""
    group(app, "price-book", "Price books.").command("backtest")(backtest)


def backtest(
    book: Annotated[Path, typer.Argument(help="A YAML file with the draft.")],
    start: Annotated[
        str, typer.Option("--from", metavar="DATE", help="First day, such as 2013-01-01.")
    ],
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="The day after the last.")],
    data_dir: Annotated[Path, typer.Option(help="The stack whose past it is.")] = DEFAULT_DATA_DIR,
    *,
    price_book: Which = None,
    version: Annotated[int | None, typer.Option(help="Which version; else the latest.")] = None,
    bill_up_by: Annotated[
        str | None,
        typer.Option("--fail-if-bill-up-by", help="Fail where a customer pays 20% more, say."),
    ] = None,
    revenue_down_by: Annotated[
        str | None,
        typer.Option("--fail-if-revenue-down-by", help="Fail where all pay 5% less, say."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with every customer.")
    ] = False,
) -> None:
    """Rate what was billed again with a draft of its book, as of the last cut; writes nothing.

    What counts are the billed periods that start on the days from and to, of customers who are on
    the book. Where a bill rises, or revenue falls, by as much as the policy says or more, the
    status is 3.
    """
    from billing.comparison import Policy  # noqa: PLC0415

    policy = Policy(_percent(bill_up_by), _percent(revenue_down_by))
    days = (_day(start), _day(end))
    if days[0] >= days[1]:
        raise StackError(
            f"from {start} to {end} is no day at all", "--to is the day after the last."
        )
    stack = read_stack(data_dir.resolve())
    found, about = _compared(stack, chosen(book, price_book), book, version, days)
    faults = policy.faults(found)
    if as_json:
        print(json.dumps({**about, **to_rows(found), "against_policy": faults}))
    else:
        show(*_parts(found))
        for fault in faults[:_SHOWN_MAX]:
            typer.secho(fault, fg="red", err=True)
    if faults:
        told = f"tollbook: against the policy: {count_of(len(faults), 'change')}"
        typer.secho(told, fg="red", err=True)
        raise typer.Exit(AGAINST_POLICY)


def _percent(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        percent = Decimal(text.removesuffix("%").strip())
    except InvalidOperation:
        percent = Decimal("NaN")
    if not percent.is_finite() or percent < 0:
        raise StackError(f"not a percentage: {text}", "Write it like 20%.")
    return percent


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise StackError(f"not a day: {text}", "Write it like 2013-01-31.") from error


def _compared(
    stack: Stack, book: "PriceBook", file: Path, number: int | None, days: tuple[date, date]
) -> "tuple[Comparison, dict[str, Any]]":
    """Return a comparison, and what was compared."""
    from tollbook.backtest_wiring import run_backtest  # noqa: PLC0415
    from tollbook.billing_commands import shown_progress  # noqa: PLC0415

    numbers = sorted(one.version for one in book.versions)
    wanted = number if number is not None else numbers[-1]
    if wanted not in numbers:
        has = ", ".join(map(str, numbers))
        raise StackError(f"{file} has no version {wanted} of {book.key}", f"It has {has}.")
    with shown_progress(quiet=False, waiting="reading", doing="rating") as progress:
        found, cut = run_backtest(stack, file, book, wanted, days, progress)
    about = {
        "price_book": book.key,
        "version": wanted,
        "from": days[0].isoformat(),
        "to": days[1].isoformat(),
        "cut": cut,
        "periods": found.periods,
    }
    return found, about


def to_rows(found: "Comparison") -> dict[str, Any]:
    """Return a comparison as JSON-ready rows."""
    return {
        "revenue": [
            {"currency": currency} | _row(sums, currency)
            for currency, sums in found.revenue().items()
        ],
        "charges": [
            {"charge": charge, "currency": currency} | _row(sums, currency)
            for (charge, currency), sums in sorted(found.charges.items())
        ],
        "customers": [
            {"customer": customer, "currency": currency} | _row(sums, currency)
            for (customer, currency), sums in sorted(found.customers.items())
        ],
    }


def _row(sums: "Sums", currency: str) -> dict[str, Any]:
    from billing.comparison import percent_of  # noqa: PLC0415
    from billing.money import amount_text  # noqa: PLC0415

    minors = {
        "before": sums.before_minor,
        "after": sums.after_minor,
        "difference": sums.difference_minor,
    }
    return {
        **{f"{name}_minor": minor for name, minor in minors.items()},
        **{name: amount_text(minor, currency) for name, minor in minors.items()},
        "percent": percent_of(sums),
    }


def _parts(found: "Comparison") -> tuple[Cell | Table, ...]:
    """Return revenue, charges, and the customers whose bills change most."""
    rows = to_rows(found)
    customers = rows["customers"]
    changed = [one for one in customers if one["difference_minor"]]
    most = sorted(changed, key=lambda one: -abs(one["difference_minor"]))[:_SHOWN_MAX]
    up = sum(one["difference_minor"] > 0 for one in changed)
    told = (
        f"{count_of(len(customers), 'customer')}: {up:,} would have paid more,"
        f" {len(changed) - up:,} less, {len(customers) - len(changed):,} the same."
    )
    if not customers:
        return ("Nothing was billed to customers on this book on these days.",)
    parts: list[Cell | Table] = [told, _table("revenue", rows["revenue"], None), ""]
    parts.append(_table("charge", rows["charges"], "charge"))
    if most:
        more = f" ({len(most)} of {len(changed):,})" if len(most) < len(changed) else ""
        parts += ["", _table(f"customer{more}", most, "customer")]
    return tuple(parts)


def _table(title: str, rows: list[dict[str, Any]], name: str | None) -> Table:
    cells: list[tuple[Cell, ...]] = [
        (
            bold(str(row[name])) if name else "",
            *(grouped(row[part]) for part in ("before", "after", "difference")),
            row["currency"],
            "" if row["percent"] is None else f"{row['percent']} %",
        )
        for row in rows
    ]
    columns = [Column(title), *amounts("before", "after", "difference"), Column("")]
    return table_of([*columns, *amounts("change")], cells)
