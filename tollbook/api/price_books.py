"""`/v1/price-books`: versions of prices, drafts of them, how they differ and what they come to."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from billing import postgres_reports as reports
from billing.charge import Amount
from billing.declaration import Declarations
from billing.postgres_catalog import DeclarationError
from billing.postgres_price_books import KnownVersion, list_known
from billing.price_book import BookVersion, PriceBook, to_content
from billing.price_book_diff import difference
from infra.embedded.errors import StackError
from tollbook.api.asked import Asked
from tollbook.api.declared import answer, declare, lock_facts
from tollbook.api.paging import Page, Paged
from tollbook.api.problem import ProblemError, problems
from tollbook.price_book_drafts import PublishedError, drop_draft, publish_draft
from tollbook.price_book_versions import rows_of
from tollbook.price_quotes import rated

_Key = Annotated[str, Path(max_length=128)]
_Number = Annotated[int, Path(ge=1, le=1_000_000)]
_EXAMPLE = {
    "version": 3, "effective_from": "2014-01-01", "currency": "USD", "status": "draft",
    "charges": [{"key": "base", "model": "flat", "amount": "2500.00", "timing": "advance"}],
}  # fmt: skip
_Version = Annotated[BookVersion, Body(openapi_examples={"a draft": {"value": _EXAMPLE}})]
_NotThere: dict[str, Any] = {"tags": ["catalog"], "responses": problems(404)}


class VersionShown(BaseModel):
    """A version of a price book: `draft`, `published` or, by a later one today, `superseded`."""

    model_config = ConfigDict(extra="allow")

    price_book: str
    version: int
    state: str
    effective_from: str | None
    currency: str
    content_hash: str
    known_at: str


class Quote(BaseModel):
    """What a quantity comes to in a whole period, step by step."""

    charge: str
    quantity: str
    currency: str
    amount_minor: int
    amount: str
    trace: list[dict[str, str]]


class Differences(BaseModel):
    """Charges that came and went, and the fields of others that changed."""

    added: list[str]
    removed: list[str]
    changed: list[dict[str, str | None]] = Field(description="charge, field, before, after")


def add_price_books(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    """Add the routes."""
    _add_reads(router, asker)
    _add_questions(router, asker)
    _add_writes(router, asker)
    _add_drafts(router, asker)


def _add_reads(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/price-books", tags=["catalog"])
    def list_price_books(asked: Annotated[Asked, Depends(asker)], paging: Paged) -> dict[str, Any]:
        """List the price books with all their published versions."""
        found = reports.price_books(asked.connection, asked.tenant, paging.after(str), paging.fetch)
        return paging.page(found, "key")

    @router.get("/price-books/{key}/versions", response_model=Page[VersionShown], **_NotThere)
    def list_price_book_versions(asked: Annotated[Asked, Depends(asker)], key: _Key) -> Any:
        """List the versions of a price book and drafts of it, the first first."""
        return answer({"items": _rows(asked, key), "next": None})

    @router.get("/price-books/{key}/versions/{version}", response_model=VersionShown, **_NotThere)
    def read_price_book_version(
        asked: Annotated[Asked, Depends(asker)], key: _Key, version: _Number
    ) -> Any:
        """Read a version with its charges."""
        return answer(_shown(asked, key, version))


def _add_questions(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/price-books/{key}/diff", response_model=Differences, **_NotThere)
    def compare_price_book_versions(
        asked: Annotated[Asked, Depends(asker)],
        key: _Key,
        before: Annotated[int, Query(ge=1, le=1_000_000)],
        after: Annotated[int, Query(ge=1, le=1_000_000)],
    ) -> Any:
        """Tell which charges and which of their fields two versions differ in."""
        return answer(difference(_known(asked, key, before), _known(asked, key, after)).to_row())

    @router.get("/price-books/{key}/versions/{version}/rate", response_model=Quote, **_NotThere)
    def rate_quantity(
        asked: Annotated[Asked, Depends(asker)],
        key: _Key,
        version: _Number,
        charge: Annotated[str, Query(max_length=128)],
        quantity: Annotated[Amount, Query(ge=0)] = Decimal(1),
        currency: Annotated[str | None, Query(max_length=3)] = None,
        given: Annotated[
            list[str] | None,
            Query(alias="with", max_length=20, description="NAME=VALUE of a dimension, say."),
        ] = None,
    ) -> Any:
        """Rate a quantity as one whole period of a charge."""
        book = PriceBook(key=key, versions=(_known(asked, key, version),))
        pairs = dict(pair.partition("=")[::2] for pair in given or ())
        try:
            return answer(rated(book, charge, quantity, version, currency, pairs))
        except StackError as error:
            raise ProblemError(422, str(error)) from error


def _add_writes(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.post(
        "/price-books/{key}/versions", tags=["catalog"], status_code=201,
        response_model=VersionShown, responses=problems(409),
    )  # fmt: skip
    def add_price_book_version(
        asked: Annotated[Asked, Depends(asker)], key: _Key, given: _Version
    ) -> Response:
        """Publish a version, or with `status: draft` upload or change a draft of it."""

        def add() -> Response:
            lock_facts(asked)
            book = _book(key, given)
            declare(asked, Declarations(price_books={key: book}))
            location = f"/v1/price-books/{key}/versions/{given.version}"
            return answer(_shown(asked, key, given.version), 201, location=location)

        return asked.once(add)


def _add_drafts(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.post(
        "/price-books/{key}/versions/{version}/publish", tags=["catalog"],
        response_model=VersionShown, responses=problems(404, 409),
    )  # fmt: skip
    def publish_price_book_version(
        asked: Annotated[Asked, Depends(asker)], key: _Key, version: _Number
    ) -> Response:
        """Publish a draft: from then on nothing changes it."""

        def publish() -> Response:
            try:
                publish_draft(asked.connection, asked.tenant, key, version)
            except LookupError as error:
                raise ProblemError(404, str(error.args[0])) from error
            except DeclarationError as error:
                raise ProblemError(409, str(error)) from error
            return answer(_shown(asked, key, version))

        return asked.once(publish)

    @router.delete(
        "/price-books/{key}/versions/{version}", tags=["catalog"], status_code=204,
        response_class=Response, responses=problems(404, 409),
    )  # fmt: skip
    def delete_price_book_draft(
        asked: Annotated[Asked, Depends(asker)], key: _Key, version: _Number
    ) -> Response:
        """Delete a draft; what is published stays."""

        def delete() -> Response:
            try:
                drop_draft(asked.connection, asked.tenant, key, version)
            except LookupError as error:
                raise ProblemError(404, str(error.args[0])) from error
            except PublishedError as error:
                raise ProblemError(409, str(error)) from error
            return Response(status_code=204)

        return asked.once(delete)


def _book(key: str, version: BookVersion) -> PriceBook:
    try:
        return PriceBook(key=key, versions=(version,))
    except ValueError as error:
        raise ProblemError(422, f"not a key of a price book: {key}") from error


def _of(asked: Asked, key: str) -> list[KnownVersion]:
    found = list_known(asked.connection, asked.tenant, key)
    if not found:
        raise ProblemError(404, f"there is no price book {key}")
    return found


def _rows(asked: Asked, key: str) -> list[dict[str, Any]]:
    return rows_of(_of(asked, key), datetime.now(UTC).date())


def _known(asked: Asked, key: str, number: int) -> BookVersion:
    for one in _of(asked, key):
        if one.content.version == number:
            return one.content
    raise ProblemError(404, f"price book {key} has no version {number}")


def _shown(asked: Asked, key: str, number: int) -> dict[str, Any]:
    content = to_content(_known(asked, key, number))
    row = next(row for row in _rows(asked, key) if row["version"] == number)
    return {**row, "content": content}
