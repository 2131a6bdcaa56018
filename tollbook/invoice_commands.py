"""`tollbook invoice`, `ledger` and `usage unassigned`: reads what was billed, booked, or not."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to read.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_FIRST = datetime(1970, 1, 2, tzinfo=UTC)
_LAST = datetime(2200, 1, 1, tzinfo=UTC)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    invoices = group(app, "invoice", "Issued invoices and credit notes.")
    invoices.command("list")(list_invoices)
    invoices.command("show")(show_invoice)
    ledger = group(app, "ledger", "The double-entry books.")
    ledger.command("trial-balance")(trial_balance)
    ledger.command("lock")(lock)
    usage = group(app, "usage", "Measured usage.")
    usage.command("unassigned")(unassigned)


def list_invoices(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    customer: Annotated[str | None, typer.Option(help="Only this customer's.")] = None,
    as_json: AsJson = False,
) -> None:
    """List invoices and credit notes."""
    from billing.postgres_reports import invoices  # noqa: PLC0415
    from tollbook import billing_wiring as wiring  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with wiring.open_database(stack) as connection:
        rows = invoices(connection, stack.tenant, customer=customer, limit=1_000_000)
    if as_json:
        print(json.dumps(rows))
    else:
        Console(highlight=False).print(invoice_table(rows) if rows else "No invoices.")


def show_invoice(
    number: Annotated[str, typer.Argument(help="Number or id.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    trace: Annotated[bool, typer.Option("--trace", help="Show how amounts come about.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one invoice line by line."""
    from billing.postgres_reports import invoice  # noqa: PLC0415
    from tollbook import billing_wiring as wiring  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with wiring.open_database(stack) as connection:
        found = invoice(connection, stack.tenant, number)
    if found is None:
        raise StackError(f"there is no invoice {number}", "See `tollbook invoice list`.")
    if as_json:
        print(json.dumps(found))
        return
    console = Console(highlight=False)
    kind = found["document_type"].replace("_", " ").capitalize()
    who = f"{found['customer']} {found['customer_name']}"
    console.print(f"[bold]{kind} {found['number']}[/]  {who}  {found['state']}")
    console.print(
        f"issued {found['issued_on']}, due {found['due_on']}, {found['currency']}"
        f" {grouped(found['total'])}, open {grouped(found['amount_due'])}\n"
    )
    console.print(_line_table(found, trace=trace))


def invoice_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return documents as an aligned table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("number", "customer", "issued", "due", "state"):
        table.add_column(name, no_wrap=True, overflow="fold")
    rows = list(rows)
    table.columns[0].min_width = max((len(row["number"]) for row in rows), default=0)
    table.add_column("", justify="right")
    for name in ("total", "open"):
        table.add_column(name, justify="right")
    for row in rows:
        sign = "-" if row["document_type"] == "credit_note" else ""
        table.add_row(
            row["number"],
            row["customer"],
            row["issued_on"],
            row["due_on"],
            row["state"],
            row["currency"],
            sign + grouped(row["total"]),
            grouped(row["amount_due"]),
        )
    return table


