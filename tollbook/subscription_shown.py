"""Subscriptions, and what a change of one would bill, as people and machines read them."""

import json
from typing import Any

from rich.table import Table

from tollbook.screen import Column, amounts, grouped, show, table_of


def print_subscription(found: dict[str, Any], *, as_json: bool) -> None:
    """Print a subscription as it stands."""
    if as_json:
        print(json.dumps(found))
        return
    show(subscription_table([found]))


def subscription_table(found: list[dict[str, Any]]) -> Table:
    """Return subscriptions as an aligned table."""
    columns = [Column(name) for name in ("key", "customer", "state", "start", "ends", "overdue")]
    rows = [
        [
            one["key"],
            one["customer"],
            one["state"],
            one["start"],
            one["cancel_at"] or "",
            "yes" if one["overdue"] else "",
            str(one["version"]),
        ]
        for one in found
    ]
    return table_of([*columns, *amounts("version")], rows)


def print_preview(found: dict[str, Any], *, as_json: bool) -> None:
    """Print what a change would bill."""
    if as_json:
        print(json.dumps(found))
        return
    if not found["documents"]:
        show(f"Through {found['through']} it would bill nothing. Nothing was changed.")
        return
    for document in found["documents"]:
        kind = document["document_type"].replace("_", " ")
        show(f"{kind.capitalize()} of {document['bill_on']}, {document['currency']}", "")
        rows = [
            [
                line["description"],
                line["kind"],
                f"{line['service_from']} to {line['service_until']}",
                grouped(line["amount"]),
            ]
            for line in document["lines"]
        ]
        total = document["total"]
        sign = "-" if document["document_type"] == "credit_note" else ""
        rows.append(["total", "", "", f"{sign}{total}"])
        columns = [Column("line", folds=True), Column("kind"), Column("service")]
        show(table_of([*columns, *amounts("amount")], rows))
    show("Nothing was changed, and nothing was issued.")
