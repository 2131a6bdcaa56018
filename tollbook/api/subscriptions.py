"""`/v1/subscriptions`: what customers agreed to, its state, and what is done to it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from fastapi import APIRouter, Body, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from billing import postgres_verbs as verbs
from billing.charge import Amount, Key
from billing.customer import Item, Moment, Subscription, parse_moment
from billing.postgres_preview import preview as would_bill
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
from tollbook.billing_wiring import open_database, open_usage
from tollbook.stack_file import Stack

_Key = Annotated[str, Path(max_length=128)]
_State = Literal["draft", "trialing", "active", "past_due", "paused", "canceled"]
_When = Literal["now", "period_end"] | date
_Reason = Annotated[str, Field(min_length=1, max_length=1024)]
_Made = TypeVar("_Made")
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
    credited: dict[str, str] = Field(description="By these terms first, by currency.")
    charged: dict[str, str]


class _Verb(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: _Reason = "asked for"


class Cancellation(_Verb):
    """When a subscription ends, and why."""

    at: _When = "period_end"
    credit: bool = Field(
        default=True, description="Credit what was billed in advance for the time after it."
    )


class EndOfTrial(_Verb):
    """When a trial ends, or that there is the payment method that it needs."""

    ends: Literal["now"] | date | None = None
    payment_method: Literal["given"] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.ends is None and self.payment_method is None:
            raise ValueError("say when it ends, or that a payment_method is given")
        return self


class Seats(_Verb):
    """How many seats of a charge there are from when on."""

    item: Key
    charge: Key
    quantity: Amount = Field(ge=0, examples=["12"])
    at: _When = "period_end"


class ItemChange(_Verb):
    """Which item is up- or downgraded: to another price book, or another version of its own."""

    item: str = Field(max_length=128)
    to_book: str | None = Field(default=None, max_length=128, examples=["pro"])
    to_version: Literal["follow"] | Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    key: str | None = Field(default=None, max_length=128, description="Of the new item.")
    at: _When = "period_end"


class PauseAsked(_Verb):
    """From when on nothing is billed and no usage counts, and until when."""

    at: _When = "now"
    until: date | None = None


class Resumption(_Verb):
    """When a pause ends."""

    at: _When = "now"


class WouldBill(BaseModel):
    """What a change would bill: nothing was changed or issued."""

    subscription: SubscriptionShown
    through: str
    documents: list[dict[str, Any]]


def add_subscriptions(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers that a tenant's usage is read from."""
    _add_reads(router, asker)
    _add_verbs(router, asker, stack_of)

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


def _add_verbs(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    changed: dict[str, Any] = {
        "tags": ["subscriptions"],
        "response_model": SubscriptionShown | WouldBill,
        "responses": problems(404, 409, 428),
    }
    doing = _doer(asker, stack_of)
    do_of = Annotated[Callable[[_Do], Response], Depends(doing)]

    @router.post("/subscriptions/{key}/cancel", **changed)
    def cancel_subscription(do: do_of, key: _Key, given: Cancellation) -> Response:
        """End a subscription now, at the end of its period or from a day on."""
        return do(lambda w: verbs.cancel(w, key, given.at, given.reason, credit=given.credit))

    @router.post("/subscriptions/{key}/undo-cancel", **changed)
    def undo_cancel_subscription(do: do_of, key: _Key, given: _Verb) -> Response:
        """Take back the planned end of a subscription."""
        return do(lambda w: verbs.undo_cancel(w, key, given.reason))

    @router.post("/subscriptions/{key}/trial", **changed)
    def set_subscription_trial(do: do_of, key: _Key, given: EndOfTrial) -> Response:
        """Let a trial end on another day, or say that there is a payment method."""
        has_method = given.payment_method is not None
        return do(
            lambda w: verbs.set_trial_end(
                w, key, given.ends, given.reason, payment_method=has_method
            )
        )

    @router.post("/subscriptions/{key}/seats", **changed)
    def set_subscription_seats(do: do_of, key: _Key, given: Seats) -> Response:
        """Set how many seats there are from a day on, also one that is over."""
        seats = (given.item, given.charge, given.quantity)
        return do(lambda w: verbs.set_seats(w, key, seats, given.at, given.reason))

    @router.post("/subscriptions/{key}/change", **changed)
    def change_subscription(do: do_of, key: _Key, given: ItemChange) -> Response:
        """Up- or downgrade an item: another book takes its place, or another version prices it."""
        book, pin = given.to_book, given.to_version
        if book is not None:
            name = given.key or book
            new = _told(lambda: _item(name, book, pin or "follow"))
            return do(lambda w: verbs.change_item(w, key, given.item, new, given.at, given.reason))
        if pin is None:
            raise ProblemError(422, "give to_book, to_version or both")
        return do(lambda w: verbs.change_version(w, key, given.item, pin, given.at, given.reason))

    @router.post("/subscriptions/{key}/pause", **changed)
    def pause_subscription(do: do_of, key: _Key, given: PauseAsked) -> Response:
        """Let nothing be billed and no usage count, until it is resumed or until a day."""
        return do(lambda w: verbs.pause(w, key, given.at, given.until, given.reason))

    @router.post("/subscriptions/{key}/resume", **changed)
    def resume_subscription(do: do_of, key: _Key, given: Resumption) -> Response:
        """End a pause."""
        return do(lambda w: verbs.resume(w, key, given.at, given.reason))


_Do = Callable[[verbs.Writer], dict[str, Any]]
_Through = Annotated[
    str | None, Query(max_length=64, description="With preview: bill through it, else now.")
]


def _doer(
    asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> Callable[..., Callable[[_Do], Response]]:
    """Return the dependency that does a verb, or tells what it would bill."""

    def doer(
        asked: Annotated[Asked, Depends(asker)],
        key: _Key,
        match: Annotated[IfMatch, Depends(if_match)],
        preview: Annotated[bool, Query(description="Change nothing; tell the bill.")] = False,
        through: _Through = None,
    ) -> Callable[[_Do], Response]:
        def change(verb: _Do) -> Response:
            lock_facts(asked)
            match.check(_known(asked, key)["version"])
            found = _told(lambda: verb(_writer(asked)))
            return answer(found, version=found["version"])

        def tell(verb: _Do) -> Response:
            match.check(_known(asked, key)["version"])
            stack = stack_of(asked.tenant)
            with open_database(stack) as connection:
                writer = replace(_writer(asked), connection=connection)
                usage, until = open_usage(stack), _moment(through)
                return answer(_told(lambda: would_bill(writer, usage, key, verb, until)))

        return lambda verb: tell(verb) if preview else asked.once(lambda: change(verb))

    return doer


def _moment(text: str | None) -> Moment | None:
    try:
        return None if text is None else parse_moment(text)
    except ValueError as error:
        raise ProblemError(422, f"through: {error}") from error


def _item(key: str, book: str, version: Literal["follow"] | int) -> Item:
    try:
        return Item(key=key, price_book=book, version=version)
    except ValidationError as error:
        raise VerbError(f"item {key} of price book {book}: {error.errors()[0]['msg']}") from error


def _told(write: Callable[[], _Made]) -> _Made:
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
