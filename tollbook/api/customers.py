"""`/v1/customers`: who pays, and for whose usage."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from billing.customer import Customer, Moment, Subject
from billing.declaration import Declarations
from billing.postgres_customers import (
    list_assignments,
    list_customers,
    list_versions,
    read_customer,
)
from tollbook.api.asked import Asked
from tollbook.api.declared import answer, declare, lock_facts, validated
from tollbook.api.paging import Page, Paged
from tollbook.api.problem import ProblemError, fault, problem, problems
from tollbook.api.versions import IfMatch, if_match

_EXAMPLE = {
    "key": "UA",
    "name": "United Air Lines",
    "currency": "USD",
    "time_zone": "America/New_York",
    "payment_terms_days": 30,
    "subjects": ["UA:N14228", {"key": "UA:N24211", "from": "2013-03-10"}],
}
_OWN: Any = {
    name: (field.annotation, field)
    for name, field in Customer.model_fields.items()
    if name != "subjects"
}
CustomerShown: Any = create_model(
    "CustomerShown", __doc__="A customer as it is known now.", **_OWN, version=int, known_at=str
)
_Key = Annotated[str, Path(max_length=128)]
_Declared = Annotated[Customer, Body(openapi_examples={"an airline": {"value": _EXAMPLE}})]
_Filter = Annotated[str | None, Query(max_length=1024)]


class Assignment(BaseModel):
    """A subject whose usage a customer pays for, within `[from, to)`; null is without bound."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": 7, "subject": "UA:N14228", "subscription": None,
                                         "from": None, "to": None,
                                         "known_at": "2013-01-01T00:00:00+00:00"}]}
    )  # fmt: skip
    id: int
    subject: str
    subscription: str | None
    start: str | None = Field(alias="from")
    end: str | None = Field(alias="to")
    known_at: str


