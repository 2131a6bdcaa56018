"""Errors as ClickHouse words them: a number, a name, and the HTTP status that belongs to both."""

import re

_ENGINE_ERROR = re.compile(r"Code: (\d+)\. .*", re.DOTALL)
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)\s*$")

# The numbers are ClickHouse's own (ErrorCodes.cpp).
_BAD_REQUEST = {
    *(6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321),
    *(376, 427, 441, 675, 676),
}
_NOT_FOUND = {46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511}
_STATUS_BY_CODE = {
    **dict.fromkeys(_BAD_REQUEST, 400),
    **dict.fromkeys(_NOT_FOUND, 404),
    194: 401,
    192: 403,
    193: 403,
    497: 403,
    512: 403,
    516: 403,
    159: 408,
    381: 411,
    229: 413,
    779: 415,
    48: 501,
    76: 503,
    209: 503,
    439: 503,
}


class GatewayError(Exception):
    """A refusal or a failure of one request, told to the client in ClickHouse's words."""

    def __init__(self, code: int, name: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = _STATUS_BY_CODE.get(code, 500) if status is None else status
        self.text = f"Code: {code}. DB::Exception: {message}. ({name})"


class EngineError(GatewayError):
    """What the engine itself refused; its words are handed on unchanged."""

    def __init__(self, text: str) -> None:
        found = _ENGINE_ERROR.search(text)
        name = _NAME.search(text)
        code = int(found.group(1)) if found else 1001
        super().__init__(code, name.group(1) if name else "STD_EXCEPTION", text)
        if found:
            self.text = found.group(0).strip()


class HttpError(GatewayError):
    """Bytes that are not the HTTP this gateway speaks; the connection ends with the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(1000, "POCO_EXCEPTION", message, status=status)


class ClientGoneError(Exception):
    """The peer closed or stalled; nobody is left to be told."""
