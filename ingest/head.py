"""A request's head, and what may be decided before its body is read."""

import msgspec

from ingest.answers import Answer, refuse
from ingest.body import ENCODINGS
from ingest.limits import RequestLimits
from ingest.plain_text import UNUSUAL
from ingest.scanning import ANY, LINES, MANY, ONE

EVENT_PATHS = frozenset({b"/v1/events", b"/api/v1/events"})
STATUS_PATHS = frozenset({b"/healthz", b"/readyz", b"/metrics"})
_SHAPES = {
    b"application/cloudevents+json": ONE,
    b"application/cloudevents-batch+json": MANY,
    b"application/json": ANY,
    b"application/x-ndjson": LINES,
}
_CHARSETS = (b"utf-8", b'"utf-8"', b"us-ascii")
_SINGLE = (b"host", b"authorization", b"content-type", b"content-encoding", b"content-length")
_MEDIA_TYPES_CACHED_MAX = 256
_shapes_seen: dict[bytes, int] = {}


class Head(msgspec.Struct, gc=False):
    """Method, target and headers (names in lower case) of one request."""

    method: bytes
    target: bytes
    version: str
    headers: dict[bytes, bytes]
    repeated: list[bytes]
    """Names of headers that came more than once."""
    path: bytes = b""
    content_length: int = 0
    """Bytes of body that the head announces; 0 where it says nothing or is chunked."""
    has_body: bool = False
    encoding: bytes = b""
    shape: int = UNUSUAL
    """That the Content-Type announces: see `ingest.scanning`; UNUSUAL where it is not taken."""
    is_partial: bool = False
    """Whether good events are to be taken beside refused ones."""
    wants_verdicts: bool = False
    """Whether the sender wants a verdict for each event."""

    def __post_init__(self) -> None:
        length = self.headers.get(b"content-length")
        if length is not None:
            self.content_length = int(length)
        self.has_body = self.content_length > 0 or b"transfer-encoding" in self.headers
        target = self.target
        if target.startswith(b"http://"):
            slash = target.find(b"/", 7)
            target = b"/" if slash < 0 else target[slash:]
        self.path, _, query = target.partition(b"?")
        self.is_partial = _is_partial(query)
        self.wants_verdicts = _prefers_representation(self.headers)
        self.encoding = self.headers.get(b"content-encoding", b"").lower()
        self.shape = _shape_of(self.headers.get(b"content-type", b""))


def check_form(head: Head, limits: RequestLimits) -> Answer | None:
    """Return the answer to a head that no route may see, or None."""
    if head.version not in {"1.1", "1.0"}:
        return refuse(505, "http-version", "HTTP/1.1 or HTTP/1.0 is spoken here")
    if b"host" not in head.headers and head.version == "1.1":
        return refuse(400, "bad-request", "a Host header is required")
    for name in head.repeated:
        if name in _SINGLE or name == b"transfer-encoding":
            return refuse(400, "bad-request", f"header {name.decode()} may occur only once")
    expect = head.headers.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        return refuse(417, "expectation", "100-continue is the only expectation met")
    return _check_framing(head, limits)


def _check_framing(head: Head, limits: RequestLimits) -> Answer | None:
    """Return the answer to a body whose length is in doubt or too large, or None."""
    coding = head.headers.get(b"transfer-encoding")
    if coding is None:
        if head.content_length > limits.body_bytes_max:
            return too_large(limits.body_bytes_max)
        return None
    if b"content-length" in head.headers:
        return refuse(400, "bad-request", "Content-Length with Transfer-Encoding")
    if coding.lower() != b"chunked":
        return refuse(501, "transfer-coding", "chunked is the only transfer coding taken")
    if head.version == "1.0":
        return refuse(400, "bad-request", "Transfer-Encoding in HTTP/1.0")
    return None


def check_route(head: Head) -> Answer | None:
    """Return the answer where path and method decide it alone, or None."""
    if head.path in EVENT_PATHS:
        if head.method == b"POST":
            return None
        allowed = b"POST, OPTIONS"
    elif head.path in STATUS_PATHS or (head.target == b"*" and head.method == b"OPTIONS"):
        allowed = b"GET, HEAD, OPTIONS"
    else:
        return refuse(404, "not-found", "send events to POST /v1/events")
    if head.method == b"OPTIONS":
        return Answer(204, headers=b"Allow: %b\r\n" % allowed)
    if head.method in allowed.split(b", "):
        return None
    return refuse(405, "method", f"allowed here: {allowed.decode()}", b"Allow: %b\r\n" % allowed)


def check_content(head: Head) -> Answer | None:
    """Return the answer to events in a form that is not read here, or None."""
    if head.shape == UNUSUAL:
        accepted = ", ".join(name.decode() for name in _SHAPES)
        return refuse(415, "media-type", f"Content-Type must be one of {accepted}, in UTF-8")
    if head.encoding not in ENCODINGS:
        return refuse(
            415,
            "content-coding",
            "Content-Encoding must be gzip or zstd",
            b"Accept-Encoding: gzip, zstd\r\n",
        )
    if not head.has_body:
        if b"content-length" not in head.headers and head.version == "1.1":
            return refuse(411, "length-required", "send Content-Length, or a chunked body")
        return refuse(400, "empty-body", "the body is empty")
    return None


def _shape_of(content_type: bytes) -> int:
    """Return the shape of body that a Content-Type announces, or UNUSUAL."""
    shape = _shapes_seen.get(content_type)
    if shape is not None:
        return shape
    media_type, *parameters = (part.strip().lower() for part in content_type.split(b";"))
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset" and value.strip() not in _CHARSETS:
            return UNUSUAL
    shape = _SHAPES.get(media_type, UNUSUAL)
    if shape != UNUSUAL and len(_shapes_seen) < _MEDIA_TYPES_CACHED_MAX:
        _shapes_seen[content_type] = shape
    return shape


def _is_partial(query: bytes) -> bool:
    """Tell whether the query asks that good events be taken beside refused ones."""
    return b"partial=true" in query.split(b"&")


def _prefers_representation(headers: dict[bytes, bytes]) -> bool:
    """Tell whether the sender wants a verdict for each event."""
    prefer = headers.get(b"prefer")
    if prefer is None:
        return False
    wishes = {wish.split(b";")[0].replace(b" ", b"").lower() for wish in prefer.split(b",")}
    return b"return=representation" in wishes


def too_large(bytes_max: int) -> Answer:
    """Return the answer to a body over the limit."""
    return refuse(413, "body-too-large", f"a body holds at most {bytes_max} bytes")
