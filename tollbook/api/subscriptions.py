"""`/v1/subscriptions`: what customers agreed to, its state, and what is done to it."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from billing import postgres_verbs as verbs
from billing.customer import Subscription
from billing.postgres_subscriptions import (
    find_subscription,
    list_history,
    list_subscriptions,
)
from billing.verbs import VerbError
from tollbook.api.asked import Asked
from tollbook.api.declared import answer, lock_facts
from tollbook.api.paging import Page, Paged
from tollbook.api.problem import ProblemError, problem, problems
from tollbook.api.versions import IfMatch, if_match

_Key = Annotated[str, Path(max_length=128)]
_State = Literal["draft", "trialing", "active", "past_due", "paused", "canceled"]
_When = Literal["now", "period_end"] | date
_Reason = Annotated[str, Field(min_length=1, max_length=1024)]
_EXAMPLE = {
    "key": "UA-2013", "customer": "UA", "start": "2013-01-01",
    "items": [{"key": "main", "price_book": "airport", "quantities": {"seats": "12"}}],
}  # fmt: skip
_Declared = Annotated[Subscription, Body(openapi_examples={"a year": {"value": _EXAMPLE}})]


class SubscriptionShown(BaseModel):
    """A subscription's terms and how it stands."""

    model_config = ConfigDict(extra="allow")

    key: str
    version: int
    customer: str
    state: _State
    overdue: bool = Field(description="Whether an invoice of it is open after its due day.")
    predecessor: str | None
    cancel_at: str | None
    changed_at: str


class HistoryShown(BaseModel):
    """What became of a subscription with one of its versions."""

    version: int
    start: str | None = Field(alias="from")
    to: str
    at: str
    actor: str
    reason: str
    content: dict[str, Any]


class _Verb(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: _Reason = "asked for"


class Cancellation(_Verb):
    """When a subscription ends, and why."""

    at: _When = "period_end"


class EndOfTrial(_Verb):
    """When a trial ends."""

    ends: Literal["now"] | date


class Seats(_Verb):
    """How many seats of a charge there are from when on."""

    item: str = Field(max_length=128)
    charge: str = Field(max_length=128)
    quantity: Decimal = Field(ge=0, max_digits=30, examples=["12"])
    at: _When = "period_end"


def add_subscriptions(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    """Add the routes."""
    _add_reads(router, asker)
    _add_verbs(router, asker)

    @router.post(
        "/subscriptions", tags=["subscriptions"], status_code=201,
        response_model=SubscriptionShown, responses=problems(409),
    )  # fmt: skip
    def create_subscription(asked: Annotated[Asked, Depends(asker)], given: _Declared) -> Response:
        """Create a subscription; one that names a `predecessor` follows it."""

        def create() -> Response:
            lock_facts(asked)
            before = find_subscription(asked.connection, asked.tenant, given.key)
            if before is not None:
                detail = f"there is a subscription {given.key}"
                return problem(409, detail, current_version=before["version"])
            made = _told(lambda: verbs.create(_writer(asked), given, "created"))
            location = f"/v1/subscriptions/{given.key}"
            return answer(made, 201, version=made["version"], location=location)

        return asked.once(create)


def _add_reads(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    @router.get("/subscriptions", tags=["subscriptions"], response_model=Page[SubscriptionShown])
    def list_subscriptions_(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        state: _State | None = None,
        customer: Annotated[str | None, Query(max_length=128)] = None,
    ) -> Response:
        """List subscriptions by key."""
        given = {"state": state, "customer": customer}
        filters = {name: value for name, value in given.items() if value is not None}
        after = paging.after(str) or ""
        rows = list_subscriptions(asked.connection, asked.tenant, after, paging.fetch, filters)
        return answer(paging.page(rows, "key"))

    @router.get(
        "/subscriptions/{key}", tags=["subscriptions"], response_model=SubscriptionShown,
        responses=problems(404),
    )  # fmt: skip
    def read_subscription(asked: Annotated[Asked, Depends(asker)], key: _Key) -> Response:
        """Read a subscription; its ETag is its version."""
        found = _known(asked, key)
        return answer(found, version=found["version"])

    @router.get(
        "/subscriptions/{key}/history", tags=["subscriptions"],
        response_model=Page[HistoryShown], responses=problems(404),
    )  # fmt: skip
    def list_subscription_history(
        asked: Annotated[Asked, Depends(asker)], paging: Paged, key: _Key
    ) -> Response:
        """List what became of a subscription: who changed it, when, why, and its terms then."""
        _known(asked, key)
        after = paging.after(int) or 0
        rows = list_history(asked.connection, asked.tenant, key, after, paging.fetch)
        return answer(paging.page(rows, "version"))


def _add_verbs(router: APIRouter, asker: Callable[..., Iterator[Asked]]) -> None:
    changed: dict[str, Any] = {
        "tags": ["subscriptions"],
        "response_model": SubscriptionShown,
        "responses": problems(404, 409, 428),
    }
    match_of = Annotated[IfMatch, Depends(if_match)]

    @router.post("/subscriptions/{key}/cancel", **changed)
    def cancel_subscription(
        asked: Annotated[Asked, Depends(asker)], key: _Key, given: Cancellation, match: match_of
    ) -> Response:
        """End a subscription now, at the end of its period or from a day on."""
        return _change(asked, key, match, lambda w: verbs.cancel(w, key, given.at, given.reason))

    @router.post("/subscriptions/{key}/undo-cancel", **changed)
    def undo_cancel_subscription(
        asked: Annotated[Asked, Depends(asker)], key: _Key, given: _Verb, match: match_of
    ) -> Response:
        """Take back the planned end of a subscription."""
        return _change(asked, key, match, lambda w: verbs.undo_cancel(w, key, given.reason))

    @router.post("/subscriptions/{key}/trial", **changed)
    def set_subscription_trial(
        asked: Annotated[Asked, Depends(asker)], key: _Key, given: EndOfTrial, match: match_of
    ) -> Response:
        """Let a trial end on another day; now, it converts at once."""
        return _change(
            asked, key, match, lambda w: verbs.set_trial_end(w, key, given.ends, given.reason)
        )

    @router.post("/subscriptions/{key}/seats", **changed)
    def set_subscription_seats(
        asked: Annotated[Asked, Depends(asker)], key: _Key, given: Seats, match: match_of
    ) -> Response:
        """Set how many seats there are from a day on that is not billed yet."""
        seats = (given.item, given.charge, given.quantity)
        return _change(
            asked, key, match, lambda w: verbs.set_seats(w, key, seats, given.at, given.reason)
        )


def _change(
    asked: Asked, key: str, match: IfMatch, verb: Callable[[verbs.Writer], dict[str, Any]]
) -> Response:
    def change() -> Response:
        lock_facts(asked)
        match.check(_known(asked, key)["version"], stale=409)
        found = _told(lambda: verb(_writer(asked)))
        return answer(found, version=found["version"])

    return asked.once(change)


def _told(write: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return write()
    except VerbError as error:
        raise ProblemError(409, str(error)) from error


def _writer(asked: Asked) -> verbs.Writer:
    actor = f"key {asked.key_name or 'unnamed'}"
    return verbs.Writer(asked.connection, asked.tenant, actor, datetime.now(UTC))


def _known(asked: Asked, key: str) -> dict[str, Any]:
    found = find_subscription(asked.connection, asked.tenant, key)
    if found is None:
        raise ProblemError(404, f"there is no subscription {key}")
    return found
