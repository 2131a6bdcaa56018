"""Prices agreed with one customer are shown whole, beside its subscription."""

from io import StringIO

from billing.price_book import to_content
from tests.unit.billing.test_override import BOOK, terms
from tests.unit.billing.world import METERS, facts_of
from tollbook.agreed_prices import agreed_parts
from tollbook.screen import open_console, show


def shown(overrides: str) -> str:
    out = StringIO()
    content = to_content(facts_of(METERS, BOOK, terms(overrides)).subscriptions["S"])
    show(*agreed_parts(content), console=open_console(out))
    return out.getvalue()


def test_each_agreed_price_has_its_days_and_all_of_its_tiers() -> None:
    tiers = 'tiers: [{up_to: "5", unit_price: "6"}, {up_to: null, unit_price: "1"}]'
    given = f"    - {{charge: dep, from: 2013-02-01, to: 2013-03-01, {tiers}}}"
    text = " ".join(shown(given).split())
    assert "main dep 2013-02-01 2013-03-01" in text
    assert "tiers (up_to 5, unit_price 6), (up_to none, unit_price 1)" in text


def test_where_nothing_is_agreed_nothing_is_shown() -> None:
    assert agreed_parts({"items": [{"key": "main"}]}) == ()
