"""Publishes drafts of price books, for the command and the API."""

from datetime import UTC, datetime
from typing import Any

from billing.declaration import Declarations
from billing.postgres_catalog import DeclarationError, apply
from billing.postgres_price_books import list_known
from billing.price_book import PriceBook
from tollbook.billing_wiring import Connection
from tollbook.price_book_versions import rows_of


def publish_draft(connection: Connection, tenant: str, key: str, number: int) -> dict[str, Any]:
    """Publish a draft, and return it without its charges.

    Raises:
        LookupError: there is no such draft.
        DeclarationError: it does not go together with what is known.
    """
    with connection.transaction():
        known = {one.content.version: one.content for one in list_known(connection, tenant, key)}
        draft = known.get(number)
        if draft is None or not draft.is_draft:
            raise LookupError(f"price book {key} has no draft of version {number}")
        published = draft.model_copy(update={"status": "published"})
        book = PriceBook(key=key, versions=(published,))
        declared = Declarations(price_books={key: book})
        try:
            apply(connection, tenant, declared, datetime.now(UTC))
        except DeclarationError as error:
            faults = sorted({fault.message for fault in declared.faults})
            raise DeclarationError("; ".join(faults)) from error
        rows = rows_of(list_known(connection, tenant, key), datetime.now(UTC).date())
    return next(row for row in rows if row["version"] == number)
