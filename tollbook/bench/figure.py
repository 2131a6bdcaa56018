"""One measured figure, what it should be at most, and the configuration that it holds for."""

from collections.abc import Iterable, Sequence
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


def costs_table(figures: Sequence[Figure]) -> Table:
    """Return a line per configuration, to see what grows with what; names lose their topic."""
    unit_by_name = {figure.name: figure.unit for figure in figures}
    values: dict[str, dict[str, str]] = {}
    for figure in figures:
        values.setdefault(figure.configuration, {})[figure.name] = f"{figure.value:,.2f}"
    common = figures[0].unit
    columns = [Column(f"{common}, for")]
    for name, unit in unit_by_name.items():
        short = name.partition(": ")[2] or name
        columns.append(Column(short if unit == common else f"{short}, {unit}", right=True))
    rows = [[where, *(of.get(name, "") for name in unit_by_name)] for where, of in values.items()]
    return table_of(columns, rows)
