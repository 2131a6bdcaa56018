"""`tollbook price-book list`, `show`, `diff`, `export`: versions of files and of the stack.

And `publish` and `delete` of drafts.
"""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.screen import Cell, Column, bold, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack

if TYPE_CHECKING:
    from billing.postgres_price_books import KnownVersion
    from billing.price_book import BookVersion, PriceBook
    from billing.price_book_diff import Difference

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to read.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_PLACE = "BOOK@VERSION of the stack, or FILE.yaml@VERSION; without @VERSION the latest."
Place = Annotated[str, typer.Argument(help=_PLACE)]
Which = Annotated[str | None, typer.Option("--price-book", help="Which of a file's, if several.")]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Where a version is looked up."""

    data_dir: Path
    price_book: str | None = None


def register(app: typer.Typer) -> None:
    """Add these commands."""
    books = group(app, "price-book", "Price books.")
    books.command("list")(list_versions)
    books.command("show")(show_version)
    books.command("diff")(diff)
    books.command("export")(export)
    books.command("publish")(publish)
    books.command("delete")(delete)


def list_versions(
    price_book: Annotated[str | None, typer.Argument(help="Only this book's.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """List the versions of price books, which of them are superseded today, and their hashes."""
    rows = rows_of(_known(data_dir, price_book), datetime.now(UTC).date())
    if as_json:
        print(json.dumps(rows))
        return
    names = ("price_book", "version", "state", "effective_from", "currency", "charges")
    cells: list[tuple[Cell, ...]] = [
        (*(str(row[name] or "") for name in names), row["content_hash"][:12]) for row in rows
    ]
    columns = [Column(name.replace("_", " ")) for name in (*names, "hash")]
    show(table_of(columns, cells) if rows else "No price books.")


def show_version(
    place: Place,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    price_book: Which = None,
    as_json: AsJson = False,
) -> None:
    """Show one version as YAML, or as JSON."""
    from billing.price_book import to_content  # noqa: PLC0415
    from billing.yaml_text import write_yaml  # noqa: PLC0415

    version = _version(place, _Asked(data_dir, price_book))
    content = to_content(version)
    print(json.dumps(content) if as_json else write_yaml(content), end="\n" if as_json else "")


def diff(
    before: Place,
    after: Place,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    price_book: Which = None,
    as_json: AsJson = False,
) -> None:
    """Tell which charges and which of their fields two versions differ in."""
    from billing.price_book_diff import difference  # noqa: PLC0415

    asked = _Asked(data_dir, price_book)
    found = difference(_version(before, asked), _version(after, asked))
    if as_json:
        print(json.dumps(found.to_row()))
        return
    show("They do not differ." if found.is_none else diff_table(found))


def diff_table(found: "Difference") -> Table:
    """Return changes as an aligned table, charges that came and went before changed fields."""
    rows: list[tuple[Cell, ...]] = [(bold(key), "added", "", "") for key in found.added]
    rows += [(bold(key), "removed", "", "") for key in found.removed]
    rows += [
        (bold(one.charge or "(version)"), one.field, one.before or "-", one.after or "-")
        for one in found.changed
    ]
    columns = [Column("charge"), Column("what"), Column("before", folds=True)]
    return table_of([*columns, Column("after", folds=True)], rows)


def export(
    price_book: Annotated[str, typer.Argument(help="The book's key.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Write all versions of a book of the stack as YAML, which applies to the same hashes."""
    from billing.price_book import to_content  # noqa: PLC0415
    from billing.yaml_text import write_yaml  # noqa: PLC0415

    known = _known(data_dir, price_book)
    versions = [to_content(one.content) for one in known]
    print(write_yaml({"price_books": [{"key": price_book, "versions": versions}]}), end="")


