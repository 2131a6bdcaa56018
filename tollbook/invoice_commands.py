"""`tollbook invoice`, `ledger` and `usage unassigned`: reads what was billed, booked, or not."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.screen import Cell, Column, amounts, bold, dim, grouped, show, table_of
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
    list_documents({} if customer is None else {"customer": customer}, data_dir, as_json=as_json)


def list_documents(chosen: Mapping[str, str], data_dir: Path, *, as_json: bool) -> None:
    """Print the documents that filters choose."""
    from billing.postgres_reports import invoices  # noqa: PLC0415
    from tollbook import billing_wiring as wiring  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with wiring.open_database(stack) as connection:
        rows = invoices(connection, stack.tenant, chosen, limit=1_000_000)
    if as_json:
        print(json.dumps(rows))
        return
    nothing = "No credit notes." if "document_type" in chosen else "No invoices."
    show(invoice_table(rows) if rows else nothing)


def show_invoice(
    number: Annotated[str, typer.Argument(help="Number or id.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    trace: Annotated[bool, typer.Option("--trace", help="Show how amounts come about.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one invoice line by line."""
    show_document("invoice", number, data_dir, trace=trace, as_json=as_json)


def show_document(kind: str, number: str, data_dir: Path, *, trace: bool, as_json: bool) -> None:
    """Print an invoice or a credit note; of kind `credit note` only the latter."""
    from billing.postgres_reports import invoice  # noqa: PLC0415
    from tollbook import billing_wiring as wiring  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with wiring.open_database(stack) as connection:
        found = invoice(connection, stack.tenant, number)
    is_other = kind == "credit note" and found and found["document_type"] != "credit_note"
    if found is None or is_other:
        command = f"tollbook {kind.replace(' ', '-')} list"
        raise StackError(f"there is no {kind} {number}", f"See `{command}`.")
    if as_json:
        print(json.dumps(found))
        return
    show(*invoice_parts(found, trace=trace))


def invoice_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return documents as an aligned table."""
    columns = [Column("number"), Column("customer", folds=True), Column("issued"), Column("due")]
    return table_of(
        [*columns, Column("state", folds=True), *amounts("", "total", "open")],
        [
            (
                row["number"],
                row["customer"],
                row["issued_on"],
                row["due_on"],
                row["state"],
                row["currency"],
                ("-" if row["document_type"] == "credit_note" else "") + grouped(row["total"]),
                grouped(row["amount_due"]),
            )
            for row in rows
        ],
    )


def invoice_parts(found: Mapping[str, Any], *, trace: bool) -> tuple[Cell | Table, ...]:
    """Return what is printed of one document."""
    kind = found["document_type"].replace("_", " ").capitalize()
    who = f"{found['customer']} {found['customer_name']}"
    days = f"issued {found['issued_on']}, due {found['due_on']}"
    worth = f"{found['currency']} {grouped(found['total'])}, open {grouped(found['amount_due'])}"
    title = Text.assemble((f"{kind} {found['number']}", "bold"), f"  {who}  {found['state']}")
    return (title, f"{days}, {worth}", "", _line_table(found, trace=trace))


def _line_table(found: Mapping[str, Any], *, trace: bool) -> Table:
    from billing.money import display  # noqa: PLC0415

    rows: list[tuple[Cell, ...]] = []
    sign = -1 if found["document_type"] == "credit_note" else 1
    for line in found["lines"]:
        service = f"{line['service_from']} to {line['service_until']}"
        amount = grouped(line["amount"] if sign > 0 else _negated(line["amount"]))
        quantity = f"{grouped(line['quantity'])} {line['unit']}".strip()
        rows.append((line["description"], line["kind"], service, quantity, amount))
        for step in line["trace"] if trace else ():
            priced = f" at {step['unit_price']}" if "unit_price" in step else ""
            used = grouped(step["quantity"]) if "quantity" in step else ""
            name = dim(f"  {step['step']}{priced}")
            rows.append((name, "", "", dim(used), dim(grouped(step["amount"]))))
        for one in found["credit"] if trace else ():
            if one["line"] == line["ordinal"]:
                name = dim(f"  {one['kind']} credit {one['grant']} of wallet {one['wallet']}")
                minor = -sign * one["amount_minor"]
                rows.append((name, "", "", "", dim(display(minor, found["currency"]))))
    rows.append((bold("total"), "", "", "", bold(grouped(found["total"]))))
    if found["credit"]:
        credit_minor = -sign * found["wallet_minor"]
        wallets = sorted({f"wallet {one['wallet']}" for one in found["credit"]})
        for what, minor in (
            (", ".join(wallets), credit_minor),
            ("in money", found["total_minor"] + credit_minor),
        ):
            rows.append((what, "", "", "", display(minor, found["currency"])))
    columns = [
        Column("line", folds=True),
        Column("kind", folds=True),
        Column("service", folds=True),
    ]
    return table_of([*columns, *amounts("quantity", "amount")], rows)


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
    show(balance_table(rows, totals) if rows else "No entries.")


def _totals(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    totals: dict[str, dict[str, int]] = {}
    for row in rows:
        own = totals.setdefault(
            row["currency"], {"debit_minor": 0, "credit_minor": 0, "balance_minor": 0}
        )
        for name in own:
            own[name] += row[name]
    return totals


def balance_table(
    rows: Iterable[Mapping[str, Any]], totals: Mapping[str, Mapping[str, int]]
) -> Table:
    """Return accounts and the totals of each currency as an aligned table."""
    from billing.money import display  # noqa: PLC0415

    names = ("debit", "credit", "balance")
    cells: list[tuple[Cell, ...]] = []
    for row in rows:
        currency = row["currency"]
        shown = [display(row[f"{name}_minor"], currency) for name in names]
        cells.append((row["legal_entity"], row["account"], row["kind"], currency, *shown))
    for currency, own in totals.items():
        sums = [bold(display(own[f"{name}_minor"], currency)) for name in names]
        cells.append(("", bold("total"), "", currency, *sums))
    columns = [Column("entity", folds=True), Column("account"), Column("kind", folds=True)]
    return table_of([*columns, Column(""), *amounts(*names)], cells)


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
    show(f"The books are locked through {day}.")


def unassigned(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    start: Annotated[str | None, typer.Option("--from", help="Since this moment (UTC).")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Until before this moment.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show usage that nobody pays for, as of the last cut.

    Either no customer owned the subject then, or no subscription of its customer covered that time.
    A cut is fixed by each bill run and close; usage that came since is not in it.
    """
    from tollbook.unassigned_usage import read_unassigned  # noqa: PLC0415

    interval = (_moment(start) or _FIRST, _moment(end) or _LAST)
    stack = read_stack(data_dir.resolve())
    found = read_unassigned(stack, interval)
    if as_json:
        print(json.dumps(found))
        return
    show(*unassigned_parts(found))


def unassigned_parts(found: Mapping[str, Any]) -> tuple[Cell | Table, ...]:
    """Return what is printed of usage that nobody pays for."""
    as_of = f"as of cut {found['cut']}, fixed at {found['cut_at']}; newer usage is not in it"
    if not found["rows"]:
        return (f"All usage has a customer and a subscription, {as_of}.",)
    columns = [Column("meter"), Column("subject", folds=True), Column("lacks")]
    cells = [
        (row["meter"], row["subject"], row["lacks"], grouped(row["quantity"]))
        for row in found["rows"]
    ]
    title = f"Usage that nobody pays for, {as_of}."
    return (title, "", table_of([*columns, *amounts("quantity")], cells))


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
