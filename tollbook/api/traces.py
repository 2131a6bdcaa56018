"""`/v1/events/{source}/{id}`, `/v1/dead-letters` and `/v1/progress`: where an event is."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from clickhouse_connect.driver.exceptions import OperationalError
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ingest.event import name_fault
from pipelines.clickhouse_dead_letters import ClickHouseDeadLetters
from pipelines.outage import TransientError
from pipelines.position import Position
from pipelines.postgres_quarantine import PostgresQuarantine
from pipelines.progress import total_content
from tollbook.api.asked import Asked
from tollbook.api.paging import Paged, Paging
from tollbook.api.problem import problem
from tollbook.stack_file import Stack
from tollbook.trace_wiring import open_progress, open_tracer
from tollbook.usage_wiring import open_clickhouse

Kind = Literal["malformed", "refused", "conflict"]

_EVENTS = b"/v1/events/"


@cache
def shared_clickhouse(url: str) -> Any:
    """Return one client for all requests of a process.

    Raises:
        TransientError: ClickHouse does not answer; the next request tries again.
    """
    try:
        return open_clickhouse(url)
    except OperationalError as error:
        raise TransientError("ClickHouse does not answer") from error


def add_traces(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers that a tenant's usage is read from."""
    _add_events(router, asker, stack_of)
    _add_dead_letters(router, asker, stack_of)

    @router.get("/progress", tags=["usage"])
    def read_progress(asked: Annotated[Asked, Depends(asker)]) -> Any:
        """Return how far each partition is counted; all that came before a time is counted."""
        stack = stack_of(asked.tenant)
        try:
            client = shared_clickhouse(stack.clickhouse_url)
            reader = open_progress(asked.connection, client, stack.kafka_bootstrap)
            in_force = PostgresQuarantine(asked.connection).in_force(asked.tenant)
            return total_content(reader.read(), in_force)
        except TransientError as error:
            return away(error)


def _add_events(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    # One parameter, since a path is decoded before it is matched: a source may hold slashes.
    @router.get("/events/{source_and_id:path}", tags=["usage"], responses={404: {}})
    def read_event(
        asked: Annotated[Asked, Depends(asker)], source_and_id: str, request: Request
    ) -> Response:
        """Say where an event is, by `source/id`, each percent-encoded: `%2F` for a slash."""
        del source_and_id
        try:
            source, event_id = event_names(request.scope["raw_path"])
        except ValueError as error:
            return problem(400, str(error))
        stack = stack_of(asked.tenant)
        try:
            client = shared_clickhouse(stack.clickhouse_url)
            tracer = open_tracer(asked.connection, client, stack.kafka_bootstrap)
            traced = tracer.trace(asked.tenant, source, event_id)
        except TransientError as error:
            return away(error)
        if traced.state == "unknown":
            return problem(404, "no such event: all that was accepted before is counted")
        content = msgspec.json.encode(tracer.to_content(asked.tenant, traced))
        headers = {"Retry-After": "1"} if traced.state == "pending" else {}
        return Response(content, media_type="application/json", headers=headers)


def _add_dead_letters(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    def letters_of(asked: Asked) -> ClickHouseDeadLetters:
        return ClickHouseDeadLetters(shared_clickhouse(stack_of(asked.tenant).clickhouse_url))

    @router.get("/dead-letters", tags=["usage"], responses={400: {}})
    def list_dead_letters(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
        kind: Kind | None = None,
    ) -> Any:
        """List dead letters by position, with the start of what was received."""
        try:
            after = position_after(paging)
            found = letters_of(asked).listed(
                asked.tenant, kind=kind, after=after, limit=paging.fetch
            )
        except ValueError as error:
            return problem(400, str(error))
        except TransientError as error:
            return away(error)
        return paging.page([letter.to_content() for letter in found], "position")

    @router.get("/dead-letters/{position}", tags=["usage"], responses={400: {}, 404: {}})
    def read_dead_letter(asked: Annotated[Asked, Depends(asker)], position: str) -> Any:
        """Read one dead letter with all that was received."""
        try:
            found = letters_of(asked).one(asked.tenant, Position.from_text(position))
        except ValueError as error:
            return problem(400, str(error))
        except TransientError as error:
            return away(error)
        return found.to_content() if found else problem(404, f"no dead letter at {position}")


def position_after(paging: Paging) -> Position | None:
    """Return the position that a page follows, of a list in the order of the log.

    Raises:
        ValueError: its cursor holds none.
    """
    text = paging.after(str)
    return None if text is None else Position.from_text(text)


def event_names(raw_path: bytes) -> tuple[str, str]:
    """Return source and id of a path as it was sent.

    Raises:
        ValueError: it is not two names, each percent-encoded.
    """
    parts = raw_path.partition(b"?")[0].partition(_EVENTS)[2].split(b"/")
    if len(parts) != 2:
        raise ValueError("give the source and the id of an event; write %2F for a slash in them")
    names = []
    for part, what in zip(parts, ("source", "id"), strict=True):
        name = unquote_to_bytes(part).decode()
        fault = name_fault(name)
        if fault is not None:
            raise ValueError(f"the {what} {fault}")
        names.append(name)
    return names[0], names[1]


def away(error: Exception) -> Response:
    """Return the answer while a server is away."""
    return problem(503, str(error), {"Retry-After": "1"})
