"""`/v1/replacements`: what was sent for a range of time is replaced as a whole."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from ingest.event import EPOCH, NAME_CHARS_MAX
from pipelines.correction import REASON_CHARS_MAX
from pipelines.outage import TransientError
from pipelines.postgres_replacements import PostgresReplacements
from pipelines.replacement import Action, Replacement
from tollbook.api.asked import Asked
from tollbook.api.declared import answer
from tollbook.api.paging import Paged
from tollbook.api.problem import problem
from tollbook.api.traces import away, shared_clickhouse
from tollbook.stack_file import Stack
from tollbook.trace_wiring import new_replacement_name, open_replacer

Name = Annotated[str | None, Field(min_length=1, max_length=NAME_CHARS_MAX)]


class NewReplacement(BaseModel):
    """What is to be replaced, and why."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    start: AwareDatetime = Field(alias="from", description="First event time that is replaced.")
    end: AwareDatetime = Field(alias="to", description="First event time that is not.")
    subject: Name = None
    source: Name = None
    type: Name = None
    reason: str = Field(min_length=1, max_length=REASON_CHARS_MAX)

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if not EPOCH <= self.start < self.end:
            raise ValueError("from lies before to, and not before 1970")
        if self.subject is None and self.source is None and self.type is None:
            raise ValueError("give at least one of subject, source and type")
        return self


def add_replacements(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers of a tenant."""
    known: dict[int | str, dict[str, Any]] = {404: {}, 409: {}}

    @router.post("/replacements", tags=["usage"], status_code=201)
    def open_replacement(
        asked: Annotated[Asked, Depends(asker)], wanted: NewReplacement
    ) -> Response:
        """Open one: send the events that count instead with its name as `replacement`."""
        replacement = Replacement(
            tenant=asked.tenant,
            name=new_replacement_name(),
            start=wanted.start,
            end=wanted.end,
            subject=wanted.subject,
            source=wanted.source,
            type=wanted.type,
            author=asked.key_name,
            reason=wanted.reason,
            state="open",
        )

        def add() -> Response:
            PostgresReplacements(asked.connection).add(replacement)
            return answer(replacement.to_content(), 201)

        return asked.once(add)

    @router.get("/replacements", tags=["usage"])
    def list_replacements(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
    ) -> dict[str, Any]:
        """List replacements, the first opened first."""
        found = PostgresReplacements(asked.connection).listed(
            asked.tenant, paging.after(str), paging.fetch
        )
        return paging.page([each.to_content() for each in found], "name")

    @router.get("/replacements/{name}", tags=["usage"], responses={404: {}})
    def read_replacement(asked: Annotated[Asked, Depends(asker)], name: str) -> Any:
        """Read one."""
        found = PostgresReplacements(asked.connection).find(asked.tenant, name)
        return found.to_content() if found else problem(404, f"there is no replacement {name}")

    @router.post("/replacements/{name}/close", tags=["usage"], responses=known)
    def close_replacement(asked: Annotated[Asked, Depends(asker)], name: str) -> Response:
        """Close it: what counted in the range no longer does, what was sent for it does."""
        stack = stack_of(asked.tenant)
        return asked.repeatable(lambda: _carried_out(asked, stack, name, "close"))

    @router.post("/replacements/{name}/revert", tags=["usage"], responses=known)
    def revert_replacement(asked: Annotated[Asked, Depends(asker)], name: str) -> Response:
        """Revert it: what counted before counts again, what was sent for it does not."""
        stack = stack_of(asked.tenant)
        return asked.repeatable(lambda: _carried_out(asked, stack, name, "revert"))


def _carried_out(asked: Asked, stack: Stack, name: str, action: Action) -> Response:
    try:
        client = shared_clickhouse(stack.clickhouse_url)
        replacer = open_replacer(asked.connection, client, stack.kafka_bootstrap)
        state, is_counted = replacer.carry_out(asked.tenant, name, action)
    except LookupError as error:
        return problem(404, str(error))
    except ValueError as error:
        return problem(409, str(error))
    except (TransientError, TimeoutError) as error:
        return away(error)
    content = {"name": name, "state": state, "is_counted": is_counted}
    return JSONResponse(content, 200 if is_counted else 202)
