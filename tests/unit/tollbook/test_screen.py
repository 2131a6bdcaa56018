"""What commands print is the data: markup in it changes nothing, and no amount is cut."""

import ast
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from billing.postgres_catalog import Applied
from tollbook import billing_commands, invoice_commands, price_book_commands
from tollbook.screen import Cell, Column, amounts, count_of, open_console, show, table_of

NASTY = ["s[/b]", "Bad [/bold] Co", "Eve [red]x[/red]", "[link=x]", ":smile:", "\\[b]", "[/]"]
MANY = "123,456,789,012,345.67"


def document(name: str) -> dict[str, Any]:
    return {
        "number": f"MAIN-INV-2026-000001{name}",
        "document_type": "invoice",
        "customer": name,
        "customer_name": name,
        "issued_on": "2026-01-01",
        "due_on": "2026-01-31",
        "state": "open",
        "currency": "EUR",
        "total": MANY.replace(",", ""),
        "total_minor": 12345678901234567,
        "wallet_minor": 100,
        "amount_due": MANY.replace(",", ""),
        "lines": [
            {
                "ordinal": 1,
                "description": f"calls ({name})",
                "kind": "usage",
                "service_from": "2026-01-01",
                "service_until": "2026-02-01",
                "quantity": "1234567",
                "unit": name,
                "amount": MANY.replace(",", ""),
                "trace": [{"step": name, "quantity": "3", "unit_price": "1", "amount": "3.00"}],
            }
        ],
        "credit": [
            {"wallet": name, "grant": name, "kind": "prepaid", "line": 1, "amount_minor": 100}
        ],
    }


def account(name: str) -> dict[str, Any]:
    amount = {"debit_minor": 12345678901234567, "credit_minor": 0, "balance_minor": 0}
    return {"legal_entity": "main", "account": name, "kind": "asset", "currency": "EUR", **amount}


def printed(*parts: Cell | Table, width: int | None = None) -> str:
    """Return what is printed on a terminal so wide, or into a pipe."""
    file = io.StringIO()
    console = open_console(file)
    if width is not None:
        console = Console(
            file=file, width=width, force_terminal=True, color_system=None, markup=False
        )
    show(*parts, console=console)
    return file.getvalue()


SHOWN: dict[str, Callable[[str], tuple[Cell | Table, ...]]] = {
    "invoice list": lambda name: (invoice_commands.invoice_table([document(name)]),),
    "invoice show": lambda name: invoice_commands.invoice_parts(document(name), trace=True),
    "trial-balance": lambda name: (invoice_commands.balance_table([account(name)], {}),),
    "unassigned": lambda name: invoice_commands.unassigned_parts(
        {
            "cut": 7,
            "cut_at": "2026-01-02T00:00:00+00:00",
            "rows": [{"meter": name, "subject": name, "lacks": "no customer", "quantity": "5"}],
        }
    ),
    "rate": lambda name: (
        price_book_commands.quote_table(
            {"trace": [{"step": name, "amount": "1.00"}], "currency": "EUR", "amount": "1.00"}
        ),
    ),
}


@pytest.mark.parametrize("command", SHOWN)
@pytest.mark.parametrize("name", NASTY)
def test_data_is_printed_as_it_is(command: str, name: str) -> None:
    assert name in printed(*SHOWN[command](name))


@pytest.mark.parametrize("name", NASTY)
def test_what_was_applied_is_printed_as_it_is(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    billing_commands.show_applied([Applied("customer", name, "created", name)])
    assert capsys.readouterr().out.count(name) == 2


@pytest.mark.parametrize("name", NASTY)
def test_what_was_issued_is_printed_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = {
        "resumed": False,
        "documents": [document(name)],
        "totals": {"EUR": MANY},
        "nothing_because": None,
    }
    billing_commands.show_result({**result, "entries": {"accrual": 1, "recognition": 2}})
    out = capsys.readouterr().out
    assert name in out
    assert f"1 document, {MANY} EUR" in out
    assert "1 accrual entry, 2 recognition entries" in out


@pytest.mark.parametrize("width", [None, 40, 80, 120])
@pytest.mark.parametrize("command", ["invoice list", "invoice show", "trial-balance"])
def test_no_amount_and_no_account_is_cut(command: str, width: int | None) -> None:
    name = "customer_credit_of_a_rather_long_account"
    out = printed(*SHOWN[command](name), width=width)
    assert "…" not in out
    assert MANY in out
    assert command != "trial-balance" or name in out


def test_a_pipe_has_no_width() -> None:
    out = printed(table_of([Column("name", folds=True), *amounts("sum")], [("x" * 300, MANY)]))
    assert out.splitlines()[1].split() == ["x" * 300, MANY]


def test_no_cell_moves_the_cursor() -> None:
    assert "\x1b" not in printed(table_of([Column("name")], [("a\x1b[2Jb\nc",)]))
    assert "\\n" in printed("a\nb")


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 documents"), (1, "1 document"), (2000, "2,000 documents")]
)
def test_a_count_has_its_noun(count: int, words: str) -> None:
    assert count_of(count, "document") == words


def test_commands_print_by_way_of_the_screen() -> None:
    """A console or a table of a command's own would read markup in what it prints."""
    folder = Path(invoice_commands.__file__).parent
    for name in ("billing", "invoice", "price_book"):
        module = folder / f"{name}_commands.py"
        calls = [
            node.func.id
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        assert "Table" not in calls
        assert calls.count("Console") == (name == "billing")  # of its progress bar


def test_unassigned_usage_says_of_which_cut_it_is() -> None:
    found = {"cut": 7, "cut_at": "2026-01-02T00:00:00+00:00", "rows": []}
    out = printed(*invoice_commands.unassigned_parts(found))
    assert "cut 7, fixed at 2026-01-02T00:00:00+00:00; newer usage is not in it" in out
