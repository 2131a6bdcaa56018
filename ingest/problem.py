"""Problem documents (RFC 9457): what was wrong with a request, for people and for programs."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ingest.event import Refusal

MEDIA_TYPE = b"application/problem+json"
_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    411: "Length required",
    413: "Content too large",
    414: "URI too long",
    415: "Unsupported media type",
    417: "Expectation failed",
    431: "Request header fields too large",
    500: "Internal error",
    501: "Not implemented",
    503: "Service unavailable",
    505: "HTTP version not supported",
}


def problem(status: int, code: str, detail: str, **more: Any) -> bytes:
    """Return a problem document; `code` is stable and names the kind of problem."""
    document = {
        "type": f"urn:tollbook:problem:{code}",
        "title": _TITLES[status],
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    return msgspec.json.encode(document)


def refused_events(
    refusals: Sequence[Refusal], *, total: int, accepted: Sequence[int] | None
) -> bytes:
    """Return the problem document that lists every refused event.

    `accepted` holds the indexes that were taken nevertheless (`?partial=true`); None says that
    nothing of the request was.
    """
    refused = len({refusal.index for refusal in refusals})
    taken = "none of the request was accepted" if accepted is None else "the others were accepted"
    return problem(
        400,
        "events-refused",
        f"{refused} of {total} events refused; {taken}",
        refused=[refusal.to_document() for refusal in refusals],
        accepted=[] if accepted is None else list(accepted),
    )


def verdicts(total: int) -> bytes:
    """Return the document of a request all of whose events were accepted."""
    accepted = [{"index": index, "verdict": "accepted"} for index in range(total)]
    return msgspec.json.encode({"accepted": total, "events": accepted})
