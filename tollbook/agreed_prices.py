"""How prices that are agreed with one customer are shown."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from tollbook.screen import Cell, Column, bold, table_of


def agreed_parts(subscription: Mapping[str, Any]) -> tuple[Cell | Table, ...]:
    """Return the overrides of a subscription's items as a table; nothing where there are none."""
    rows: list[tuple[Cell, ...]] = [
        (
            item["key"],
            bold(override["charge"]),
            override.get("from") or "",
            override.get("to") or "",
            "; ".join(f"{name} {_text(value)}" for name, value in override.items() if value
                      and name not in ("charge", "from", "to")),
        )
        for item in subscription.get("items", ())
        for override in item.get("overrides", ())
    ]  # fmt: skip
    if not rows:
        return ()
    columns = [Column(name) for name in ("item", "charge", "from", "to")]
    return ("", table_of([*columns, Column("agreed", folds=True)], rows))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(f"({_text(inner)})" for inner in value)
    return "none" if value is None else str(value)