def publish(
    place: Annotated[str, typer.Argument(help="BOOK@VERSION, a draft of the stack.")],
    data_dir: Annotated[Path, typer.Option(help="The stack to work on.")] = DEFAULT_DATA_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """Publish a draft: from then on nothing changes it, and its effective day decides."""
    from billing.postgres_catalog import DeclarationError  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415
    from tollbook.price_book_drafts import publish_draft  # noqa: PLC0415

    key, number = _draft(place)
    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        try:
            row = publish_draft(connection, stack.tenant, key, number)
        except LookupError as error:
            raise StackError(str(error.args[0]), "See `tollbook price-book list`.") from error
        except DeclarationError as error:
            raise StackError(str(error), "Mend the draft, and apply it again.") from error
    if as_json:
        print(json.dumps(row))
        return
    show(f"{key} version {number} is published: {row['content_hash'][:12]}.")


def delete(
    place: Annotated[str, typer.Argument(help="BOOK@VERSION, a draft of the stack.")],
    data_dir: Annotated[Path, typer.Option(help="The stack to work on.")] = DEFAULT_DATA_DIR,
) -> None:
    """Delete a draft; what is published stays."""
    from tollbook.billing_wiring import open_database  # noqa: PLC0415
    from tollbook.price_book_drafts import PublishedError, drop_draft  # noqa: PLC0415

    key, number = _draft(place)
    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        try:
            drop_draft(connection, stack.tenant, key, number)
        except (LookupError, PublishedError) as error:
            raise StackError(str(error.args[0]), "See `tollbook price-book list`.") from error
    show(f"The draft of {key} version {number} is deleted.")


def _draft(place: str) -> tuple[str, int]:
    key, _, number = place.rpartition("@")
    if not key or not number.isdecimal():
        raise StackError(f"not a draft: {place}", "Write it like airport@3.")
    return key, int(number)


def rows_of(known: "list[KnownVersion]", today: date) -> list[dict[str, Any]]:
    """Return versions without their charges, JSON-ready."""
    from billing.postgres_price_books import state_on  # noqa: PLC0415

    rows = []
    for one in known:
        own = [other.content for other in known if other.price_book == one.price_book]
        rows.append(_row(one) | {"state": state_on(today, one.content, own)})
    return rows


def _row(one: "KnownVersion") -> dict[str, Any]:
    version = one.content
    since = version.effective_from
    return {
        "price_book": one.price_book,
        "version": version.version,
        "effective_from": None if since is None else since.isoformat(),
        "currency": version.currency,
        "charges": len(version.charges),
        "content_hash": one.content_hash.hex(),
        "known_at": one.known_at.astimezone(UTC).isoformat(),
    }


def _known(data_dir: Path, price_book: str | None) -> "list[KnownVersion]":
    from billing.postgres_price_books import list_known  # noqa: PLC0415
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        known = list_known(connection, stack.tenant, price_book)
    if price_book is not None and not known:
        raise StackError(f"there is no price book {price_book}", "See `tollbook price-book list`.")
    return known


def _version(place: str, asked: _Asked) -> "BookVersion":
    """Return a version of a file or of the stack."""
    name, _, number = place.rpartition("@")
    if not name:
        name, number = place, ""
    if number and not number.isdecimal():
        raise StackError(f"not a version: {place}", f"Give {_PLACE}")
    if name.endswith((".yaml", ".yml")):
        book = chosen(Path(name), asked.price_book)
        key, versions = book.key, list(book.versions)
    else:
        key = name
        versions = [one.content for one in _known(asked.data_dir, name)]
    by_number = {version.version: version for version in versions}
    wanted = int(number) if number else max(by_number)
    if wanted not in by_number:
        numbers = ", ".join(map(str, sorted(by_number)))
        raise StackError(f"price book {key} has no version {wanted}", f"It has {numbers}.")
    return by_number[wanted]


def chosen(file: Path, key: str | None) -> "PriceBook":
    """Return the price book of a file; its key is needed where there are several."""
    from tollbook.billing_wiring import read_files  # noqa: PLC0415

    declared = read_files([file])
    if declared.faults:
        faults = "; ".join(str(fault) for fault in sorted(declared.faults))
        raise StackError(faults, "Mend that first.")
    books = declared.price_books
    if key is None and len(books) == 1:
        return next(iter(books.values()))
    if key is None or key not in books:
        raise StackError(
            f"{file} has no price book {key}" if key else f"{file} has {len(books)} price books",
            f"Choose with --price-book: {', '.join(books) or 'there is none'}.",
        )
    return books[key]
