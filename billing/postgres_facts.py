"""Reads the facts known at a revision from Postgres."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg

from billing.customer import Customer, Subscription
from billing.facts import Assignment, Facts
from billing.price_book import BookVersion, PriceBook

Connection = psycopg.Connection[Any]

_OF_CUSTOMER = "(%(customer)s::text IS NULL OR customer = %(customer)s)"
_ASSIGNMENT = (
    "subject, customer, subscription, lower(during), upper(during),"
    " known_revision, withdrawn_revision"
)


def load_facts(
    connection: Connection, tenant: str, revision: int, customer: str | None = None
) -> Facts:
    """Return a tenant's facts as they were known at a revision, of all customers or of one."""
    bound = {"tenant": tenant, "revision": revision, "customer": customer}
    customers = _latest(connection, "customer", bound)
    subscriptions = _latest(connection, "subscription", bound)
    books: dict[str, list[BookVersion]] = defaultdict(list)
    published: dict[tuple[str, int], int] = {}
    for key, number, known, content in connection.execute(
        "SELECT price_book, version, known_revision, content FROM price_book_versions"
        " WHERE tenant = %(tenant)s AND known_revision <= %(revision)s"
        " ORDER BY price_book, version",
        bound,
    ):
        books[key].append(BookVersion.model_validate(content))
        published[key, number] = known
    assignments: dict[str, list[Assignment]] = defaultdict(list)
    for owned in _assignments(
        connection,
        "known_revision <= %(revision)s"
        " AND (withdrawn_revision IS NULL OR withdrawn_revision > %(revision)s)"
        f" AND {_OF_CUSTOMER}",
        bound,
    ):
        assignments[owned.customer].append(owned)
    additive, units = _meters(connection, tenant)
    return Facts(
        revision=revision,
        price_books={
            key: PriceBook(key=key, versions=tuple(versions)) for key, versions in books.items()
        },
        customers={key: Customer.model_validate(content) for key, _, _, content in customers},
        subscriptions={
            key: Subscription.model_validate(content) for key, _, _, content in subscriptions
        },
        assignments=assignments,
        additive_meters=additive,
        units=units,
        published=published,
        agreed={key: (version, known) for key, version, known, _ in subscriptions},
    )


def load_moved(connection: Connection, tenant: str, after: int, until: int) -> list[Assignment]:
    """Return the assignments that became known or were withdrawn in `(after, until]`."""
    return _assignments(
        connection,
        "(known_revision > %(after)s AND known_revision <= %(until)s)"
        " OR (withdrawn_revision > %(after)s AND withdrawn_revision <= %(until)s)",
        {"tenant": tenant, "after": after, "until": until},
    )


def _latest(connection: Connection, thing: str, bound: dict[str, Any]) -> list[Any]:
    return connection.execute(
        f"SELECT DISTINCT ON ({thing}) {thing}, version, known_revision, content"
        f" FROM {thing}_versions"
        f" WHERE tenant = %(tenant)s AND known_revision <= %(revision)s AND {_OF_CUSTOMER}"
        f" ORDER BY {thing}, version DESC",
        bound,
    ).fetchall()


def _assignments(connection: Connection, where: str, bound: dict[str, Any]) -> list[Assignment]:
    rows = connection.execute(
        f"SELECT {_ASSIGNMENT} FROM subject_assignments"
        f" WHERE tenant = %(tenant)s AND ({where}) ORDER BY customer, subject, lower(during)",
        bound,
    ).fetchall()
    return [Assignment(*row) for row in rows]


def _meters(connection: Connection, tenant: str) -> tuple[frozenset[str], dict[str, str]]:
    rows = connection.execute(
        "SELECT DISTINCT ON (key) key, definition->>'aggregation', definition->>'unit'"
        " FROM meters WHERE tenant = %s ORDER BY key, version DESC",
        (tenant,),
    ).fetchall()
    additive = frozenset(key for key, aggregation, _ in rows if aggregation in ("count", "sum"))
    return additive, {key: unit or "" for key, _, unit in rows}


def next_revision(connection: Connection, tenant: str) -> int:
    """Lock the tenant's facts until the transaction ends; returns the revision it may make."""
    lock = "SELECT revision + 1 FROM fact_revisions WHERE tenant = %s FOR UPDATE"
    row = connection.execute(lock, (tenant,)).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO fact_revisions (tenant) VALUES (%s) ON CONFLICT DO NOTHING", (tenant,)
        )
        row = connection.execute(lock, (tenant,)).fetchone()
    assert row is not None  # noqa: S101 - it was inserted
    return int(row[0])


def raise_revision(connection: Connection, tenant: str, revision: int) -> None:
    """Make the facts written with a revision known."""
    connection.execute(
        "UPDATE fact_revisions SET revision = %s WHERE tenant = %s", (revision, tenant)
    )


def last_billed_ends(
    connection: Connection, tenant: str, subscriptions: Sequence[str]
) -> dict[str, datetime]:
    """Return until when some subscriptions have been billed, where they have."""
    rows = connection.execute(
        "SELECT subscription, max(ends_at) FROM billed_periods WHERE tenant = %s"
        " AND subscription = ANY(%s) GROUP BY subscription",
        (tenant, list(subscriptions)),
    ).fetchall()
    return dict(rows)


def billed_until_by_meter(connection: Connection, tenant: str) -> dict[str, datetime]:
    """Return until when usage of each meter has been billed, to whomever."""
    rows = connection.execute(
        "SELECT m.meter, max(b.ends_at) FROM billed_periods b"
        " JOIN price_book_versions v ON v.tenant = b.tenant AND v.price_book = b.price_book,"
        " jsonb_array_elements(v.content->'charges') c, LATERAL (SELECT c->>'meter' AS meter"
        " UNION SELECT value FROM jsonb_each_text(coalesce(c->'meters', '{}'))) m"
        " WHERE b.tenant = %s AND c->>'key' = b.charge AND m.meter IS NOT NULL GROUP BY 1",
        (tenant,),
    ).fetchall()
    return {meter: until.astimezone(UTC) for meter, until in rows}
