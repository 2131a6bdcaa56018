"""`/v1/event-corrections`: events that were counted are voided, amended or restored."""

import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from pipelines.clickhouse_corrections import listed_corrections
from pipelines.outage import TransientError
from pipelines.postgres_cuts import PostgresCuts
from pipelines.second_thoughts import RefusedWishError
from tollbook.api.asked import Asked
from tollbook.api.paging import Paged
from tollbook.api.problem import problem
from tollbook.api.traces import away, position_after, shared_clickhouse
from tollbook.corrections_asked import (
    EventCorrections,
    between,
    interval_us,
    outcomes_content,
    wishes_of,
    worst_status,
)
from tollbook.stack_file import Stack
from tollbook.trace_wiring import open_corrector

_STATUS = {"not-counted-yet": 409, "unknown-event": 404, "which-event": 409, "bad-time": 422}
_FAR_US = 1 << 62

Cut = Annotated[int | None, Query(ge=1, le=_FAR_US)]


async def raw_body(request: Request) -> bytes:
    """Return the body as it was sent."""
    return await request.body()


def add_corrections(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers of a tenant."""

    @router.post("/event-corrections", tags=["usage"], responses={404: {}, 409: {}})
    def correct_events(
        asked: Annotated[Asked, Depends(asker)],
        wanted: EventCorrections,
        body: Annotated[bytes, Depends(raw_body)],
    ) -> Response:
        """Void, amend or restore events; asking again for what is done already does nothing."""
        return asked.repeatable(lambda: _corrected(asked, stack_of(asked.tenant), wanted, body))

    _add_list(router, asker, stack_of)


def _corrected(asked: Asked, stack: Stack, wanted: EventCorrections, body: bytes) -> Response:
    try:
        wishes = wishes_of(wanted, body)
        client = shared_clickhouse(stack.clickhouse_url)
        outcomes = open_corrector(asked.connection, client, stack.kafka_bootstrap).correct(
            asked.tenant,
            wishes,
            author=asked.key_name,
            reason=wanted.reason,
            request=asked.keyed.key if asked.keyed else uuid.uuid4().hex,
        )
    except RefusedWishError as error:
        headers = {"Retry-After": "1"} if error.code == "not-counted-yet" else None
        status = _STATUS[error.code]
        return problem(status, error.reason, headers, reason_code=error.code, index=error.index)
    except ValueError as error:
        return problem(422, str(error))
    except (TransientError, TimeoutError) as error:
        return away(error)
    return JSONResponse(outcomes_content(wishes, outcomes), worst_status(outcomes))


def _add_list(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    @router.get("/event-corrections", tags=["usage"], responses={400: {}, 404: {}})
    def list_event_corrections(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        start: Annotated[str | None, Query(alias="from", max_length=64)] = None,
        end: Annotated[str | None, Query(alias="to", max_length=64)] = None,
        since: Cut = None,
        until: Cut = None,
    ) -> Any:
        """List corrections in the order of the log: by event time, and between two cuts."""
        stack = stack_of(asked.tenant)
        try:
            ranges = between(PostgresCuts(asked.connection), asked.tenant, since, until)
            found = listed_corrections(
                shared_clickhouse(stack.clickhouse_url),
                asked.tenant,
                interval_us=interval_us(start, end),
                ranges=ranges,
                after=position_after(paging),
                limit=paging.fetch,
            )
        except LookupError as error:
            return problem(404, str(error))
        except ValueError as error:
            return problem(400, str(error))
        except TransientError as error:
            return away(error)
        content = paging.page([each.to_content() for each in found], "position")
        return Response(msgspec.json.encode(content), media_type="application/json")
