"""`/v1/meters/{key}/query`: what a meter measured."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from pipelines.outage import TransientError
from pipelines.query import UsageQueries
from pipelines.question import TooMuchError, UnknownNameError, UsageQuestion, UsageRow
from tollbook.api.asked import Asked
from tollbook.api.problem import problem
from tollbook.stack_file import Stack
from tollbook.usage_answer import to_arrow, to_content, to_csv
from tollbook.usage_question import (
    LIMIT_MAX,
    WINDOWS,
    BadParameterError,
    ask_page,
    of_customers,
    read_number,
    read_question,
)
from tollbook.usage_wiring import open_clickhouse, open_queries

ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"
JSON = "application/json"
_WEIGHT = re.compile(r"[01](\.[0-9]{0,3})?")
LIMIT = 10_000

PARAMETERS = {
    "from": "Since this instant, or local midnight of a date; the first usage by default.",
    "to": "Until before this instant; the last usage by default.",
    "window": f"One row per window: {', '.join(WINDOWS)}; one for all by default.",
    "window_time_zone": "IANA name; days and months are local. UTC by default.",
    "subject": "Only this subject; may be repeated.",
    "customer": "Only usage that this customer pays for; may be repeated.",
    "group_by": "subject, customer or a dimension; may be repeated.",
    "filter[DIMENSION]": "Only this value of a dimension; may be repeated.",
    "cut": "As of this fixed cut; by default all that is counted by now.",
    "limit": f"Rows, up to {LIMIT_MAX}; {LIMIT} by default.",
    "cursor": "`next` of the answer before.",
}
_OPENAPI = {
    "parameters": [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in PARAMETERS.items()
    ]
}

shared_clickhouse = cache(open_clickhouse)
"""One client for all requests of a process."""


def add_usage(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers that a tenant's usage is read from."""

    @router.get("/meters/{key}/query", tags=["usage"], responses={404: {}}, openapi_extra=_OPENAPI)
    def query_meter(
        asked: Annotated[Asked, Depends(asker)], key: str, request: Request
    ) -> Response:
        """Return what a meter measured, as JSON, CSV or an Arrow stream, as `Accept` says."""
        given = parameters_of(request)
        try:
            _refuse_unknown(given)
            question = read_question(key, given)
            question = of_customers(
                asked.connection, asked.tenant, question, given.get("customer", ())
            )
            limit = read_number("limit", given.get("limit", [str(LIMIT)])[-1], LIMIT_MAX)
            cursor = given.get("cursor", [None])[-1]
            queries = queries_of(asked, stack_of)
            rows, after = ask_page(queries, asked.tenant, question, cursor, limit)
        except (BadParameterError, LookupError, TooMuchError, TransientError) as error:
            return refusal(error, 422)
        return _answer(request, question, rows, after)


def queries_of(asked: Asked, stack_of: Callable[[str], Stack]) -> UsageQueries:
    """Return what answers a request's questions."""
    return open_queries(asked.connection, shared_clickhouse(stack_of(asked.tenant).clickhouse_url))


def parameters_of(request: Request) -> dict[str, list[str]]:
    """Return the values by parameter."""
    query = request.query_params
    return {name: query.getlist(name) for name in query}


def refusal(error: Exception, status: int, names: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the problem of a question that cannot be answered; `names` renames parameters."""
    if isinstance(error, TransientError):
        return problem(503, str(error), {"Retry-After": "1"})
    if isinstance(error, (BadParameterError, UnknownNameError)):
        name = (names or {}).get(error.parameter, error.parameter)
        reason = error.reason if isinstance(error, BadParameterError) else str(error)
        errors = [{"field": f"query.{name}", "reason": reason}]
        return problem(status, f"{name}: {reason}", errors=errors)
    if isinstance(error, TooMuchError):
        return problem(status, str(error), errors=[{"field": "query", "reason": str(error)}])
    return problem(404, str(error))


def wants(request: Request) -> str | None:
    """Return the media type to answer in, or None where none fits what is accepted.

    Of those that are accepted alike, one that is named goes before one that a range has, and CSV
    and Arrow, where they are named, before JSON.
    """
    weights = _weights(request.headers.get("accept") or "*/*")
    ranked = []
    for place, media_type in enumerate((JSON, CSV, ARROW)):
        ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        name = next((each for each in ranges if each in weights), None)
        if name is not None and weights[name]:
            is_named = name == media_type
            ranked.append((weights[name], is_named, place if is_named else -place, media_type))
    return max(ranked)[-1] if ranked else None


def _weights(accept: str) -> dict[str, Decimal]:
    """Return how much each media range of an Accept header is wanted, from 0 to 1."""
    found = {}
    for part in accept.lower().split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        weight = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        found[name] = Decimal(weight) if _WEIGHT.fullmatch(weight) else Decimal(0)
    return found


def _refuse_unknown(given: Mapping[str, Sequence[str]]) -> None:
    for name in given:
        is_filter = name.startswith("filter[") and name.endswith("]")
        if name not in PARAMETERS and not is_filter:
            raise BadParameterError(name, "no such parameter")


def _answer(
    request: Request, question: UsageQuestion, rows: Sequence[UsageRow], after: str | None
) -> Response:
    media_type = wants(request)
    if media_type is None:
        return problem(406, f"answers are application/json, {CSV} or {ARROW}")
    headers = {}
    if after is not None:
        given = [(n, v) for n, v in request.query_params.multi_items() if n != "cursor"]
        query = urlencode([*given, ("cursor", after)])
        headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    if media_type == CSV:
        return Response(to_csv(question, rows), media_type=CSV, headers=headers)
    if media_type == ARROW:
        return Response(to_arrow(question, rows), media_type=ARROW, headers=headers)
    content = to_content(question, rows) | {"next": after}
    return JSONResponse(content, headers=headers)
