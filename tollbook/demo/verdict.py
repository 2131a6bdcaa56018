"""The verdict: everything Tollbook holds against the recount."""

from collections.abc import Iterator

from tollbook.demo.accounts import check_copies, check_events, check_rejections
from tollbook.demo.compare import (
    Check,
    check_from_scratch,
    check_invoices,
    check_ledger,
    check_lines,
    check_quantities,
)
from tollbook.demo.lounge import lounge_lines, read_prices
from tollbook.demo.rating import read_versions
from tollbook.demo.recount import fees, from_scratch, lines, prepare_recount, quantities
from tollbook.demo.setting import LOUNGE_BOOKS, PRICE_BOOK
from tollbook.demo.year import Year


def recount(year: Year) -> Iterator[Check]:
    """Compare events, quantities, lines, invoices and totals, one kind after the other."""
    tables, books, feed = year.tables, year.books, year.last_feed
    prepare_recount(tables)
    yield check_events(tables, feed, books.events())
    yield from check_copies(tables, feed, year.sent, books.events_taken())
    yield check_rejections(tables, feed, books.rejected())
    yield from check_quantities(quantities(tables, feed), books.quantities())
    versions = read_versions(PRICE_BOOK)
    prices, lounge_products = read_prices(LOUNGE_BOOKS)
    fee_lines = fees(tables, versions, year.months) | lounge_lines(prices, year.months)
    recounted = fee_lines | lines(tables, versions, year.months)
    held_lines = books.lines()
    yield from check_lines(recounted, held_lines)
    yield from check_invoices(recounted, books.invoices())
    products = {charge.key: charge.product for v in versions for charge in v.charges}
    yield check_ledger(recounted, products | lounge_products, books.ledger())
    scratch = from_scratch(tables, versions, year.months, year.months)
    yield check_from_scratch(scratch, fee_lines, held_lines)


def not_yet_billed(year: Year) -> int:
    """Return the cents of closed months' usage that came after the last close.

    The next close bills them as corrections.
    """
    versions = read_versions(PRICE_BOOK)
    known, billed = (
        sum(from_scratch(year.tables, versions, year.months, feed).values())
        for feed in (year.last_feed, year.months)
    )
    return known - billed
