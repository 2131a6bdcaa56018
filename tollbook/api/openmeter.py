"""OpenMeter's paths, in its own shapes, so that its clients work unchanged.

Values are JSON numbers there; ours are written with all their digits.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pipelines.local_windows import WindowSize
from pipelines.outage import TransientError
from pipelines.question import TooMuchError, UsageQuestion, UsageRow
from tollbook.api.asked import Asked
from tollbook.api.events_relay import add_relay
from tollbook.api.problem import problem, problems
from tollbook.api.usage import CSV, parameters_of, queries_of, refusal
from tollbook.stack_file import Stack
from tollbook.usage_answer import instant_text, to_csv
from tollbook.usage_question import (
    BadParameterError,
    check_question,
    grouped,
    of_customers,
    read_instant,
    read_number,
    read_zone,
)

_WINDOWS: Mapping[str, WindowSize] = {
    "MINUTE": "minute", "HOUR": "hour", "DAY": "day", "MONTH": "month",
}  # fmt: skip
_THEIR_NAMES = {"group_by": "groupBy", "filter": "filterGroupBy"}
_FILTER_LENGTH_MAX = 4096
_NUMBERS = msgspec.json.Encoder(decimal_format="number")


def build_openmeter(
    asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> APIRouter:
    """Return the routes under `/api/v1`."""
    router = APIRouter(prefix="/api/v1", tags=["openmeter"], responses=problems(401, 403, 503))
    add_relay(router, lambda: stack_of("").ingest_url)

    @router.get("/meters")
    def list_meters(asked: Annotated[Asked, Depends(asker)], request: Request) -> Response:
        """List the meters, in pages where `page` or `pageSize` is given."""
        given = parameters_of(request)
        try:
            number = read_number("page", given.get("page", ["1"])[-1], 10**6)
            size = read_number("pageSize", given.get("pageSize", ["1000"])[-1], 1000)
        except BadParameterError as error:
            return refusal(error, 400)
        return _json(_meters(asked, None)[(number - 1) * size : number * size])

    @router.get("/meters/{slug}", responses={404: {}})
    def read_meter(asked: Annotated[Asked, Depends(asker)], slug: str) -> Response:
        """Read one meter; its id is its slug."""
        found = _meters(asked, slug)
        return _json(found[0]) if found else problem(404, f"there is no meter {slug}")

    @router.get("/meters/{slug}/query", responses={404: {}})
    def query_meter(
        asked: Annotated[Asked, Depends(asker)], slug: str, request: Request
    ) -> Response:
        """Return what a meter measured, as JSON or CSV."""
        given = parameters_of(request)
        try:
            question = _question(slug, given)
            question = of_customers(
                asked.connection, asked.tenant, question, given.get("filterCustomerId", ())
            )
            rows = list(queries_of(asked, stack_of).ask(asked.tenant, question, datetime.now(UTC)))
        except (BadParameterError, LookupError, TooMuchError, TransientError) as error:
            return refusal(error, 400, _THEIR_NAMES)
        if CSV in request.headers.get("accept", ""):
            return Response(to_csv(question, rows), media_type=CSV)
        return _json(_content(question, rows))

    return router


def _json(content: Any) -> Response:
    return Response(_NUMBERS.encode(content), media_type="application/json")


def _meters(asked: Asked, slug: str | None) -> list[dict[str, Any]]:
    rows = asked.connection.execute(
        "SELECT DISTINCT ON (key) definition, min(known_at) OVER (PARTITION BY key), known_at"
        " FROM meters WHERE tenant = %(tenant)s AND (%(key)s::text IS NULL OR key = %(key)s)"
        " ORDER BY key, version DESC",
        {"tenant": asked.tenant, "key": slug},
    ).fetchall()
    return [_meter(*row) for row in rows]


def _meter(definition: Mapping[str, Any], created: datetime, updated: datetime) -> dict[str, Any]:
    meter = {
        "id": definition["key"],
        "slug": definition["key"],
        "name": definition.get("display_name") or definition["key"],
        "aggregation": definition["aggregation"].upper(),
        "eventType": definition.get("event_type") or ", ".join(definition["event_types"]),
        "groupBy": dict(definition.get("dimensions") or {}),
        "createdAt": instant_text(created),
        "updatedAt": instant_text(updated),
    }
    value = definition.get("value")
    return meter if value is None else {**meter, "valueProperty": value}


def _question(slug: str, given: Mapping[str, Sequence[str]]) -> UsageQuestion:
    def last(name: str) -> str | None:
        return given[name][-1] if given.get(name) else None

    size = last("windowSize")
    if size is not None and size.upper() not in _WINDOWS:
        raise BadParameterError("windowSize", f"not one of {', '.join(_WINDOWS)}")
    if "advancedMeterGroupByFilters" in given:
        raise BadParameterError("advancedMeterGroupByFilters", "use filterGroupBy")
    zone = read_zone("windowTimeZone", last("windowTimeZone") or "UTC")
    question = UsageQuestion(
        meter=slug,
        start=read_instant("from", last("from")),
        end=read_instant("to", last("to")),
        window=None if size is None else _WINDOWS[size.upper()],
        zone=zone,
        subjects=tuple(given.get("subject", ())),
        where=tuple((name, (value,)) for name, value in _filters(given).items()),
    )
    groups = [name for text in given.get("groupBy", ()) for name in text.split(",")]
    groups = ["customer" if name == "customer_id" else name for name in groups]
    # As theirs does: who names subjects is told each subject's own usage.
    groups += ["subject"] * bool(question.subjects)
    return check_question(grouped(question, groups))


def _filters(given: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return `filterGroupBy[name]=value`; their Python client sends one printed dictionary."""
    found = {
        name[len("filterGroupBy[") : -1]: values[-1]
        for name, values in given.items()
        if name.startswith("filterGroupBy[") and name.endswith("]")
    }
    for text in given.get("filterGroupBy", ()):
        fault = BadParameterError("filterGroupBy", "not like filterGroupBy[name]=value")
        if len(text) > _FILTER_LENGTH_MAX:
            raise fault
        try:
            printed = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise fault from error
        if not isinstance(printed, dict) or not all(
            isinstance(part, str) for pair in printed.items() for part in pair
        ):
            raise fault
        found.update(printed)
    return found


def _content(question: UsageQuestion, rows: Sequence[UsageRow]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if question.start is not None:
        content["from"] = instant_text(question.start)
    if question.end is not None:
        content["to"] = instant_text(question.end)
    if question.window is not None:
        content["windowSize"] = question.window.upper()
    content["data"] = [_row(question, row) for row in rows]
    return content


def _row(question: UsageQuestion, row: UsageRow) -> dict[str, Any]:
    start, end = row.window
    owner = {"customerId": row.key.owner} if question.by_owner else {}
    return {
        "value": row.value,
        "windowStart": instant_text(start),
        "windowEnd": instant_text(end),
        "subject": row.key.subject if question.by_subject else None,
        **owner,
        "groupBy": dict(zip(question.group_by, row.key.dimensions, strict=True)),
    }
