"""Named sessions: a connection kept under a name, for one request at a time, until it idles out."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from infra.embedded.gateway.chdb_engine import Engine, EngineConnection, quote_text
from infra.embedded.gateway.errors import GatewayError
from infra.embedded.gateway.limits import Limits
from infra.embedded.gateway.options import Options
from infra.embedded.gateway.statement import Statement


@dataclass(slots=True)
class Session:
    """A kept connection and what the gateway changed on it for the request before.

    `lent` are the settings that came with one request's URL. As in ClickHouse they end with the
    request; here they are taken back when the next one brings others, since most bring the same.
    """

    connection: EngineConnection
    lock: threading.Lock = field(default_factory=threading.Lock)
    expires_at: float = 0.0
    database: str = "default"
    current_database: str = "default"
    lent: dict[str, str] = field(default_factory=dict)
    before: dict[str, str | None] = field(default_factory=dict)

    def prepare(self, options: Options, statement: Statement) -> None:
        """Makes the connection what this request asks for."""
        if options.is_read_only and statement.kind not in ("SET", "USE"):
            check_read_only(self.connection, statement.head)
        wanted = dict(options.settings)
        wanted.pop("readonly", None)
        if statement.kind == "SET":
            wanted = {}
        if wanted != self.lent:
            self._take_back()
            self._lend(wanted)
        database = options.database or self.database
        if statement.kind != "USE" and database != self.current_database:
            self.connection.use(database)
            self.current_database = database

    def after(self, statement: Statement) -> None:
        """Remembers what a USE changed."""
        if statement.kind == "USE":
            found = self.connection.query("SELECT currentDatabase()", "TabSeparatedRaw", {})
            self.database = self.current_database = found.bytes().decode()[:-1]

    def _take_back(self) -> None:
        changed = {name: old for name, old in self.before.items() if old is not None}
        for name in self.before.keys() - changed.keys():
            self.connection.execute(f"SET {name} = DEFAULT")
        self.connection.set(changed)
        self.lent, self.before = {}, {}

    def _lend(self, wanted: Mapping[str, str]) -> None:
        if not wanted:
            return
        names = ", ".join(map(quote_text, wanted))
        rows = self.connection.query(
            f"SELECT name, value FROM system.settings WHERE changed AND name IN ({names})",
            "JSONCompactEachRow",
            {},
        )
        old = dict(json.loads(line) for line in rows.bytes().decode().splitlines())
        self.connection.set(wanted)
        self.before = {name: old.get(name) for name in wanted}
        self.lent = dict(wanted)


class Sessions:
    """All named sessions of the gateway."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._lock = threading.Lock()
        self._session_by_id: dict[str, Session] = {}

    @contextmanager
    def take(self, options: Options) -> Iterator[Session]:
        """Lends the session of that name to one request, and makes it where it may.

        Raises:
            GatewayError: It is in use (373), unknown but required (372), or its timeout is bad.
        """
        seconds = self._read_timeout(options.session_timeout)
        session_id = options.session_id or ""
        if not session_id:
            raise GatewayError(744, "SESSION_ID_EMPTY", "Session id cannot be empty")
        self.close_expired()
        session = self._find(session_id, must_exist=options.session_must_exist)
        try:
            yield session
        finally:
            session.expires_at = time.monotonic() + seconds
            session.lock.release()
            if options.session_ends:
                self._end(session_id)

    def _find(self, session_id: str, *, must_exist: bool) -> Session:
        with self._lock:
            session = self._session_by_id.get(session_id)
            if session is None:
                if must_exist:
                    raise GatewayError(372, "SESSION_NOT_FOUND", "Session not found")
                if len(self._session_by_id) >= self._limits.sessions_max:
                    self._drop_oldest()
                session = Session(self._engine.connect())
                self._session_by_id[session_id] = session
            if not session.lock.acquire(blocking=False):
                message = f"Session {session_id} is locked by a concurrent client"
                raise GatewayError(373, "SESSION_IS_LOCKED", message)
            return session

    def _drop_oldest(self) -> None:
        idle = (key for key, one in self._session_by_id.items() if not one.lock.locked())
        oldest = min(idle, key=lambda key: self._session_by_id[key].expires_at, default=None)
        if oldest is None:
            raise GatewayError(700, "USER_SESSION_LIMIT_EXCEEDED", "Too many sessions at once")
        self._session_by_id.pop(oldest).connection.close()

    def close_expired(self) -> None:
        """Ends the sessions whose time has run out."""
        now = time.monotonic()
        with self._lock:
            ended = [
                key
                for key, one in self._session_by_id.items()
                if one.expires_at < now and not one.lock.locked()
            ]
            sessions = [self._session_by_id.pop(key) for key in ended]
        for session in sessions:
            session.connection.close()

    def close_all(self) -> None:
        """Ends every session, for the gateway's own end."""
        with self._lock:
            sessions = list(self._session_by_id.values())
            self._session_by_id.clear()
        for session in sessions:
            session.connection.close()

    def _end(self, session_id: str) -> None:
        with self._lock:
            session = self._session_by_id.pop(session_id, None)
        if session is not None:
            session.connection.close()

    def _read_timeout(self, text: str) -> int:
        longest = self._limits.session_timeout_seconds_max
        if not text.isascii() or not text.isdigit():
            message = f"Invalid session timeout: {text!r}"
            raise GatewayError(374, "INVALID_SESSION_TIMEOUT", message)
        if int(text[:9]) > longest:
            message = f"Session timeout {text!r} is larger than max_session_timeout: {longest}"
            raise GatewayError(374, "INVALID_SESSION_TIMEOUT", message)
        return int(text)


def prepare_fresh(connection: EngineConnection, options: Options) -> None:
    """Makes a connection that nobody shares what this request asks for."""
    if options.database not in ("", "default"):
        connection.use(options.database)
    connection.set(options.settings)
    if options.is_get and "readonly" not in options.settings:
        connection.set({"readonly": "2"})


def check_read_only(connection: EngineConnection, sql: bytes) -> None:
    """Refuses a statement that would change something.

    Raises:
        GatewayError: It would (164).
    """
    if not connection.is_read_only(sql):
        message = (
            "Cannot execute query in readonly mode. For queries over HTTP, method GET implies "
            "readonly. You should use method POST for modifying queries"
        )
        raise GatewayError(164, "READONLY", message)
