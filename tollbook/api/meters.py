"""`/v1/meters`: what is measured; a change is a new version, from a boundary of windows on."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from billing.customer import Moment
from billing.declaration import Declarations, Meter
from billing.meter_change import EffectiveError, instant_text, new_version
from billing.postgres_catalog import DeclarationError, apply, load_meters
from billing.postgres_facts import billed_until_by_meter
from pipelines.meter import MeterDefinition
from pipelines.outage import TransientError
from pipelines.postgres_meters import MeterVersion, PostgresMeters
from pipelines.question import TooMuchError
from tollbook.api.asked import Asked
from tollbook.api.paging import Paged
from tollbook.api.problem import problem
from tollbook.api.usage import refusal, shared_clickhouse
from tollbook.meter_backtest import backtest
from tollbook.stack_file import Stack
from tollbook.usage_question import BadParameterError, read_instant


class Since(BaseModel):
    """From when a version counts; by default the next start of a window."""

    model_config = ConfigDict(extra="forbid")

    effective_at: Moment | None = None


class MeterRequest(MeterDefinition, Since):
    """A definition, and from when it counts."""


def add_meters(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers that a tenant's usage is read from."""

    @router.get("/meters", tags=["meters"])
    def list_meters(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
    ) -> dict[str, Any]:
        """List the meters, each in its latest version."""
        found = PostgresMeters(asked.connection).listed(
            asked.tenant, paging.after(str) or "", paging.fetch
        )
        return paging.page([version.to_content() for version in found], "key")

    @router.get("/meters/{key}", tags=["meters"], responses={404: {}})
    def read_meter(asked: Annotated[Asked, Depends(asker)], key: str) -> Any:
        """Read a meter: its latest version, and all of them under `versions`."""
        found = PostgresMeters(asked.connection).versions(asked.tenant, key)
        if not found:
            return problem(404, f"there is no meter {key}")
        return found[-1].to_content() | {"versions": [one.to_content() for one in found]}

    @router.post(
        "/meters",
        tags=["meters"],
        status_code=201,
        responses={200: {}, 409: {}},
        openapi_extra=_body_of(MeterRequest),
    )
    def create_meter(
        asked: Annotated[Asked, Depends(asker)],
        given: Annotated[Any, Body()],
    ) -> Response:
        """Create a meter (201), or a new version of it; the same definition again is 200."""
        meter = read_meter_request(given)
        if isinstance(meter, JSONResponse):
            return meter
        return asked.once(lambda: _declare(asked, meter))

    _add_backtest(router, asker, stack_of)

    @router.post("/meters/{key}/archive", tags=["meters"], responses={404: {}, 409: {}})
    def archive_meter(
        asked: Annotated[Asked, Depends(asker)],
        key: str,
        since: Since | None = None,
    ) -> Response:
        """Let a meter count nothing from an instant on; what it has counted stays readable."""
        before = load_meters(asked.connection, asked.tenant).get(key)
        if before is None:
            return problem(404, f"there is no meter {key}")
        effective_at = None if since is None else since.effective_at
        archived = Meter(before.definition, effective_at, archives=True)
        return asked.once(lambda: _declare(asked, archived))


def _add_backtest(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    @router.post("/meters/backtest", tags=["meters"], openapi_extra=_body_of(MeterRequest))
    def backtest_meter(
        asked: Annotated[Asked, Depends(asker)],
        given: Annotated[Any, Body()],
        since: Annotated[str | None, Query(alias="from")] = None,
        until: Annotated[str | None, Query(alias="to")] = None,
    ) -> Any:
        """Return what a definition would have counted over stored events; nothing is saved."""
        meter = read_meter_request(given)
        if isinstance(meter, JSONResponse):
            return meter
        try:
            interval = (read_instant("from", since), read_instant("to", until))
            client = shared_clickhouse(stack_of(asked.tenant).clickhouse_url)
            return backtest(asked.connection, client, asked.tenant, meter.definition, interval)
        except (BadParameterError, TooMuchError, TransientError) as error:
            return refusal(error, 422)


def read_meter_request(given: Any) -> Meter | JSONResponse:
    """Return what a body declares, or the problem that says field and place of each fault."""
    if not isinstance(given, Mapping):
        return problem(422, "a meter is a JSON object")
    own = {name: value for name, value in given.items() if name == "effective_at"}
    rest = {name: value for name, value in given.items() if name not in own}
    errors: list[dict[str, Any]] = []
    definition = _validated(MeterDefinition, rest, errors)
    since = _validated(Since, own, errors)
    if errors:
        return problem(422, f"the meter is not valid: {errors[0]['reason']}", errors=errors)
    return Meter(definition, since.effective_at)


def _validated(schema: type[BaseModel], given: Mapping[str, Any], errors: list[Any]) -> Any:
    try:
        return schema.model_validate(dict(given))
    except ValidationError as error:
        errors += [_error_of(fault) for fault in error.errors(include_url=False)]
        return None


def _error_of(fault: Mapping[str, Any]) -> dict[str, Any]:
    error = {
        "field": ".".join(str(step) for step in fault["loc"]),
        "reason": str(fault["msg"]).removeprefix("Value error, "),
    }
    if fault["type"] != "expression":
        return error
    places = fault["ctx"]
    position = {"line": places["line"], "column": places["column"]}
    return error | {"position": position, "caret": places["caret"]}


def _declare(asked: Asked, meter: Meter) -> JSONResponse:
    meters = PostgresMeters(asked.connection)
    key = meter.definition.key
    known = load_meters(asked.connection, asked.tenant).get(key)
    billed = billed_until_by_meter(asked.connection, asked.tenant).get(key)
    now = datetime.now(UTC)
    try:
        new_version(meter, known, billed, now)
    except EffectiveError as error:
        errors = [{"field": "effective_at", "reason": str(error)}]
        status = 409 if error.rewrites else 422
        return problem(status, str(error), earliest=instant_text(error.earliest), errors=errors)
    declared = Declarations(meters={key: meter})
    try:
        [applied] = apply(asked.connection, asked.tenant, declared, now)
    except DeclarationError:
        reasons = [fault.message for fault in declared.faults]
        return problem(409, "; ".join(reasons), errors=[{"reason": text} for text in reasons])
    found = meters.versions(asked.tenant, key)[-1]
    return _answer(found, 201 if applied.outcome != "unchanged" else 200)


def _answer(version: MeterVersion, status: int) -> JSONResponse:
    return JSONResponse(version.to_content(), status_code=status)


def _body_of(schema: type[BaseModel]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
