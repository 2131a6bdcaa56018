"""A proxy in front of ClickHouse that knows inserts: it can stop the world at the n-th of a table.

So a crash between two writes is a place, not a matter of luck.
"""

import http.client
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_INSERT = re.compile(rb"INSERT\s+INTO\s+[`\"]?(?:\w+[`\"]?\.[`\"]?)?(\w+)", re.IGNORECASE)
_TOO_MANY_PARTS = b"Code: 252. DB::Exception: Too many parts. Merges are slower. (TOO_MANY_PARTS)\n"
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


class Deal(Enum):
    """What is done with a request."""

    LET = "let through"
    DROP = "drop"
    """The server never sees it; the connection ends."""
    SWALLOW = "swallow"
    """The server does it; the answer never arrives."""
    TOO_MANY_PARTS = "too many parts"
    """The client is told error 252."""


@dataclass(frozen=True, slots=True)
class Insert:
    """An insert on its way."""

    table: str
    number: int
    """Among those into its table, from 1."""
    port: int
    """Where the client calls from."""


Rule = Callable[[Insert], Deal]
"""Decides what is done with an insert; may act before it returns."""


def pass_all(_: Insert) -> Deal:
    """Let everything through."""
    return Deal.LET


class InsertProxy:
    """Listens on a port of its own; `rule` may be replaced at any moment."""

    def __init__(self, host: str, port: int) -> None:
        self.rule: Rule = pass_all
        self.seen: Counter[str] = Counter()
        self.away = False
        """Drop whatever comes, queries too."""
        self._target = (host, port)
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def own_port(self) -> int:
        """Where the proxy listens."""
        return int(self._server.server_address[1])

    def rest(self) -> None:
        """Let everything through from now on."""
        self.rule = pass_all
        self.away = False

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def deal_with(self, table: str | None, port: int) -> Deal:
        """Count an insert and say what is to be done with it; other requests pass."""
        if self.away:
            return Deal.DROP
        if table is None:
            return Deal.LET
        with self._lock:
            self.seen[table] += 1
            number = self.seen[table]
        return self.rule(Insert(table, number, port))

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to the server behind."""
        return http.client.HTTPConnection(*self._target, timeout=300)


class _Handler(BaseHTTPRequestHandler):
    owner: InsertProxy
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Serve a connection to its end; that of a killed worker ends anywhere."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self._relay()

    def do_POST(self) -> None:
        self._relay()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        del format, args

    def _relay(self) -> None:
        body = self._body()
        deal = self.owner.deal_with(self._table(body), self.client_address[1])
        if deal is Deal.DROP:
            self.close_connection = True
            return
        if deal is Deal.TOO_MANY_PARTS:
            self._send(500, {"X-ClickHouse-Exception-Code": "252"}, _TOO_MANY_PARTS)
            return
        connection = self.owner.connect()
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        finally:
            connection.close()
        if deal is Deal.SWALLOW:
            self.close_connection = True
            return
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
        self._send(answer.status, kept, content)

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        try:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _table(self, body: bytes) -> str | None:
        """Return the table that a request inserts into; None for any other request."""
        told = parse_qs(urlsplit(self.path).query).get("query", [""])[0].encode()
        found = _INSERT.match(told.lstrip()) or _INSERT.match(body[:500].lstrip())
        return found[1].decode() if found else None
