"""Errors of the API as RFC 9457 problem+json."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg.errors import LockNotAvailable
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where: `body.items.0.key`, `query.limit`.")
    pointer: str | None = Field(None, description="JSON pointer into the body.")
    reason: str


class Problem(BaseModel):
    """Why a request was refused (RFC 9457); some problems say more."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; names the kind of problem.")
    detail: str
    errors: list[Fault] | None = None


class ProblemError(Exception):
    """Ends a request with a problem; what its transaction wrote is undone."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.answer = problem(status, detail, headers, **members)


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> JSONResponse:
    """Return a problem document; its `code` is stable and names the kind of problem."""
    title = HTTPStatus(status).phrase
    code = title.lower().replace(" ", "-")
    content = {
        "type": f"urn:tollbook:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        **members,
    }
    return JSONResponse(
        content, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {})
    )


def fault(*steps: str | int, reason: str) -> dict[str, str]:
    """Return one of a problem's `errors`; steps such as "body", "items", 0, "key"."""
    found = {"field": ".".join(str(step) for step in steps), "reason": reason}
    if steps and steps[0] == "body":
        escaped = [str(step).replace("~", "~0").replace("/", "~1") for step in steps[1:]]
        found["pointer"] = "".join(f"/{step}" for step in escaped)
    return found


def body_faults(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what pydantic found wrong with a body, as a problem's `errors`."""
    return [
        fault("body", *each["loc"], reason=str(each["msg"]).removeprefix("Value error, "))
        for each in errors
    ]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may refuse with these, for its description."""
    return {status: {"description": HTTPStatus(status).phrase} for status in statuses}


def install_problems(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    app.add_exception_handler(ProblemError, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(psycopg.OperationalError, _unavailable)
    app.add_exception_handler(psycopg.DataError, _unreadable)
    app.add_exception_handler(UnicodeError, _unreadable)
    app.add_exception_handler(Exception, _fault)


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)  # noqa: S101
    return error.answer


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    return problem(error.status_code, str(error.detail), error.headers)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = [_fault_of(each) for each in error.errors()]
    first = f": {errors[0]['field']}: {errors[0]['reason']}" if errors else ""
    return problem(422, f"the request is not valid{first}", errors=errors)


def _fault_of(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what FastAPI found wrong; where a body is no JSON it names a place, not a member."""
    if found["type"] == "json_invalid":
        reason = f"no JSON from character {found['loc'][-1] + 1} on: {found['ctx']['error']}"
        return fault("body", reason=reason)
    return fault(*found["loc"], reason=str(found["msg"]).removeprefix("Value error, "))


def _unavailable(_: Request, error: Exception) -> JSONResponse:
    again = {"Retry-After": "1"}
    if isinstance(error, LockNotAvailable):
        return problem(503, "another request is changing the same; try again", again)
    return problem(503, f"the database does not answer: {type(error).__name__}", again)


def _unreadable(_: Request, error: Exception) -> JSONResponse:
    return problem(400, f"no such value can be stored: {str(error).splitlines()[0]}")


def _fault(_: Request, error: Exception) -> JSONResponse:
    return problem(500, f"a fault of ours: {type(error).__name__}")
