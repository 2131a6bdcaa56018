"""`/v1/quarantine`: sources most of whose events were bad, what was set aside, its release."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ingest.event import NAME_CHARS_MAX
from pipelines.clickhouse_quarantine import ClickHouseQuarantine
from pipelines.outage import TransientError
from tollbook.api.asked import Asked
from tollbook.api.paging import Paged
from tollbook.api.problem import problem
from tollbook.api.traces import away, position_after, shared_clickhouse
from tollbook.quarantine_shown import is_known, sources_content
from tollbook.stack_file import Stack
from tollbook.trace_wiring import open_releaser

Source = Annotated[
    str, Query(max_length=NAME_CHARS_MAX, description="Empty: what names no source.")
]


class WantedRelease(BaseModel):
    """Which source is to count again; empty for what names none."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(max_length=NAME_CHARS_MAX)


def add_quarantine(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers of a tenant."""

    def client_of(asked: Asked) -> Any:
        return shared_clickhouse(stack_of(asked.tenant).clickhouse_url)

    @router.get("/quarantine", tags=["usage"])
    def list_quarantine(asked: Annotated[Asked, Depends(asker)]) -> Any:
        """List the sources of which something was set aside."""
        try:
            found = sources_content(asked.connection, client_of(asked), asked.tenant)
        except TransientError as error:
            return away(error)
        return {"items": found, "next": None}

    @router.get("/quarantine/items", tags=["usage"], responses={400: {}})
    def list_quarantined(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        source: Source,
    ) -> Any:
        """List what was set aside of a source, by position."""
        try:
            after = position_after(paging)
            tables = ClickHouseQuarantine(client_of(asked))
            found = tables.listed(asked.tenant, source, after=after, limit=paging.fetch)
        except ValueError as error:
            return problem(400, str(error))
        except TransientError as error:
            return away(error)
        return paging.page([letter.to_content() for letter in found], "position")

    @router.post("/quarantine/releases", tags=["usage"], responses={202: {}, 404: {}})
    def release(asked: Annotated[Asked, Depends(asker)], wanted: WantedRelease) -> Response:
        """Let a source count again, with all events that were set aside; each counts once."""
        stack = stack_of(asked.tenant)
        return asked.repeatable(lambda: _released(asked, stack, wanted.source))


def _released(asked: Asked, stack: Stack, source: str) -> Response:
    try:
        client = shared_clickhouse(stack.clickhouse_url)
        if not is_known(asked.connection, client, asked.tenant, source):
            return problem(404, f"nothing of source {source!r} was set aside")
        releaser = open_releaser(asked.connection, client, stack.kafka_bootstrap)
        done = releaser.release(asked.tenant, source, asked.key_name)
    except (TransientError, TimeoutError) as error:
        return away(error)
    return JSONResponse(done.to_content(source), 200 if done.is_counted else 202)
