"""What a request asks for beside its statement: parameters and headers, sorted by role."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from infra.embedded.gateway.compression import choose_coding
from infra.embedded.gateway.errors import GatewayError
from infra.embedded.gateway.request import Request

# Parameters of ClickHouse's interface; every other one is a setting of the query.
_RESERVED = frozenset(
    {
        *("query", "database", "user", "password", "quota_key", "default_format", "query_id"),
        *("session_id", "session_timeout", "session_check", "close_session", "compress"),
        *("decompress", "stacktrace", "buffer_size", "wait_end_of_query", "role"),
        *("client_protocol_version", "send_progress_in_http_headers"),
        *("http_headers_progress_interval_ms", "enable_http_compression"),
        "cancel_http_readonly_queries_on_client_close",
    }
)
_UNSUPPORTED = ("compress", "decompress", "role")
_FALSE = ("", "0", "false")
DEFAULT_SESSION_SECONDS = "60"


@dataclass(slots=True)
class Options:
    """One request's wishes; `settings` and `bound` are for the engine, the rest for the gateway."""

    query: str
    database: str
    query_id: str
    output_format: str
    coding: str | None
    is_get: bool
    waits_for_end: bool
    session_id: str | None
    session_timeout: str
    session_must_exist: bool
    session_ends: bool
    bound: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def is_read_only(self) -> bool:
        """True where the request may not change data."""
        return self.is_get or self.settings.get("readonly", "0") != "0"


def read_options(request: Request) -> Options:
    """Returns the options of a request.

    Raises:
        GatewayError: It asks for a part of ClickHouse's interface that is not here.
    """
    given, headers = request.params, request.headers
    for name in _UNSUPPORTED:
        if _is_on(given, name):
            message = f"The parameter {name!r} is not supported by the embedded gateway"
            raise GatewayError(48, "NOT_IMPLEMENTED", message)
    query_id = given.get("query_id") or headers.get("x-clickhouse-query-id") or str(uuid4())
    output_format = given.get("default_format") or headers.get("x-clickhouse-format")
    for name, text in (("query_id", query_id), ("default_format", output_format or "")):
        if not ((text.isascii() and text.isprintable()) or not text):
            raise GatewayError(36, "BAD_ARGUMENTS", f"{name} may hold printable ASCII only")
    compresses = _is_on(given, "enable_http_compression", default="1")
    accepted = headers.get("accept-encoding", "")
    options = Options(
        query=given.get("query", ""),
        database=given.get("database") or headers.get("x-clickhouse-database", ""),
        query_id=query_id,
        output_format=output_format or "TabSeparated",
        coding=choose_coding(accepted) if compresses else None,
        is_get=request.method != "POST",
        waits_for_end=_is_on(given, "wait_end_of_query"),
        session_id=given.get("session_id"),
        session_timeout=given.get("session_timeout", DEFAULT_SESSION_SECONDS),
        session_must_exist=_is_on(given, "session_check"),
        session_ends=_is_on(given, "close_session"),
    )
    add_values(options, given)
    return options


def add_values(options: Options, given: Mapping[str, str]) -> None:
    """Sorts parameters into bound values and settings of the query."""
    for name, text in given.items():
        if name.startswith("param_"):
            options.bound[name.removeprefix("param_")] = text
        elif name not in _RESERVED:
            options.settings[name] = text


def _is_on(given: Mapping[str, str], name: str, *, default: str = "") -> bool:
    return given.get(name, default).lower() not in _FALSE
