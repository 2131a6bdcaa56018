"""A version of a price book that is tried before it is published."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

from billing.catalog import Known, check
from billing.customer import Item
from billing.declaration import Declarations
from billing.facts import Facts
from billing.meter_change import KnownMeter
from billing.price_book import BookVersion, PriceBook


@dataclass(frozen=True, slots=True)
class Draft:
    """A version that is tried, and the book it is tried for."""

    price_book: str
    version: BookVersion


def draft_of(
    declared: Declarations,
    book: PriceBook,
    number: int,
    past: Facts,
    meters: Mapping[str, KnownMeter],
) -> Draft | None:
    """Return a declared version as the next one of a known book; None where faults were noted.

    It must be one that could be published, but for its number and its day.
    """
    known = past.price_books[book.key]
    last = max(known.versions, key=lambda version: version.version)
    since = (last.effective_from or date.min) + timedelta(days=1)
    named = next(version for version in book.versions if version.version == number)
    following = named.model_copy(update={"version": last.version + 1, "effective_from": since})
    alone = book.model_copy(update={"versions": (following,)})
    tried = Declarations(price_books={book.key: alone}, places=declared.places)
    check(tried, Known(_of_each_currency(past, known), meters))
    declared.faults += tried.faults
    return None if tried.faults else Draft(book.key, following)


def _of_each_currency(facts: Facts, book: PriceBook) -> Facts:
    """Return a customer of each currency who is on a book: what its prices are checked for."""
    item = Item(key="draft", price_book=book.key)
    chosen = {
        facts.customers[one.customer].currency: one.model_copy(update={"items": (item,)})
        for one in facts.subscriptions.values()
        if any(own.price_book == book.key for own in one.items)
    }
    return Facts(
        facts.revision,
        price_books={book.key: book},
        customers={one.customer: facts.customers[one.customer] for one in chosen.values()},
        subscriptions={one.key: one for one in chosen.values()},
    )


def with_draft(facts: Facts, draft: Draft) -> Facts:
    """Return facts in which a draft says what each version of its book says.

    A charge that stays as it was is the same object, which tells that it need not be rated again.
    """
    book = facts.price_books[draft.price_book]
    versions = tuple(
        draft.version.model_copy(
            update={
                "version": known.version,
                "effective_from": known.effective_from,
                "charges": tuple(
                    before if (before := known.charge(charge.key)) == charge else charge
                    for charge in draft.version.charges
                ),
            }
        )
        for known in book.versions
    )
    drafted = book.model_copy(update={"versions": versions})
    return replace(facts, price_books={**facts.price_books, book.key: drafted})