class EndOfSubject(BaseModel):
    """Until when a customer pays for a subject."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    key: str
    to: Moment


def add_customers(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    """Add the routes."""
    _add_reads(router, asker)
    _add_changes(router, asker)
    _add_subjects(router, asker)


def _add_reads(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/customers", tags=["customers"], response_model=Page[CustomerShown])
    def list_customers_(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        currency: _Filter = None,
        legal_entity: _Filter = None,
        subject: Annotated[
            str | None, Query(max_length=1024, description="Who pays for it, at any time.")
        ] = None,
    ) -> Any:
        """List customers by key."""
        given = {"currency": currency, "legal_entity": legal_entity, "subject": subject}
        filters = {name: value for name, value in given.items() if value is not None}
        after = paging.after(str) or ""
        rows = list_customers(asked.connection, asked.tenant, after, paging.fetch, filters)
        return answer(paging.page(rows, "key"))

    @router.get(
        "/customers/{key}", tags=["customers"], response_model=CustomerShown,
        responses=problems(404),
    )  # fmt: skip
    def read_customer_(asked: Annotated[Asked, Depends(asker)], key: _Key) -> Any:
        """Read a customer; its ETag is its version."""
        found = _known(asked, key)
        return answer(found, version=found["version"])

    @router.get(
        "/customers/{key}/versions", tags=["customers"], response_model=Page[CustomerShown],
        responses=problems(404),
    )  # fmt: skip
    def list_customer_versions(asked: Annotated[Asked, Depends(asker)], key: _Key) -> Any:
        """List what was known of a customer, the first version first."""
        _known(asked, key)
        rows = list_versions(asked.connection, asked.tenant, key)
        return answer({"items": rows, "next": None})


def _add_changes(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    changed: dict[str, Any] = {
        "tags": ["customers"],
        "response_model": CustomerShown,
        "responses": problems(404, 409, 428),
    }

    @router.post(
        "/customers", tags=["customers"], status_code=201, response_model=CustomerShown,
        responses=problems(409),
    )  # fmt: skip
    def create_customer(asked: Annotated[Asked, Depends(asker)], given: _Declared) -> Response:
        """Create a customer; the same again is 200, another of that key is 409."""

        def create() -> Response:
            lock_facts(asked)
            before = read_customer(asked.connection, asked.tenant, given.key)
            if before is not None and given != _with_subjects(before, given):
                version = before["version"]
                detail = f"there is a customer {given.key}: change it with PUT or PATCH"
                return problem(409, detail, current_version=version)
            return _declare(asked, given, 200 if before else 201)

        return asked.once(create)

    @router.put("/customers/{key}", **changed)
    def replace_customer(
        asked: Annotated[Asked, Depends(asker)],
        key: _Key,
        given: _Declared,
        match: Annotated[IfMatch, Depends(if_match)],
    ) -> Response:
        """Replace a customer; where `subjects` are not given, they stay as they are."""

        def replace() -> Response:
            lock_facts(asked)
            match.check(_known(asked, key)["version"])
            if given.key != key:
                reason = f"a key does not change: {key}"
                raise ProblemError(422, reason, errors=[fault("body", "key", reason=reason)])
            return _declare(asked, given)

        return asked.once(replace)

    @router.patch("/customers/{key}", **changed)
    def change_customer(
        asked: Annotated[Asked, Depends(asker)],
        key: _Key,
        given: Annotated[dict[str, Any], Body(examples=[{"name": "United"}])],
        match: Annotated[IfMatch, Depends(if_match)],
    ) -> Response:
        """Change the members that are given (RFC 7396); null is the default."""

        def change() -> Response:
            lock_facts(asked)
            before = _known(asked, key)
            match.check(before["version"])
            kept = {name: before[name] for name in _OWN}
            merged = {n: v for n, v in {**kept, **given, "key": key}.items() if v is not None}
            return _declare(asked, validated(Customer.model_validate, merged))

        return asked.once(change)


def _add_subjects(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    path = "/customers/{key}/subjects"

    @router.get(path, tags=["customers"], response_model=Page[Assignment], responses=problems(404))
    def list_subjects(asked: Annotated[Asked, Depends(asker)], paging: Paged, key: _Key) -> Any:
        """List the subjects that a customer pays for, with the dates from and to."""
        _known(asked, key)
        after = paging.after(int) or 0
        rows = list_assignments(asked.connection, asked.tenant, key, after, paging.fetch)
        return answer(paging.page(rows, "id"))

    @router.post(
        path, tags=["customers"], status_code=201, response_model=CustomerShown,
        responses=problems(404, 409),
    )  # fmt: skip
    def add_subject(asked: Annotated[Asked, Depends(asker)], key: _Key, given: Subject) -> Response:
        """Let a customer pay for a subject, from and to the dates given; 409 where another does."""
        return asked.once(lambda: _assign(asked, key, lambda known: [*known, given], 201))

    @router.post(
        f"{path}/end", tags=["customers"], response_model=CustomerShown,
        responses=problems(404, 409),
    )  # fmt: skip
    def end_subject(
        asked: Annotated[Asked, Depends(asker)], key: _Key, given: EndOfSubject
    ) -> Response:
        """Let a customer no longer pay for a subject from a date on."""

        def ended(known: list[Subject]) -> list[Subject]:
            own = [one for one in known if one.key == given.key and one.end is None]
            if not own:
                detail = f"customer {key} does not pay for an open subject {given.key}"
                raise ProblemError(404, detail)
            update = {"end": given.to}
            return [one.model_copy(update=update) if one in own else one for one in known]

        return asked.once(lambda: _assign(asked, key, ended, 200))


def _assign(
    asked: Asked, key: str, change: Callable[[list[Subject]], list[Subject]], status: int
) -> Response:
    lock_facts(asked)
    before = _known(asked, key)
    rows = list_assignments(asked.connection, asked.tenant, key, limit=1_000_000)
    known = [
        Subject(**{"key": row["subject"], "from": row["from"], "to": row["to"],
                   "subscription": row["subscription"]})
        for row in rows
    ]  # fmt: skip
    content = {name: before[name] for name in _OWN} | {"subjects": change(known)}
    return _declare(asked, validated(Customer.model_validate, content), status)


def _declare(asked: Asked, customer: Customer, status: int = 200) -> Response:
    declare(asked, Declarations(customers={customer.key: customer}))
    found = _known(asked, customer.key)
    location = f"/v1/customers/{customer.key}" if status == 201 else None
    return answer(found, status, version=found["version"], location=location)


def _with_subjects(before: dict[str, Any], given: Customer) -> Customer:
    own = Customer(**{name: before[name] for name in _OWN})
    return own.model_copy(update={"subjects": given.subjects})


def _known(asked: Asked, key: str) -> dict[str, Any]:
    found = read_customer(asked.connection, asked.tenant, key)
    if found is None:
        raise ProblemError(404, f"there is no customer {key}")
    return found
