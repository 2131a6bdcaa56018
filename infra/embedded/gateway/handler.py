"""Takes one request from its head to its answer: login, options, statement, engine, log line."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.gateway.analyst import Analysts
from infra.embedded.gateway.answer import Answer, Wire
from infra.embedded.gateway.chdb_engine import Engine, EngineConnection, quote_name
from infra.embedded.gateway.compression import decompress
from infra.embedded.gateway.errors import ClientGoneError, GatewayError
from infra.embedded.gateway.kept import KeptConnections
from infra.embedded.gateway.limits import Limits
from infra.embedded.gateway.login import Logins
from infra.embedded.gateway.multipart import Form, add_tables, is_form, read_all, read_form
from infra.embedded.gateway.options import Options, add_values, read_options
from infra.embedded.gateway.query import run_insert, run_query
from infra.embedded.gateway.request import Request
from infra.embedded.gateway.sessions import Session, Sessions, prepare_fresh
from infra.embedded.gateway.statement import Statement, first_word, read_statement

log = logging.getLogger("tollbook.clickhouse")

# ClickHouse's max_query_size: a statement before an insert's data is no longer than this.
_HEAD_BYTES = 262_144
_QUERY_ID = "X-ClickHouse-Query-Id"
_METHODS = ("GET", "HEAD", "POST")


@dataclass(slots=True)
class Handler:
    """Answers requests; one for all connections."""

    engine: Engine
    sessions: Sessions
    kept: KeptConnections
    limits: Limits
    logins: Logins
    analysts: Analysts
    spool_dir: Path
    slots: threading.BoundedSemaphore
    analyst_slots: threading.BoundedSemaphore

    def handle(self, request: Request, connection: socket.socket, *, may_stay: bool) -> bool:
        """Answers one request; returns True where the connection may serve another."""
        wire = Wire(
            connection,
            is_head=request.method == "HEAD",
            is_chunked=request.is_chunking,
            keep_alive=request.keep_alive and may_stay,
            is_request_read=request.is_read,
            spool_dir=self.spool_dir,
            held_bytes=self.limits.held_bytes,
        )
        answer = Answer(wire)
        answer.headers["X-ClickHouse-Server-Display-Name"] = "tollbook"
        started, code = time.monotonic(), 0
        try:
            code = self._answer_or_fail(request, answer)
        except ClientGoneError:
            code = 210
        finally:
            answer.close()
            _log(request, answer, code, time.monotonic() - started)
        return wire.keep_alive

    def _answer_or_fail(self, request: Request, answer: Answer) -> int:
        """Answers whatever happens; returns ClickHouse's error code, 0 for none."""
        try:
            self._answer(request, answer)
        except ClientGoneError:
            raise
        except GatewayError as error:
            failure = error
        except Exception:
            log.exception("request failed query_id=%s", answer.headers.get(_QUERY_ID))
            failure = GatewayError(49, "LOGICAL_ERROR", "The gateway failed; its log tells why")
        else:
            return 0
        answer.fail(failure, self.engine.version)
        return failure.code

    def _answer(self, request: Request, answer: Answer) -> None:
        if request.method not in _METHODS:
            message = f"The method {request.method} is not served here"
            raise GatewayError(1, "UNSUPPORTED_METHOD", message, status=405)
        if request.path == "/ping":
            _say_ok(answer)
            return
        if request.path != "/":
            message = f"There is no handle {request.path}. Use / or /ping for health checks"
            raise GatewayError(408, "BAD_REQUEST_PARAMETER", message, status=404)
        tenant = self.logins.tenant_of(request)
        if request.method != "POST" and not request.params.get("query"):
            _say_ok(answer)
            return
        options = read_options(request)
        answer.headers[_QUERY_ID] = options.query_id
        answer.headers["X-ClickHouse-Timezone"] = "UTC"
        answer.headers["Content-Type"] = "application/octet-stream"
        answer.coding = options.coding
        answer.waits_for_end = options.waits_for_end
        slots = self.slots if tenant is None else self.analyst_slots
        if not slots.acquire(timeout=self.limits.query_wait_seconds):
            message = "Too many simultaneous queries"
            raise GatewayError(202, "TOO_MANY_SIMULTANEOUS_QUERIES", message)
        try:
            if tenant is None:
                self._run(request, options, answer)
            else:
                self._run_for_analyst(request, options, tenant, answer)
        finally:
            slots.release()
        answer.finish()

    def _run_for_analyst(
        self, request: Request, options: Options, tenant: str, answer: Answer
    ) -> None:
        """Runs a query on a connection of its own: nothing of a named session would last."""
        if is_form(request.headers.get("content-type", "")):
            raise GatewayError(164, "READONLY", "Analysts may not send tables with a query")
        answer.summary.hides_reading = True
        body = decompress(request.headers.get("content-encoding", ""), request.body)
        statement, _ = self._read_statement(options.query, body)
        with ExitStack() as stack:
            connection = self.engine.connect()
            stack.callback(connection.close)
            self.analysts.prepare(connection, tenant, options)
            self.analysts.check(connection, statement, options)
            run_query(connection, statement, options, answer)

    def _run(self, request: Request, options: Options, answer: Answer) -> None:
        body = decompress(request.headers.get("content-encoding", ""), request.body)
        form = Form()
        if is_form(request.headers.get("content-type", "")):
            content_type = request.headers["content-type"]
            form = read_form(content_type, body, self.limits.form_bytes_max)
            options.query += form.values.pop("query", "")
            add_values(options, form.values)
            body = iter(())
        statement, rest = self._read_statement(options.query, body)
        if options.session_id is None and not form.files:
            with self.kept.lend(options, statement) as connection:
                self._execute(connection, statement, rest, options, answer)
            return
        with ExitStack() as stack:
            connection, session = self._open(stack, options)
            names = add_tables(connection, form, options)
            if session is not None:
                stack.callback(_drop_tables, connection, names)
                session.prepare(options, statement)
            else:
                prepare_fresh(connection, options)
            self._execute(connection, statement, rest, options, answer)
            if session is not None:
                session.after(statement)

    def _read_statement(
        self, query: str, body: Iterator[bytes]
    ) -> tuple[Statement, Iterator[bytes]]:
        """Returns the statement, and what of the body is still to be read as its data."""
        text = bytearray(f"{query}\n".encode() if query else b"")
        is_insert = first_word(bytes(text)) in ("INSERT", "WITH")
        if is_insert and "FORMAT" in query.upper():
            statement = read_statement(bytes(text))
            if statement.data is not None:
                return statement, body
        for piece in body:
            text += piece
            if len(text) > _HEAD_BYTES and first_word(bytes(text[:_HEAD_BYTES])) == "INSERT":
                break
            if len(text) > self.limits.statement_bytes_max:
                message = f"The statement is larger than {self.limits.statement_bytes_max} bytes"
                raise GatewayError(229, "QUERY_IS_TOO_LARGE", message)
        statement = read_statement(bytes(text))
        if not statement.kind:
            raise GatewayError(62, "SYNTAX_ERROR", "Empty query")
        if statement.data is None and statement.kind == "INSERT":
            tail = read_all(body, self.limits.statement_bytes_max)
            return (read_statement(bytes(text) + tail) if tail else statement), iter(())
        return statement, body

    def _open(self, stack: ExitStack, options: Options) -> tuple[EngineConnection, Session | None]:
        if options.session_id is not None:
            session = stack.enter_context(self.sessions.take(options))
            return session.connection, session
        connection = self.engine.connect()
        stack.callback(connection.close)
        return connection, None

    def _execute(
        self,
        connection: EngineConnection,
        statement: Statement,
        rest: Iterator[bytes],
        options: Options,
        answer: Answer,
    ) -> None:
        if statement.data is None:
            run_query(connection, statement, options, answer)
            return
        connection.set({f"param_{name}": text for name, text in options.bound.items()})
        run_insert(connection, statement, rest, self.limits.insert_bytes_max, answer.summary)


def _drop_tables(connection: EngineConnection, names: list[str]) -> None:
    for name in names:
        connection.execute(f"DROP TEMPORARY TABLE IF EXISTS {quote_name(name)}")


def _say_ok(answer: Answer) -> None:
    answer.headers["Content-Type"] = "text/html; charset=UTF-8"
    answer.write(b"Ok.\n")
    answer.finish()


def _log(request: Request, answer: Answer, code: int, seconds: float) -> None:
    level = logging.INFO if code else logging.DEBUG
    log.log(
        level,
        "request method=%s path=%s status=%d code=%d query_id=%s ms=%.1f read_rows=%d "
        "written_rows=%d result_rows=%d sent_bytes=%d",
        request.method,
        request.path,
        answer.status,
        code,
        answer.headers.get(_QUERY_ID, "-"),
        seconds * 1000,
        answer.summary.read_rows,
        answer.summary.written_rows,
        answer.summary.result_rows,
        answer.wire.sent_bytes,
    )
