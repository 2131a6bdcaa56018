"""`tollbook price-book rate` names what a book does not have."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.embedded.errors import StackError
from tollbook.cli import build

BOOK = """
meters: [{key: calls, event_type: call, aggregation: count}]
price_books:
- key: book
  versions:
  - {version: 1, effective_from: 2013-01-01, currency: EUR, charges: [
     {key: calls, model: per_unit, meter: calls, unit_price: "0.5"}]}
"""


def rate(folder: Path, *arguments: str) -> str:
    """Return what the command prints; raises what it tells the user."""
    file = folder / "book.yaml"
    file.write_text(BOOK)
    done = CliRunner().invoke(build(), ["price-book", "rate", str(file), *arguments])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_thousands_are_set_apart(tmp_path: Path) -> None:
    out = rate(tmp_path, "--charge", "calls", "--quantity", "1234567")
    assert "1,234,567" in out
    assert "617,283.50" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--charge", "calls", "--version", "9"), "price book book has no version 9. It has 1."),
        (("--charge", "x"), "version 1 of price book book has no charge x. It has calls."),
        (("--charge", "calls", "--quantity", "-3"), "not below zero: -3"),
    ],
)
def test_what_cannot_be_rated_is_named(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(StackError) as error:
        rate(tmp_path, *arguments)
    assert told in str(error.value)
