"""HTTP answers as bytes: status line, headers and body, made without a framework."""

from dataclasses import dataclass

from ingest import problem as problems

_REASONS = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    411: b"Length Required",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back for one request."""

    status: int
    body: bytes = b""
    media_type: bytes = b""
    headers: bytes = b""
    """Further header lines, each with its line end."""

    def encode(self, date: bytes, *, keep_alive: bool, head_only: bool = False) -> bytes:
        """Return the answer's bytes; an answer to HEAD says the length of what it leaves out."""
        parts = [b"HTTP/1.1 %d %b\r\nDate: %b\r\n" % (self.status, _REASONS[self.status], date)]
        if self.status != 204:
            parts.append(b"Content-Length: %d\r\n" % len(self.body))
        if self.media_type:
            parts.append(b"Content-Type: %b\r\n" % self.media_type)
        parts.append(self.headers)
        parts.append(b"\r\n" if keep_alive else b"Connection: close\r\n\r\n")
        if not head_only:
            parts.append(self.body)
        return b"".join(parts)


NO_CONTENT = Answer(204)


def refuse(status: int, code: str, detail: str, headers: bytes = b"") -> Answer:
    """Return an answer with a problem document."""
    body = problems.problem(status, code, detail)
    return Answer(status, body, problems.MEDIA_TYPE, headers)


def busy(code: str, detail: str, retry_after_seconds: int = 1) -> Answer:
    """Return a 503 that says when to come back; the same request may be sent again as it is."""
    return refuse(503, code, detail, b"Retry-After: %d\r\n" % retry_after_seconds)


INTERNAL = refuse(500, "internal", "an error of ours; see the log")


def unauthorized(detail: str) -> Answer:
    """Return a 401 that says how to authenticate."""
    return refuse(401, "unauthorized", detail, b'WWW-Authenticate: Bearer realm="tollbook"\r\n')
