"""How the demo looks: one hundred columns, the same facts on a terminal and in a log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.markup import escape
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tollbook.demo.books import HeldInvoice, HeldLine
from tollbook.demo.compare import Check
from tollbook.demo.tools import WIDTH

_DIFFERENCES_SHOWN = 10
_NAMES_WIDTH = 74
_COLUMNS = {"usage": "usage", "correction": "corrections"}
"""Where kinds of lines are shown; fees, and what changes of them are prorated to, are one."""


@dataclass(frozen=True, slots=True)
class MonthRow:
    """What one month's feed and close came to."""

    period: str
    events: int
    fed_seconds: float
    closed_seconds: float
    lines: Sequence[HeldLine]
    documents: int


def open_console(*, to_stderr: bool) -> Console:
    """Return a console of the demo's width."""
    return Console(width=WIDTH, highlight=False, stderr=to_stderr)


def heading(console: Console, number: int, title: str) -> None:
    """Begin a part."""
    console.print()
    console.print(Rule(f"[bold]{number}  {title}[/]", align="left", style="cyan"))
    console.print()


def months_heading(console: Console) -> None:
    """Print the columns of `month_line`."""
    console.print(
        f"[dim]  {'month':<9}{'events':>8}{'events/s':>11}{'close':>9}"
        f"{'documents':>11}{'fees':>13}{'usage':>16}{'corrections':>20}[/]"
    )


def month_line(console: Console, row: MonthRow) -> None:
    """Print one month."""
    cents = dict.fromkeys(("fees", "usage", "corrections"), 0)
    for line in row.lines:
        cents[_COLUMNS.get(line.kind, "fees")] += line.cents
    corrections = sum(line.kind == "correction" for line in row.lines)
    corrected = f"{corrections} = {dollars(cents['corrections'])}" if corrections else "none"
    console.print(
        f"[green]✓[/] [bold]{row.period:<9}[/]{row.events:>8,}"
        f"{row.events / max(row.fed_seconds, 0.001):>11,.0f}{row.closed_seconds:>7.1f} s"
        f"{row.documents:>11}{dollars(cents['fees']):>13}{dollars(cents['usage']):>16}"
        f"{corrected:>20}"
    )


def fault_line(console: Console, text: str) -> None:
    """Print what was broken."""
    console.print(f"[bold red]✗[/] [red]{escape(text)}[/]")


def healed_line(console: Console, text: str) -> None:
    """Print how it went on."""
    console.print(f"[bold green]↻[/] [green]{escape(text)}[/]")


def change_line(console: Console, words: str, text: str) -> None:
    """Print what was changed, and by which command."""
    console.print(f"[bold cyan]↑[/] [cyan]{escape(text)}[/]\n  [dim]$ {escape(words)}[/]")


def applied_table(applied: Iterable[Mapping[str, str]]) -> Table:
    """Return what was made known, a line per kind of thing."""
    things: dict[str, list[Mapping[str, str]]] = {}
    for one in applied:
        things.setdefault(one["kind"], []).append(one)
    table = _table()
    table.show_header = False
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for kind, ones in things.items():
        names = ", ".join(" ".join(filter(None, (one["key"], _in_brackets(one)))) for one in ones)
        shown = names if len(names) <= _NAMES_WIDTH else f"{names[: _NAMES_WIDTH - 1]}…"
        table.add_row(f"[green]✓[/] {len(ones)}", kind + ("s" if len(ones) > 1 else ""), shown)
    return table


def airlines_table(
    lines: Iterable[HeldLine], invoices: Sequence[HeldInvoice], names: Mapping[str, str]
) -> Table:
    """Return what each airline was billed."""
    table = _table()
    table.add_column("", no_wrap=True)
    table.add_column("USD", no_wrap=True)
    for title in ("invoices", "fees", "usage", "corrections", "total"):
        table.add_column(title, justify="right", no_wrap=True)
    cents: dict[tuple[str, str], int] = {}
    for line in lines:
        for airline in (line.airline, ""):
            kind = _COLUMNS.get(line.kind, "fees")
            cents[airline, kind] = cents.get((airline, kind), 0) + line.cents
    for airline in [*sorted(names, key=lambda code: -cents.get((code, "usage"), 0)), ""]:
        kinds = [cents.get((airline, kind), 0) for kind in ("fees", "usage", "corrections")]
        count = sum(airline in ("", invoice.airline) for invoice in invoices)
        table.add_row(
            airline,
            names.get(airline, "sixteen airlines"),
            f"{count}",
            *(dollars(kind)[1:] for kind in kinds),
            f"[bold]{dollars(sum(kinds))[1:]}[/]",
            style="" if airline else "bold",
        )
    return table


def answer_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return what a query answered."""
    table = _table()
    for column in columns:
        numeric = bool(rows) and not isinstance(rows[0][columns.index(column)], str)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v) for v in row))
    return table


def query(sql: str) -> Syntax:
    """Return SQL as it is shown."""
    return Syntax(sql.strip(), "sql", theme="ansi_dark", background_color="default")


def recount_table(checks: Sequence[Check]) -> Group:
    """Return what was compared, and the first differences if there are any."""
    table = _table()
    table.add_column("recounted with DuckDB from the source files")
    for title in ("rows compared", "they add up to", "differences"):
        table.add_column(title, justify="right")
    for check in checks:
        count = len(check.differences)
        verdict = f"[bold red]{count:,} ✗[/]" if count else "[green]0 ✓[/]"
        table.add_row(check.name, f"{check.compared:,}", check.total, verdict)
    return Group(table, *_differences(checks))


def dollars(cents: int) -> str:
    """Return cents as dollars."""
    sign = "-" if cents < 0 else ""
    return f"{sign}${abs(cents) // 100:,}.{abs(cents) % 100:02}"


def command_line(console: Console, words: str) -> None:
    """Print a command that is about to be run."""
    console.print(f"[dim]$[/] [bold]{escape(words)}[/]\n", soft_wrap=True)


def _in_brackets(applied: Mapping[str, str]) -> str:
    detail = applied["detail"]
    return f"({detail})" if detail not in ("", "version 1") else ""


def _differences(checks: Iterable[Check]) -> Iterable[Text]:
    for check in checks:
        for difference in check.differences[:_DIFFERENCES_SHOWN]:
            yield Text(
                f"{check.name}: {difference.what}: recounted {difference.recounted}, "
                f"Tollbook has {difference.held}",
                "red",
            )
        if len(check.differences) > _DIFFERENCES_SHOWN:
            yield Text(f"... and {len(check.differences) - _DIFFERENCES_SHOWN:,} more", "red")


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
