"""What commands print: data as it is, whatever it contains, and nothing of it cut.

Text is never read as markup; a column's cells stay whole unless it says that it folds, and where
no terminal sets a width there is none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

Cell = str | Text

_NO_LIMIT = 1_000_000
_FOLDED_AT = 12
"""The least width of a column that folds, where it holds as much."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; one that folds goes on in a next line where the terminal is narrow."""

    name: str
    right: bool = False
    folds: bool = False


def amounts(*names: str) -> list[Column]:
    """Return columns of numbers."""
    return [Column(name, right=True) for name in names]


def open_console(file: TextIO | None = None) -> Console:
    """Return a console that prints text as it is."""
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _NO_LIMIT
    return console


def show(*parts: Cell | Table, console: Console | None = None) -> None:
    """Print a line, or a table, each."""
    out = console or open_console()
    for part in parts:
        if isinstance(part, Table):
            out.width = max(out.width, _width_at_least(part))
            out.print(part, crop=False)
        else:
            out.print(_visible(part), soft_wrap=True)


def table_of(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Table:
    """Return an aligned table; all but folding columns are as wide as what they hold."""
    held = [[_visible(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        width = max([cell_len(column.name), *(cell_len(row[index].plain) for row in held)])
        table.add_column(
            Text(column.name),
            justify="right" if column.right else "left",
            no_wrap=not column.folds,
            overflow="fold",
            min_width=min(width, _FOLDED_AT) if column.folds else width,
        )
    for row in held:
        table.add_row(*row)
    return table


def _width_at_least(table: Table) -> int:
    """Return the width below which cells would be cut; the terminal then breaks the lines."""
    return sum((column.min_width or 0) + 1 for column in table.columns)


def bold(text: str) -> Text:
    """Return text in bold."""
    return Text(text, "bold")


def dim(text: str) -> Text:
    """Return text that stands back."""
    return Text(text, "dim")


def grouped(number: str) -> str:
    """Return a decimal's text with thousands set apart; no text stays none."""
    whole, dot, rest = number.partition(".")
    return f"{int(whole):,}{dot}{rest}" if whole not in ("", "-0") else number


def count_of(count: int, thing: str) -> str:
    """Return a count with its noun: `1 document`, `2 documents`, `2 entries`."""
    if count == 1:
        return f"1 {thing}"
    plural = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
    return f"{count:,} {plural}"


def _visible(cell: Cell) -> Text:
    """Return a cell with its control characters written out, so that none moves the cursor."""
    if isinstance(cell, Text):
        return cell
    return Text("".join(c if c.isprintable() else ascii(c)[1:-1] for c in cell))