def _line_table(found: Mapping[str, Any], *, trace: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("line", "kind", "service"):
        table.add_column(name)
    for name in ("quantity", "amount"):
        table.add_column(name, justify="right")
    sign = -1 if found["document_type"] == "credit_note" else 1
    for line in found["lines"]:
        service = f"{line['service_from']} to {line['service_until']}"
        amount = grouped(line["amount"] if sign > 0 else _negated(line["amount"]))
        quantity = f"{grouped(line['quantity'])} {line['unit']}".strip()
        table.add_row(line["description"], line["kind"], service, quantity, amount)
        for step in line["trace"] if trace else ():
            priced = f" at {step['unit_price']}" if "unit_price" in step else ""
            used = grouped(step["quantity"]) if "quantity" in step else ""
            name = f"[dim]  {step['step']}{priced}[/]"
            table.add_row(name, "", "", f"[dim]{used}[/]", f"[dim]{grouped(step['amount'])}[/]")
    table.add_section()
    table.add_row("[bold]total[/]", "", "", "", f"[bold]{grouped(found['total'])}[/]")
    return table


def grouped(number: str) -> str:
    """Return a decimal's text with thousands set apart."""
    whole, dot, rest = number.partition(".")
    return number if whole == "-0" else f"{int(whole):,}{dot}{rest}"


def _negated(number: str) -> str:
    return number[1:] if number.startswith("-") else f"-{number}"


def trial_balance(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    as_of: Annotated[str | None, typer.Option(help="Through the end of this day.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show every account's debits, credits and balance; they sum to zero."""
    from billing.postgres_reports import trial_balance as read  # noqa: PLC0415
    from tollbook import billing_wiring as wiring  # noqa: PLC0415

    day = None if as_of is None else _day(as_of)
    stack = read_stack(data_dir.resolve())
    with wiring.open_database(stack) as connection:
        rows = read(connection, stack.tenant, day)
    totals = _totals(rows)
    if as_json:
        print(json.dumps({"as_of": day.isoformat() if day else None, "accounts": rows,
                          "totals": totals}))  # fmt: skip
        return
    Console(highlight=False).print(_balance_table(rows, totals) if rows else "No entries.")


def _totals(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    totals: dict[str, dict[str, int]] = {}
    for row in rows:
        own = totals.setdefault(
            row["currency"], {"debit_minor": 0, "credit_minor": 0, "balance_minor": 0}
        )
        for name in own:
            own[name] += row[name]
    return totals


def _balance_table(
    rows: Iterable[Mapping[str, Any]], totals: Mapping[str, Mapping[str, int]]
) -> Table:
    from billing.money import display  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("entity", "account", "kind", ""):
        table.add_column(name)
    names = ("debit", "credit", "balance")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        currency = row["currency"]
        amounts = [display(row[f"{name}_minor"], currency) for name in names]
        table.add_row(row["legal_entity"], row["account"], row["kind"], currency, *amounts)
    table.add_section()
    for currency, own in totals.items():
        amounts = [f"[bold]{display(own[f'{name}_minor'], currency)}[/]" for name in names]
        table.add_row("", "[bold]total[/]", "", currency, *amounts)
    return table


def lock(
    through: Annotated[str, typer.Option(help="The last day to lock, such as 2013-01-31.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Lock the books through a day: nothing is booked into it any more."""
    from billing.postgres_ledger import lock_books  # noqa: PLC0415
    from tollbook import billing_wiring as wiring  # noqa: PLC0415

    day = _day(through)
    stack = read_stack(data_dir.resolve())
    with wiring.open_database(stack) as connection:
        lock_books(connection, stack.tenant, day)
    Console(highlight=False).print(f"The books are locked through {day}.")


def unassigned(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    start: Annotated[str | None, typer.Option("--from", help="Since this moment (UTC).")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Until before this moment.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show usage that no customer pays for, as of the last cut."""
    from tollbook.unassigned_usage import read_unassigned  # noqa: PLC0415

    interval = (_moment(start) or _FIRST, _moment(end) or _LAST)
    stack = read_stack(data_dir.resolve())
    cut_number, rows = read_unassigned(stack, interval)
    if as_json:
        print(json.dumps({"cut": cut_number, "rows": rows}))
        return
    console = Console(highlight=False)
    if not rows:
        console.print(f"All usage has an owner, as of cut {cut_number}.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("meter")
    table.add_column("subject")
    table.add_column("quantity", justify="right")
    for row in rows:
        table.add_row(row["meter"], row["subject"], grouped(row["quantity"]))
    console.print(table)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise StackError(f"not a day: {text}", "Write it like 2013-01-31.") from error


def _moment(text: str | None) -> datetime | None:
    from tollbook.billing_wiring import read_moment  # noqa: PLC0415

    if text is None:
        return None
    moment = read_moment(text)
    if isinstance(moment, datetime):
        return moment
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
