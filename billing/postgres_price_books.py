"""Versions of price books: drafts, which may change, and published ones, which never do."""

from dataclasses import dataclass
from datetime import date, datetime

from psycopg.types.json import Jsonb

from billing.postgres_facts import Connection
from billing.price_book import BookVersion, content_hash, to_content

_ALL = """
    SELECT price_book, version, content, content_hash, known_at FROM price_book_versions
    WHERE tenant = %(tenant)s AND price_book = coalesce(%(book)s, price_book)
    UNION ALL SELECT price_book, version, content, content_hash, known_at FROM price_book_drafts
    WHERE tenant = %(tenant)s AND price_book = coalesce(%(book)s, price_book)
    ORDER BY price_book, version
"""
_DRAFT = """
    INSERT INTO price_book_drafts AS known (tenant, price_book, version, content, content_hash)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT (tenant, price_book, version) DO UPDATE
    SET content = excluded.content, content_hash = excluded.content_hash, known_at = now()
    WHERE known.content_hash <> excluded.content_hash
"""
_NO_DRAFT = "DELETE FROM price_book_drafts WHERE tenant = %s AND price_book = %s AND version = %s"


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """A version of a price book, or a draft of one, with the hash of its content."""

    price_book: str
    content: BookVersion
    content_hash: bytes
    known_at: datetime


def list_known(
    connection: Connection, tenant: str, price_book: str | None = None
) -> list[KnownVersion]:
    """Return all versions and drafts by book, the first first; of one book where one is named."""
    rows = connection.execute(_ALL, {"tenant": tenant, "book": price_book}).fetchall()
    return [
        KnownVersion(key, BookVersion.model_validate(content), digest, known_at)
        for key, _, content, digest, known_at in rows
    ]


def publish(
    connection: Connection, tenant: str, price_book: str, version: BookVersion, revision: int
) -> None:
    """Write a version that nothing changes any more; it is no draft from then on."""
    content = to_content(version)
    connection.execute(
        "INSERT INTO price_book_versions VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (
            tenant,
            price_book,
            version.version,
            version.effective_from,
            version.currency,
            Jsonb(content),
            content_hash(content),
            revision,
        ),
    )
    delete_draft(connection, tenant, price_book, version.version)


def write_draft(connection: Connection, tenant: str, price_book: str, version: BookVersion) -> bool:
    """Write a draft, or change it; returns whether it says something new."""
    content = to_content(version)
    row = (tenant, price_book, version.version, Jsonb(content), content_hash(content))
    return connection.execute(_DRAFT, row).rowcount > 0


def delete_draft(connection: Connection, tenant: str, price_book: str, number: int) -> bool:
    """Delete a draft; returns whether there was one."""
    row = (tenant, price_book, number)
    return connection.execute(_NO_DRAFT, row).rowcount > 0


def state_on(day: date, version: BookVersion, versions: list[BookVersion]) -> str:
    """Return `draft`; `superseded` where a later version is in effect on a day; or `published`."""
    if version.is_draft:
        return "draft"
    is_later = any(
        not other.is_draft
        and other.version > version.version
        and (other.effective_from is None or other.effective_from <= day)
        for other in versions
    )
    return "superseded" if is_later else "published"
