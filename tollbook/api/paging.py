"""Pages of lists: opaque cursors that fit the list and the filters they came from.

A cursor holds the last key of its page in clear, since a caller may know it anyway; each list asks
for rows of its own tenant alone, so a forged cursor shows nothing more.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field

from tollbook.api.problem import ProblemError, fault

LIMIT_MAX = 500
_LIMIT = 100
_MARK_BYTES = 6

_Item = TypeVar("_Item")


class Page(BaseModel, Generic[_Item]):
    """A part of a list, and where the next one begins."""

    items: list[_Item]
    next: str | None = Field(description="`cursor` of the next page; null on the last one.")


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page of a list a request asks for."""

    cursor: str | None
    limit: int
    mark: bytes
    """What list it is, and of which filters."""

    @property
    def fetch(self) -> int:
        """How many rows to read: one more than shown says whether there is another page."""
        return self.limit + 1

    def after(self, *kinds: type) -> Any:
        """Return the key that the page follows, of these types; None on the first page.

        A key of one type is returned bare, one of more as a list.

        Raises:
            ProblemError: the cursor is not one of this list and these filters.
        """
        if self.cursor is None:
            return None
        try:
            padded = self.cursor + "=" * (-len(self.cursor) % 4)
            content = base64.b64decode(padded, altchars=b"-_", validate=True)
            found = msgspec.json.decode(content[_MARK_BYTES:])
            fits = content[:_MARK_BYTES] == self.mark and [type(v) for v in found] == list(kinds)
        except (ValueError, TypeError):
            fits = False
        if not fits:
            reason = "not a cursor of this list with these filters"
            raise ProblemError(
                400, f"cursor: {reason}", errors=[fault("query", "cursor", reason=reason)]
            )
        return found[0] if len(kinds) == 1 else found

    def page(self, rows: Sequence[Mapping[str, Any]], *keys: str) -> dict[str, Any]:
        """Return a page of rows that were read up to `fetch`; the keys are their order."""
        items = rows[: self.limit]
        if len(rows) <= self.limit:
            return {"items": items, "next": None}
        return {"items": items, "next": self.cursor_at(*(items[-1][key] for key in keys))}

    def cursor_at(self, *values: str | int) -> str:
        """Return the cursor of what follows a key."""
        content = self.mark + msgspec.json.encode(values)
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


async def paging(
    request: Request,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before.", max_length=2048)
    ] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = _LIMIT,
) -> Paging:
    """Read which page is asked for; a dependency of routes that list."""
    rest = sorted(
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in ("cursor", "limit")
    )
    listed = msgspec.json.encode([request.url.path, rest])
    mark = hashlib.blake2b(listed, digest_size=_MARK_BYTES).digest()
    return Paging(cursor, limit, mark)


Paged = Annotated[Paging, Depends(paging)]
"""Which page a route that lists is asked for."""
