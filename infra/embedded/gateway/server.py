"""Accepts connections and gives each a thread, up to a bound; drains on the way out.

TCP_NODELAY is set, or each small answer would wait 40 ms for the peer's delayed acknowledgement.
"""

import contextlib
import logging
import socket
import threading
import time
from dataclasses import dataclass, field

from infra.embedded.gateway.answer import Answer, Wire
from infra.embedded.gateway.errors import ClientGoneError, HttpError
from infra.embedded.gateway.handler import Handler
from infra.embedded.gateway.request import RequestReader

log = logging.getLogger("tollbook.clickhouse")

_TICK_SECONDS = 0.2
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


@dataclass(slots=True)
class Server:
    """Serves a listening socket until told to stop."""

    handler: Handler
    listener: socket.socket
    is_stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_busy_by_connection: dict[socket.socket, bool] = field(default_factory=dict)

    def serve(self) -> bool:
        """Accepts until `is_stopping` is set, then ends what is idle and waits for the rest.

        Returns True where every request got its answer.
        """
        self.listener.settimeout(_TICK_SECONDS)
        last_sweep = time.monotonic()
        while not self.is_stopping.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self.listener.accept()
                self._take(connection)
            if time.monotonic() - last_sweep > 1:
                self.handler.sessions.close_expired()
                last_sweep = time.monotonic()
        self.listener.close()
        return self._drain()

    def _take(self, connection: socket.socket) -> None:
        limits = self.handler.limits
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            is_full = len(self._is_busy_by_connection) >= limits.connections_max
            if is_full and not self._end_idle_connection():
                log.info("connection refused: %d requests run", limits.connections_max)
                with contextlib.suppress(OSError), connection:
                    connection.sendall(_TOO_MANY)
                return
            self._is_busy_by_connection[connection] = False
        threading.Thread(target=self._serve_connection, args=(connection,), daemon=True).start()

    def _end_idle_connection(self) -> bool:
        """Makes room by ending the oldest connection that waits for a request, if there is one."""
        for connection, is_busy in self._is_busy_by_connection.items():
            if not is_busy:
                self._is_busy_by_connection[connection] = True
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
                return True
        return False

    def _serve_connection(self, connection: socket.socket) -> None:
        try:
            while not self.is_stopping.is_set() and self._serve_request(connection):
                pass
        except (ClientGoneError, ConnectionError, TimeoutError) as error:
            log.debug("connection ended: %s", error)
        except Exception:
            log.exception("connection failed")
        finally:
            with self._lock:
                del self._is_busy_by_connection[connection]
            connection.close()

    def _serve_request(self, connection: socket.socket) -> bool:
        """Serves one request; returns True where the connection stays."""
        limits = self.handler.limits
        reader = RequestReader(connection, limits)
        try:
            request = reader.read()
        except HttpError as error:
            log.info("request refused status=%d: %s", error.status, error)
            self._refuse(connection, error)
            return False
        if request is None:
            return False
        self._mark(connection, is_busy=True)
        connection.settimeout(limits.send_seconds)
        stays = self.handler.handle(request, connection, may_stay=not self.is_stopping.is_set())
        self._mark(connection, is_busy=False)
        if not request.is_read():
            self._linger(connection)
            return False
        return stays

    def _refuse(self, connection: socket.socket, error: HttpError) -> None:
        wire = Wire(
            connection,
            is_head=False,
            is_chunked=True,
            keep_alive=False,
            is_request_read=lambda: False,
            spool_dir=self.handler.spool_dir,
            held_bytes=self.handler.limits.held_bytes,
        )
        Answer(wire).fail(error, self.handler.engine.version)
        self._linger(connection)

    def _mark(self, connection: socket.socket, *, is_busy: bool) -> None:
        with self._lock:
            self._is_busy_by_connection[connection] = is_busy

    def _linger(self, connection: socket.socket) -> None:
        """Reads off what the peer still sends, so that it gets to read the answer."""
        deadline = time.monotonic() + self.handler.limits.linger_seconds
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                connection.settimeout(left)
                if not connection.recv(1 << 18):
                    return

    def _drain(self) -> bool:
        deadline = time.monotonic() + self.handler.limits.drain_seconds
        while time.monotonic() < deadline:
            with self._lock:
                open_now = dict(self._is_busy_by_connection)
            if not open_now:
                return True
            for connection, is_busy in open_now.items():
                if not is_busy:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RD)
            time.sleep(0.02)
        log.info("draining ended with %d requests cut", len(open_now))
        return False
