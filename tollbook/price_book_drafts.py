"""Publishes and deletes drafts of price books, for the commands and the API."""

from datetime import UTC, datetime
from typing import Any

from billing.declaration import Declarations
from billing.postgres_catalog import DeclarationError, apply
from billing.postgres_price_books import delete_draft, list_known
from billing.price_book import PriceBook
from tollbook.billing_wiring import Connection
from tollbook.price_book_versions import rows_of


class PublishedError(Exception):
    """What is published stays."""


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


def drop_draft(connection: Connection, tenant: str, key: str, number: int) -> None:
    """Delete a draft.

    Raises:
        LookupError: there is no such version.
        PublishedError: it is no draft any more.
    """
    with connection.transaction():
        if delete_draft(connection, tenant, key, number):
            return
        if any(one.content.version == number for one in list_known(connection, tenant, key)):
            raise PublishedError(
                f"price book {key}: version {number} is published, and only a draft can be deleted"
            )
    raise LookupError(f"price book {key} has no draft of version {number}")
