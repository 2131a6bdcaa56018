"""What a write declares goes the way of `tollbook apply`: one schema, the same checks."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from fastapi.responses import Response
from pydantic import ValidationError

from billing.declaration import Declarations
from billing.postgres_catalog import Applied, DeclarationError, apply
from billing.postgres_facts import next_revision
from tollbook.api.asked import Asked
from tollbook.api.problem import ProblemError, body_faults, fault
from tollbook.api.versions import etag

_Model = TypeVar("_Model")


def lock_facts(asked: Asked) -> None:
    """Let nobody else change the tenant's facts until this write ends: what is read now stays."""
    next_revision(asked.connection, asked.tenant)


def declare(asked: Asked, declared: Declarations) -> list[Applied]:
    """Apply declarations within a write.

    Raises:
        ProblemError: 409, with all faults: they do not go together with what is known.
    """
    try:
        return apply(asked.connection, asked.tenant, declared, datetime.now(UTC))
    except DeclarationError as error:
        reasons = [each.message for each in sorted(set(declared.faults))]
        errors = [fault("body", reason=reason) for reason in reasons]
        raise ProblemError(409, "; ".join(reasons), errors=errors) from error


def validated(schema: Callable[[Any], _Model], content: Any) -> _Model:
    """Return content that was put together here as the schema reads it; raises ProblemError."""
    try:
        return schema(content)
    except ValidationError as error:
        errors = body_faults(error.errors(include_url=False))
        first = f"{errors[0]['field']}: {errors[0]['reason']}"
        raise ProblemError(422, f"the request is not valid: {first}", errors=errors) from error


def answer(
    content: Any, status: int = 200, *, version: int | None = None, location: str | None = None
) -> Response:
    """Return content as JSON; what has a version says it as its ETag."""
    headers = {} if version is None else {"ETag": etag(version)}
    if location is not None:
        headers["Location"] = location
    return Response(msgspec.json.encode(content), status, headers, "application/json")
