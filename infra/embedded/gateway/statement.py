"""Reads just enough SQL to route a statement: its kind, its FORMAT, and where its data begins.

The engine parses; this finds keywords outside strings, comments and brackets.
"""

import re
from dataclasses import dataclass

from infra.embedded.gateway.errors import GatewayError

_TOKEN = re.compile(
    rb"""(?P<skip>\s+|--[^\n]*|\#[!\x20][^\n]*|/\*.*?\*/)
    |(?P<quoted>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`
        |\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_AFTER_FORMAT = re.compile(rb"[ \t\f]*\r?\n?")

STREAMED_KINDS = frozenset({"SELECT", "WITH", "FROM"})
_RESULT_KINDS = STREAMED_KINDS | {
    *("SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "KILL", "BACKUP", "RESTORE"),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as the gateway sees it.

    For an insert with data, `head` ends before FORMAT, and `data` is what followed it.
    `is_selecting` tells INSERT ... SELECT from an insert that must bring its data.
    """

    kind: str
    head: bytes
    format: str | None
    data: bytes | None
    is_selecting: bool = False

    @property
    def has_result(self) -> bool:
        """True where the statement answers with rows."""
        return self.kind in _RESULT_KINDS


@dataclass(slots=True)
class _Scan:
    """What one pass over the tokens found at bracket depth 0."""

    kind: str = ""
    format: str | None = None
    format_start: int = -1
    format_end: int = -1
    is_selecting: bool = False


def read_statement(text: bytes) -> Statement:
    """Returns the statement in `text`, which may be followed by an insert's data.

    Raises:
        GatewayError: Several statements in one text, or files on the gateway's own disk.
    """
    scan = _Scan()
    depth, previous, is_ended = 0, "", False
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "skip":
            continue
        if is_ended:
            message = "Syntax error (Multi-statements are not allowed)"
            raise GatewayError(62, "SYNTAX_ERROR", message)
        symbol = token.group()
        if symbol in (b"(", b"[", b"{"):
            depth += 1
            scan.kind = scan.kind or "SELECT"
        elif symbol in (b")", b"]", b"}"):
            depth -= 1
        elif symbol == b";" and depth <= 0:
            is_ended = True
        word = ""
        if depth <= 0 and token.lastgroup == "word":
            word = symbol.decode("ascii").upper()
            scan.kind = _next_kind(scan.kind, word)
            if _take_word(scan, previous, word, token):
                break
        previous = word
    return _to_statement(text, scan)


def _next_kind(kind: str, word: str) -> str:
    if not kind:
        return word
    return "INSERT" if kind == "WITH" and word == "INSERT" else kind


def _take_word(scan: _Scan, previous: str, word: str, token: re.Match[bytes]) -> bool:
    """Returns True where the data of an insert begins."""
    if previous == "INTO" and word == "OUTFILE":
        raise GatewayError(358, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE is not allowed")
    if scan.kind == "INSERT" and previous == "FROM" and word == "INFILE":
        raise GatewayError(344, "SUPPORT_IS_DISABLED", "FROM INFILE is not allowed over HTTP")
    if previous == "FORMAT":
        scan.format = token.group().decode("ascii")
        scan.format_end = token.end()
        return scan.kind == "INSERT"
    if word == "FORMAT":
        scan.format_start = token.start()
    if scan.kind != "INSERT":
        return False
    scan.is_selecting = scan.is_selecting or word in ("SELECT", "WITH")
    if word == "VALUES" and not scan.is_selecting:
        scan.format, scan.format_start, scan.format_end = "Values", token.start(), token.end()
        return True
    return False


def _to_statement(text: bytes, scan: _Scan) -> Statement:
    if scan.kind != "INSERT" or scan.format is None:
        return Statement(scan.kind, text, scan.format, None, scan.is_selecting)
    start = scan.format_end
    gap = _AFTER_FORMAT.match(text, start)
    end = gap.end() if gap else start
    head = text[: scan.format_start]
    return Statement("INSERT", head, scan.format, text[end:], scan.is_selecting)


def first_word(text: bytes) -> str:
    """Returns the first keyword of a text in upper case, or an empty string."""
    for token in _TOKEN.finditer(text):
        if token.lastgroup != "skip":
            return token.group().decode("utf-8", errors="replace").upper()
    return ""
