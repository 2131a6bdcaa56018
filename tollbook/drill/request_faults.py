"""Requests that are too large, or not what they say, while honest ones go on."""

import gzip
import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil

from tollbook.drill.case import Fault, Strike
from tollbook.drill.check import Check

_MIB = 1 << 20
_GROWTH_BYTES_MAX = 200 * _MIB
_TYPE = {"Content-Type": "application/x-ndjson"}
_GZIP = {"Content-Encoding": "gzip"}


def _requests() -> Iterator[tuple[str, dict[str, str], bytes, int]]:
    """Yield what is sent: its name, headers, body, and the status that must come back."""
    event = b'{"specversion":"1.0","id":"%d","source":"big","type":"t","subject":"s","data":"%s"}'
    yield "a body that is announced too large", {"Content-Length": str(64 * _MIB)}, b"", 413
    yield "a body of 17 MiB", {}, b" " * (17 * _MIB), 413
    yield "a bomb of 200 MB", _GZIP, gzip.compress(bytes(200_000_000)), 413
    yield "a million events", {}, b"{}\n" * 1_000_000, 413
    yield "an event of 2 MiB", {}, event % (1, b"x" * (2 * _MIB)), 400
    yield "no body", {}, b"", 400
    yield "a length that is no number", {"Content-Length": "1e3"}, b"{}", 400
    yield "two lengths", {"Content-Length": "2, 3"}, b"{}", 400
    yield "a body that is not gzip", _GZIP, b"{}", 400


def _send_large(strike: Strike) -> None:
    """Send each, and look at the answer and at what ingest holds."""
    stack = strike.arena.stack
    place = urlsplit(stack.ingest_url)
    answered = Check("E5", "a request that is too large, or not what it says, is refused")
    bounded = Check("E5", f"ingest grows by no more than {_GROWTH_BYTES_MAX // _MIB} MiB")
    before = _held(stack.pids["ingest"])
    for name, headers, body, expected in _requests():
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        connection.putrequest("POST", "/v1/events")
        own = {"Content-Length": str(len(body)), "Authorization": f"Bearer {stack.api_key}"}
        for key, value in (_TYPE | own | headers).items():
            connection.putheader(key, value)
        connection.endheaders()
        try:
            connection.send(body)
        except OSError:
            # Refused before all of it was sent; the answer is there.
            strike.note("refused unread")
        answered.compare(name, expected, connection.getresponse().status)
        connection.close()
        strike.note("sent")
    bounded.compare("grown", True, _held(stack.pids["ingest"]) - before < _GROWTH_BYTES_MAX)
    strike.checks += [answered, bounded]


def _held(pid: int) -> int:
    parent = psutil.Process(pid)
    return sum(each.memory_info().rss for each in [parent, *parent.children(recursive=True)])


REQUEST_FAULTS = [
    Fault(
        "oversize",
        "bodies, events and batches that are too large, bombs, wrong lengths",
        _send_large,
    )
]
