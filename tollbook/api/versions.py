"""Versions of things: ETag says which one was read, If-Match which one may be replaced."""

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header

from tollbook.api.problem import ProblemError, fault

_TAG = re.compile(r'\s*(?:W/)?"(\d{1,18})"\s*')


def etag(version: int) -> str:
    """Return the ETag of a version."""
    return f'"{version}"'


@dataclass(frozen=True, slots=True)
class IfMatch:
    """Which versions a caller is willing to replace; None where it does not say."""

    versions: frozenset[int] | None
    any_version: bool = False

    def check(self, current: int) -> None:
        """Refuse a stale writer.

        Raises:
            ProblemError: 428 without If-Match, 409 where it names another version.
        """
        if self.any_version:
            return
        if self.versions is None:
            reason = f'say which version you change: If-Match: "{current}"'
            status = 428
        elif current not in self.versions:
            reason = f"changed since you read it: it is at version {current}; read it again"
            status = 409
        else:
            return
        errors = [fault("header", "if-match", reason=reason)]
        raise ProblemError(
            status, reason, {"ETag": etag(current)}, current_version=current, errors=errors
        )


async def if_match(
    given: Annotated[
        str | None,
        Header(
            alias="If-Match",
            max_length=1024,
            description="The ETag that was read, or `*`.",
            examples=['"3"'],
        ),
    ] = None,
) -> IfMatch:
    """Read If-Match; a dependency of routes that change what has a version."""
    if given is None:
        return IfMatch(None)
    if given.strip() == "*":
        return IfMatch(None, any_version=True)
    tags = [_TAG.fullmatch(tag) for tag in given.split(",")]
    return IfMatch(frozenset(int(tag[1]) for tag in tags if tag is not None))
