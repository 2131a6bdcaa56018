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

# After these a name or value comes, so a FORMAT there is a name and not a clause.
_BEFORE_OPERANDS = frozenset(
    {
        *("SELECT", "DISTINCT", "BY", "AS", "WITH", "WHERE", "PREWHERE", "HAVING", "QUALIFY"),
        *("FROM", "JOIN", "ON", "USING", "AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "BETWEEN"),
        *("IS", "CASE", "WHEN", "THEN", "ELSE"),
    }
)
# Only in other statements than queries; there, these are fair names of columns.
_BEFORE_NAMES = frozenset(
    {
        *("INTO", "TABLE", "FUNCTION", "COLUMN", "ADD", "DROP", "MODIFY", "RENAME", "UPDATE"),
        *("SET", "EXISTS", "DESCRIBE", "DATABASE", "VIEW", "DICTIONARY", "INDEX", "SHOW", "CREATE"),
    }
)
_OPERAND_ENDS = frozenset({*(b"%d" % digit for digit in range(10)), b")", b"]", b"}", b"*"})


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as the gateway sees it.

    For an insert with data, `head` ends before FORMAT, and `data` is what followed it.
    """

    kind: str
    head: bytes
    format: str | None
    data: bytes | None

    @property
    def has_result(self) -> bool:
        """True where the statement answers with rows."""
        return self.kind in _RESULT_KINDS


class _Scan:
    """One pass over the tokens; clauses are looked for outside brackets."""

    def __init__(self) -> None:
        self.kind = ""
        self.format: str | None = None
        self.format_start = -1
        self.format_end = -1
        self.is_selecting = False
        self._previous = ""
        self._follows_operand = False
        self._is_settled = False

    def take(self, token: re.Match[bytes]) -> bool:
        """Takes one token; returns True where the data of an insert begins after it."""
        word = token.group().decode("ascii").upper() if token.lastgroup == "word" else ""
        if not self.kind:
            self.kind = word or "SELECT"
        if self.kind == "WITH" and word == "INSERT":
            self.kind = word
        _refuse_files(self.kind, self._previous, word)
        self.is_selecting = self.is_selecting or word in ("SELECT", "WITH")
        brings_data = self.kind == "INSERT" and not self.is_selecting
        if brings_data and word == "VALUES" and self._follows_operand:
            self.format, self.format_start, self.format_end = "Values", *token.span()
            return True
        found = self._take_format(token, word)
        self._previous = word
        self._follows_operand = (
            token.lastgroup == "quoted"
            or (bool(word) and not self._expects_operand(word))
            or token.group() in _OPERAND_ENDS
        )
        return found and brings_data

    def _expects_operand(self, word: str) -> bool:
        is_query = self.kind in STREAMED_KINDS
        return word in _BEFORE_OPERANDS or (not is_query and word in _BEFORE_NAMES)

    def _take_format(self, token: re.Match[bytes], word: str) -> bool:
        """Keeps the last FORMAT clause; only SETTINGS may follow it."""
        if self.format_start >= 0 and self.format is None and word:
            self.format, self.format_end = token.group().decode("ascii"), token.end()
            return True
        self._is_settled = self._is_settled or (self.format is not None and word == "SETTINGS")
        if self._is_settled or token.group() == b";":
            return False
        is_clause = word == "FORMAT" and self._follows_operand
        self.format, self.format_start = None, token.start() if is_clause else -1
        return False


def read_statement(text: bytes) -> Statement:
    """Returns the statement in `text`, which may be followed by an insert's data.

    Raises:
        GatewayError: Several statements in one text, or files on the gateway's own disk.
    """
    scan = _Scan()
    depth, is_ended = 0, False
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "skip":
            continue
        if is_ended:
            message = "Syntax error (Multi-statements are not allowed)"
            raise GatewayError(62, "SYNTAX_ERROR", message)
        symbol = token.group()
        depth -= symbol in (b")", b"]", b"}")
        if depth <= 0 and scan.take(token):
            break
        depth += symbol in (b"(", b"[", b"{")
        is_ended = symbol == b";" and depth <= 0
    return _to_statement(text, scan)


def _refuse_files(kind: str, previous: str, word: str) -> None:
    if previous == "INTO" and word == "OUTFILE":
        raise GatewayError(358, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE is not allowed")
    if kind == "INSERT" and previous == "FROM" and word == "INFILE":
        raise GatewayError(344, "SUPPORT_IS_DISABLED", "FROM INFILE is not allowed over HTTP")


def _to_statement(text: bytes, scan: _Scan) -> Statement:
    if scan.kind != "INSERT" or scan.is_selecting or scan.format is None:
        return Statement(scan.kind, text, scan.format, None)
    gap = _AFTER_FORMAT.match(text, scan.format_end)
    data = text[gap.end() if gap else scan.format_end :]
    return Statement("INSERT", text[: scan.format_start], scan.format, data)


def first_word(text: bytes) -> str:
    """Returns the first keyword of a text in upper case, or an empty string."""
    for token in _TOKEN.finditer(text):
        if token.lastgroup != "skip":
            return token.group().decode("utf-8", errors="replace").upper()
    return ""
