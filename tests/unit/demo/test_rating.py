from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

import tollbook.demo
from tollbook.demo.rating import Charge, read_versions, version_on

BOOK = Path(tollbook.demo.__file__).parent / "price_book.yaml"


def charge(key: str, day: date) -> Charge:
    (found,) = [c for c in version_on(read_versions(BOOK), day).charges if c.key == key]
    return found


@pytest.mark.parametrize(
    ("quantity", "cents"),
    [(0, 0), (1, 12_00), (1000, 12_000_00), (1001, 12_009_50), (3615, 36_073_75)],
)
def test_a_graduated_price_fills_its_tiers_in_order(quantity: int, cents: int) -> None:
    assert charge("departures", date(2013, 1, 1)).cents(Decimal(quantity)) == cents


@pytest.mark.parametrize(
    ("key", "quantity", "origin", "cents"),
    [
        ("navigation", 1_000_000, "", 2_100_00), ("navigation", 1_000_001, "", 1_800_00),
        ("water", 1, "", 6_50), ("water", 500, "", 6_50), ("water", 501, "", 13_00),
        ("noise", 10, "LGA", 11_00), ("noise", 10, "EWR", 7_00),
    ],
)  # fmt: skip
def test_a_volume_a_package_and_a_matrix(key: str, quantity: int, origin: str, cents: int) -> None:
    assert charge(key, date(2013, 1, 1)).cents(Decimal(quantity), origin) == cents


def test_the_second_version_prices_from_the_first_of_july() -> None:
    assert charge("aircraft", date(2013, 6, 1)).cents(Decimal(2)) == 75_00
    assert charge("aircraft", date(2013, 7, 1)).cents(Decimal(2)) == 78_00
    assert charge("base", date(2013, 7, 1)).cents(Decimal(1)) == 2750_00


def test_half_a_cent_is_rounded_up() -> None:
    assert charge("seats", date(2013, 1, 1)).cents(Decimal(10)) == 44  # 0.435
    assert charge("seats", date(2013, 1, 1)).cents(Decimal(8)) == 35  # 0.348


def test_a_price_the_recount_does_not_know_is_refused(tmp_path: Path) -> None:
    book = tmp_path / "book.yaml"
    book.write_text(BOOK.read_text().replace("timing: advance", "minimum: '1'"))
    with pytest.raises(ValueError, match=r"charge base: \['minimum'\]"):
        read_versions(book)
