"""HTTP by hand: what no well-behaved client would send, and every byte that comes back."""

import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import msgspec

SECONDS_MAX = 10.0


@dataclass(frozen=True)
class RawAnswer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class RawClient:
    """One connection."""

    def __init__(self, port: int, seconds: float = SECONDS_MAX) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes) -> RawAnswer:
        """Send bytes and read one answer."""
        self.send(data)
        return self.read()

    def read(self) -> RawAnswer:
        """Read one answer."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        return RawAnswer(int(status), headers, body)

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError(f"closed after {self._buffer!r}")
        self._buffer += data

    def is_closed(self, seconds: float = SECONDS_MAX) -> bool:
        """Tell whether the server closes without another byte."""
        self.socket.settimeout(seconds)
        try:
            return self._buffer == b"" and self.socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def post(
    key: str,
    body: bytes,
    *more: str,
    content_type: str = "application/json",
    length: int | None = None,
    target: str = "/v1/events",
) -> bytes:
    """Return the bytes of a request for events."""
    lines = [
        f"POST {target} HTTP/1.1",
        "Host: ingest",
        f"Authorization: Bearer {key}",
        f"Content-Type: {content_type}",
        *more,
    ]
    if not any(line.lower().startswith("transfer-encoding") for line in more):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, size: int = 7) -> bytes:
    """Return a body in chunks."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def event(event_id: str, subject: str | None = "acme", **changes: Any) -> bytes:
    """Return one event's bytes."""
    plain = {"id": event_id, "source": "test", "type": "call", "subject": subject, "data": {"n": 1}}
    return msgspec.json.encode({**plain, **changes})


def settle(seconds: float) -> None:
    """Let the server's clock pass."""
    time.sleep(seconds)
