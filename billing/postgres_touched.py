"""Reads the facts that a change touches: checks of a customer look at no other customer's.

So a write costs the same whether a tenant has ten customers or a hundred thousand.
"""

from collections import defaultdict
from typing import Any

from billing.customer import Customer, Subscription
from billing.declaration import Declarations
from billing.facts import Assignment, Facts
from billing.postgres_facts import Connection
from billing.price_book import BookVersion, PriceBook

_LATEST_CUSTOMERS = """
    SELECT DISTINCT ON (customer) content FROM customer_versions
    WHERE tenant = %s AND customer = ANY(%s) ORDER BY customer, version DESC
"""
_LATEST_SUBSCRIPTIONS = """
    SELECT DISTINCT ON (subscription) content FROM subscription_versions
    WHERE tenant = %(tenant)s AND subscription = ANY(
        SELECT subscription FROM subscription_versions
        WHERE tenant = %(tenant)s AND customer = ANY(%(customers)s)
        UNION ALL SELECT unnest(%(subscriptions)s::text[]))
    ORDER BY subscription, version DESC
"""
_ASSIGNMENTS = """
    SELECT subject, customer, subscription, lower(during), upper(during), known_revision
    FROM subject_assignments WHERE tenant = %(tenant)s AND withdrawn_revision IS NULL
    AND (customer = ANY(%(customers)s) OR subject = ANY(%(subjects)s))
    ORDER BY customer, subject, lower(during)
"""
_BOOKS = """
    SELECT price_book, content FROM price_book_versions
    WHERE tenant = %s AND price_book = ANY(%s) ORDER BY price_book, version
"""


def is_narrow(declared: Declarations) -> bool:
    """Return whether checks need the facts of some customers only: no book or meter changes."""
    return not declared.meters and not declared.price_books


def load_touched(connection: Connection, tenant: str, declared: Declarations) -> Facts:
    """Return the latest facts about declared customers, subscriptions and subjects."""
    wanted = declared.subscriptions.values()
    named = {*declared.customers, *(one.customer for one in declared.wallets.values())}
    named |= {subscription.customer for subscription in wanted}
    bound: dict[str, Any] = {
        "tenant": tenant,
        "customers": list(named),
        "subscriptions": [
            *declared.subscriptions,
            *(one.predecessor for one in wanted if one.predecessor is not None),
        ],
        "subjects": [
            subject.key
            for customer in declared.customers.values()
            for subject in customer.subjects or ()
        ],
    }
    rows = connection.execute(_LATEST_SUBSCRIPTIONS, bound).fetchall()
    subscriptions = [Subscription.model_validate(content) for (content,) in rows]
    assignments: dict[str, list[Assignment]] = defaultdict(list)
    for row in connection.execute(_ASSIGNMENTS, bound).fetchall():
        assignments[row[1]].append(Assignment(*row))
    named.update(assignments, (subscription.customer for subscription in subscriptions))
    rows = connection.execute(_LATEST_CUSTOMERS, (tenant, list(named))).fetchall()
    customers = [Customer.model_validate(content) for (content,) in rows]
    books = {item.price_book for one in (*subscriptions, *wanted) for item in one.items}
    return Facts(
        revision=0,
        price_books=read_books(connection, tenant, books),
        customers={customer.key: customer for customer in customers},
        subscriptions={subscription.key: subscription for subscription in subscriptions},
        assignments=assignments,
    )


def read_books(connection: Connection, tenant: str, keys: set[str]) -> dict[str, PriceBook]:
    """Return the books of some keys that there are, with all their versions."""
    versions: dict[str, list[BookVersion]] = defaultdict(list)
    if keys:
        for key, content in connection.execute(_BOOKS, (tenant, list(keys))).fetchall():
            versions[key].append(BookVersion.model_validate(content))
    return {key: PriceBook(key=key, versions=tuple(own)) for key, own in versions.items()}
