"""`/v1/clock`: what time it is for a tenant, and moving the clock of one that has its own."""

from collections.abc import Callable, Iterator
from typing import Annotated, Self

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from infra.embedded.errors import StackError
from tollbook import clock_runs
from tollbook.api.asked import Asked
from tollbook.api.declared import answer
from tollbook.api.problem import ProblemError, problems
from tollbook.stack_file import Stack


class ClockShown(BaseModel):
    """What time it is; a virtual clock moves only when it is advanced."""

    at: str = Field(examples=["2013-01-01T00:00:00+00:00"])
    virtual: bool


class StartOfClock(BaseModel):
    """From when a tenant's own clock goes."""

    model_config = ConfigDict(extra="forbid")

    at: AwareDatetime = Field(examples=["2013-01-01T00:00:00Z"])


class Advance(BaseModel):
    """How far to advance: to an instant, or by a span."""

    model_config = ConfigDict(extra="forbid")

    to: AwareDatetime | None = None
    by: str | None = Field(default=None, max_length=32, examples=["1 month"])
    close: bool = Field(default=False, description="Close each month on the way as it is over.")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if (self.to is None) == (self.by is None):
            raise ValueError("give either to, or by")
        return self


def add_clock(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers that a tenant's usage is read from."""

    @router.get("/clock", tags=["clocks"], response_model=ClockShown)
    def read_clock(asked: Annotated[Asked, Depends(asker)]) -> Response:
        """Return what time it is for the tenant."""
        return answer(clock_runs.shown(clock_runs.read(asked.connection, asked.tenant)))

    @router.post(
        "/clock/start", tags=["clocks"], status_code=201, response_model=ClockShown,
        responses=problems(409),
    )  # fmt: skip
    def start_clock(asked: Annotated[Asked, Depends(asker)], given: StartOfClock) -> Response:
        """Give a tenant that has no subscriptions a clock of its own, for tests."""

        def start() -> Response:
            try:
                clock = clock_runs.start(asked.connection, asked.tenant, given.at)
            except StackError as error:
                raise ProblemError(409, error.problem) from error
            return answer(clock_runs.shown(clock), 201)

        return asked.once(start)

    @router.post("/clock/advance", tags=["clocks"], response_model=None, responses=problems(409))
    def advance_clock(asked: Annotated[Asked, Depends(asker)], given: Advance) -> Response:
        """Do and bill, in order, all that falls due on the way; cut short, ask again to go on."""

        def advance() -> Response:
            try:
                done = clock_runs.advance(
                    stack_of(asked.tenant),
                    given.to,
                    given.by,
                    lambda _done, _total: None,
                    closes=given.close,
                )
            except StackError as error:
                raise ProblemError(409, error.problem) from error
            return answer(done)

        return asked.once(advance) if given.by else asked.repeatable(advance)
