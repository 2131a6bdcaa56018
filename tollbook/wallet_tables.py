"""What is printed of wallets: balances, grants, holds and movements as aligned tables."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from tollbook.screen import Cell, Column, amounts, grouped, table_of

_WORTH = ("balance", "held", "unbilled", "available")


def wallet_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """Return wallets with their balances; available is balance less held less unbilled."""
    columns = [Column("wallet"), Column("customer", folds=True)]
    rows = [
        [
            one["key"],
            one["customer"],
            one["currency"],
            *(grouped(one[name]) for name in _WORTH),
            "" if one["below"] is None else f"{one['top_up']} below {one['below']}",
            "" if one["top_up_pending"] is None else f"top-up {one['top_up_pending']}",
        ]
        for one in found
    ]
    more = [Column("top-up"), Column("asked for")]
    return table_of([*columns, *amounts("", *_WORTH), *more], rows)


def grant_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """Return grants in the order in which they were made, and what became of each."""
    names = ("granted", "left", "drawn", "expired", "voided")
    columns = [Column("grant"), Column("kind"), *amounts("priority"), Column("in force (UTC)")]
    rows = [
        [
            one["key"],
            one["kind"],
            str(one["priority"]),
            f"{_minute(one['effective_at'])} to {_minute(one['expires_at']) or 'ever'}",
            scope_text(one["scope"]),
            *(grouped(one[name]) for name in names),
        ]
        for one in found
    ]
    return table_of([*columns, Column("pays for", folds=True), *amounts(*names)], rows)


def hold_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """Return holds and how they stand."""
    columns = [Column("hold"), Column("state"), Column("pays for", folds=True)]
    rows = [
        [
            one["key"],
            one["state"],
            scope_text({f"{n}s": [one[n]] for n in ("charge", "product", "meter") if one[n]}),
            _minute(one["held_at"]),
            _minute(one["expires_at"]),
            grouped(one["amount"]),
            grouped(one["settled"] or ""),
        ]
        for one in found
    ]
    return table_of([*columns, Column("since"), Column("until"), *amounts("held", "used")], rows)


def movement_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """Return all that happened to a wallet, the first first."""
    names = ("left", "held", "settled", "owed")
    rows: list[list[Cell]] = [
        [
            str(one["sequence"]),
            _minute(one["at"]),
            one["kind"],
            one["grant"],
            *(_signed(one[name]) for name in names),
            one["document"] or one["hold"] or "",
            one["actor"],
            one["reason"],
        ]
        for one in found
    ]
    columns = [Column("at"), Column("kind"), Column("grant", folds=True), *amounts(*names)]
    what = [Column("for"), Column("actor", folds=True), Column("reason", folds=True)]
    return table_of([*amounts(""), *columns, *what], rows)


def scope_text(scope: Mapping[str, Iterable[str]]) -> str:
    """Return what a grant or hold pays for, in words."""
    named = [f"{name[:-1]} {key}" for name, keys in scope.items() for key in keys]
    return ", ".join(named) or "all"


def _minute(at: str | None) -> str:
    return "" if at is None else at[:16].replace("T", " ")


def _signed(amount: str) -> str:
    """Return what a movement adds with its sign, and nothing where it adds nothing."""
    if not amount.strip("0.-"):
        return ""
    return grouped(amount) if amount.startswith("-") else f"+{grouped(amount)}"
