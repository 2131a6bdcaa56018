"""A relay in front of a server that passes bytes on, slowly or not at all, as a drill wants."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

_CHUNK_BYTES = 1 << 16
_HOST = "127.0.0.1"


@dataclass(slots=True)
class Relay:
    """Listens on a port of its own and passes connections on to a server."""

    host: str
    port: int
    delay_s: float = 0.0
    """Holds every piece from the client so long."""
    is_cut: bool = False
    """Refuses connections, and drops those there are."""
    watch: Callable[[bytes], None] | None = None
    """Sees every piece from the client before it is passed on, and may take its time."""
    _server: socket.socket = field(init=False)
    _pairs: set[tuple[socket.socket, socket.socket]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._server = socket.create_server((_HOST, 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def own_port(self) -> int:
        """Where the relay listens."""
        return int(self._server.getsockname()[1])

    def cut(self) -> None:
        """Drop all connections and take none until `mend`."""
        self.is_cut = True
        for pair in list(self._pairs):
            _shut(*pair)

    def mend(self) -> None:
        """Take connections again."""
        self.is_cut = False

    def rest(self) -> None:
        """Pass everything on at once from now on."""
        self.delay_s, self.watch = 0.0, None
        self.mend()

    def close(self) -> None:
        """End all connections and listen no more."""
        self.cut()
        _shut(self._server)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.is_cut:
                _shut(client)
                continue
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection((self.host, self.port), timeout=10)
        except OSError:
            _shut(client)
            return
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs.add((client, server))
        back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
        back.start()
        self._pass(client, server, watched=True)
        back.join()
        self._pairs.discard((client, server))

    def _pass(self, source: socket.socket, target: socket.socket, *, watched: bool = False) -> None:
        with suppress(OSError):
            while piece := source.recv(_CHUNK_BYTES):
                if watched and self.delay_s:
                    time.sleep(self.delay_s)
                if watched and self.watch is not None:
                    self.watch(piece)
                target.sendall(piece)
        _shut(source, target)


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def through(url: str, port: int) -> str:
    """Return a URL with another port on this machine, all else kept."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    place = f"{login}@{_HOST}:{port}" if login else f"{_HOST}:{port}"
    return urlunsplit(parts._replace(netloc=place))
