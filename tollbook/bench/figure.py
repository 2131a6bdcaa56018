"""One measured figure, what it should be at most, and the configuration that it holds for."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from tollbook.screen import Column, table_of


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure; less is better."""

    name: str
    value: float
    unit: str
    configuration: str
    target: float | None = None

    def to_content(self) -> dict[str, object]:
        """Return it as content for JSON."""
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "target": self.target,
            "unit": self.unit,
            "configuration": self.configuration,
        }


def figures_table(figures: Iterable[Figure]) -> Table:
    """Return an aligned table of figures beside their targets."""
    columns = [
        Column("figure"),
        Column("measured", right=True),
        Column("target", right=True),
        Column("unit"),
        Column("holds for"),
    ]
    rows = [
        [
            figure.name,
            f"{figure.value:,.2f}",
            "" if figure.target is None else f"{figure.target:g}",
            figure.unit,
            figure.configuration,
        ]
        for figure in figures
    ]
    return table_of(columns, rows)
