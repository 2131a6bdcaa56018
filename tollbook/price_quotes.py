"""What a quantity would cost by a version of a price book, for the command and the API."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from infra.embedded.errors import StackError

if TYPE_CHECKING:
    from billing.price_book import PriceBook


def rated(
    book: "PriceBook",
    key: str,
    quantity: Decimal,
    number: int | None,
    currency: str | None,
    given: Mapping[str, str],
) -> dict[str, Any]:
    """Return the price of a quantity, JSON-ready; raises StackError for what the book has not."""
    from billing.charge import has_price_in  # noqa: PLC0415
    from billing.money import amount_text, text_of  # noqa: PLC0415
    from billing.quotation import quote  # noqa: PLC0415

    versions = {version.version: version for version in book.versions}
    version = versions.get(number if number is not None else max(versions))
    if version is None:
        numbers = ", ".join(str(known) for known in sorted(versions))
        raise StackError(f"price book {book.key} has no version {number}", f"It has {numbers}.")
    charge = version.charge(key)
    if charge is None:
        keys = ", ".join(one.key for one in version.charges)
        raise StackError(
            f"version {version.version} of price book {book.key} has no charge {key}",
            f"It has {keys}.",
        )
    own = currency or version.currency
    if not all(has_price_in(price, own, version.currency) for price in charge.all_prices()):
        raise StackError(f"charge {key} has no price in {own}", "Choose with --currency.")
    today = datetime.now(UTC).date()
    try:
        target = quote(book, version, charge, quantity, own, today, given)
    except ValueError as error:
        raise StackError(str(error), "Mend what --with says.") from error
    return {
        "charge": key,
        "quantity": text_of(quantity),
        "currency": own,
        "amount_minor": target.amount_minor,
        "amount": amount_text(target.amount_minor, own),
        "trace": list(target.trace),
    }
