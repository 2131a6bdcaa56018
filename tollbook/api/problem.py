"""Errors of the API as RFC 9457 problem+json."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


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


def install_problems(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(psycopg.OperationalError, _unavailable)
    app.add_exception_handler(psycopg.DataError, _unreadable)
    app.add_exception_handler(Exception, _fault)


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    return problem(error.status_code, str(error.detail), error.headers)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = [
        {"field": ".".join(str(step) for step in fault["loc"]), "reason": str(fault["msg"])}
        for fault in error.errors()
    ]
    return problem(422, "the request is not valid", errors=errors)


def _unavailable(_: Request, error: Exception) -> JSONResponse:
    return problem(503, f"the database does not answer: {type(error).__name__}",
                   {"Retry-After": "1"})  # fmt: skip


def _unreadable(_: Request, error: Exception) -> JSONResponse:
    return problem(400, f"no such value can be stored: {str(error).splitlines()[0]}")


def _fault(_: Request, error: Exception) -> JSONResponse:
    return problem(500, f"a fault of ours: {type(error).__name__}")
