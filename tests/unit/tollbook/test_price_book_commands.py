"""`tollbook price-book` names what a book does not have, and what changed."""

import json
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


def test_a_diff_of_files_needs_no_stack(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(BOOK)
    new.write_text(BOOK.replace('"0.5"', '"0.75"'))

    def diff(*arguments: str) -> str:
        done = CliRunner().invoke(build(), ["price-book", "diff", *arguments])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    assert diff(str(old), f"{new}@1").split() == [
        *("charge", "what", "before", "after", "calls", "unit_price", "0.5", "0.75")
    ]
    assert diff(str(old), str(old)) == "They do not differ.\n"
    change = {"charge": "calls", "field": "unit_price", "before": "0.5", "after": "0.75"}
    assert json.loads(diff(str(old), str(new), "--json")) == {
        "added": [], "removed": [], "changed": [change]
    }  # fmt: skip
    with pytest.raises(StackError, match=r"price book book has no version 9. It has 1."):
        diff(str(old), f"{new}@9")
