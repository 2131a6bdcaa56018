"""`/v1/cuts`: the chain of fixed cuts, the next one, and what changed between two."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from pipelines.outage import TransientError
from pipelines.postgres_cuts import PostgresCuts
from tollbook.api.asked import Asked
from tollbook.api.declared import answer
from tollbook.api.paging import Paged
from tollbook.api.problem import problem
from tollbook.stack_file import Stack
from tollbook.usage_cuts import changes, find_cut, fix_cut, shown
from tollbook.usage_question import BadParameterError, read_instant

Number = Annotated[int, Query(ge=1, le=1 << 62)]


class WantedCut(BaseModel):
    """When to cut: all that the log took before, by its own clock. By default now."""

    model_config = ConfigDict(extra="forbid")

    at: str | None = Field(default=None, max_length=64, examples=["2013-02-01T00:00:00Z"])


def add_cuts(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers that a tenant's usage is read from."""
    _add_changes(router, asker, stack_of)

    @router.get("/cuts", tags=["usage"])
    def list_cuts(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
    ) -> dict[str, Any]:
        """List the fixed cuts, the first first."""
        after = paging.after(int) or 0
        found = PostgresCuts(asked.connection).listed(asked.tenant, after, paging.fetch)
        return paging.page([each.to_content() for each in found], "number")

    @router.post("/cuts", tags=["usage"], status_code=201, responses={400: {}, 409: {}})
    def fix(asked: Annotated[Asked, Depends(asker)], wanted: WantedCut | None = None) -> Response:
        """Fix the next cut when all below it is counted; usage as of it never changes."""

        def carry_out() -> Response:
            try:
                given = None if wanted is None else wanted.at
                at = read_instant("at", given) or datetime.now(UTC)
                return answer(fix_cut(stack_of(asked.tenant), at).to_content(), 201)
            except (BadParameterError, ValueError) as error:
                return problem(400, str(error))
            except TimeoutError as error:
                return problem(409, str(error))
            except TransientError as error:
                return problem(503, str(error), {"Retry-After": "1"})

        return asked.repeatable(carry_out)

    @router.get("/cuts/{number}", tags=["usage"], responses={404: {}})
    def read_cut(asked: Annotated[Asked, Depends(asker)], number: int) -> Any:
        """Read one cut: how far it reaches in every partition, and what its audit voided."""
        found = find_cut(asked.connection, asked.tenant, number)
        if found is None:
            return problem(404, f"there is no cut {number}")
        try:
            return shown(stack_of(asked.tenant), found)
        except TransientError as error:
            return problem(503, str(error), {"Retry-After": "1"})


def _add_changes(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    @router.get("/cuts/{number}/changes", tags=["usage"], responses={404: {}})
    def list_changes(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        number: int,
        since: Number,
    ) -> Any:
        """List what may differ as of this cut from an earlier one: meter, subject, interval."""
        try:
            found = changes(stack_of(asked.tenant), since, number)
        except LookupError as error:
            return problem(404, str(error.args[0]))
        except ValueError as error:
            return problem(400, str(error))
        except TransientError as error:
            return problem(503, str(error), {"Retry-After": "1"})
        items, start = found.pop("changes"), paging.after(int) or 0
        end = start + paging.limit
        more = len(items) > end
        return found | {"items": items[start:end], "next": paging.cursor_at(end) if more else None}
