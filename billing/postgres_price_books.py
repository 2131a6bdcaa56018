"""Reads published versions of price books as they are known now."""

from dataclasses import dataclass
from datetime import date, datetime

from billing.postgres_facts import Connection
from billing.price_book import BookVersion


@dataclass(frozen=True, slots=True)
class Published:
    """A version of a price book, with the hash of its content."""

    price_book: str
    content: BookVersion
    content_hash: bytes
    known_at: datetime


def list_published(
    connection: Connection, tenant: str, price_book: str | None = None
) -> list[Published]:
    """Return all versions by book, the first first; of one book only, where one is named."""
    rows = connection.execute(
        "SELECT price_book, content, content_hash, known_at FROM price_book_versions"
        " WHERE tenant = %(tenant)s AND price_book = coalesce(%(book)s, price_book)"
        " ORDER BY price_book, version",
        {"tenant": tenant, "book": price_book},
    ).fetchall()
    return [
        Published(key, BookVersion.model_validate(content), digest, known_at)
        for key, content, digest, known_at in rows
    ]


def state_on(day: date, version: BookVersion, versions: list[BookVersion]) -> str:
    """Return `superseded` where a later version is in effect on a day, else `published`."""
    is_later = any(
        other.version > version.version
        and (other.effective_from is None or other.effective_from <= day)
        for other in versions
    )
    return "superseded" if is_later else "published"
