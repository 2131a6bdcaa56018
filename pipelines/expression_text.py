"""The text of a CEL expression: its tokens, and faults that point into it."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

LENGTH_MAX = 2_000
OPERATORS_MAX = 100
DEPTH_MAX = 24
_SHOWN = 40
"""So many characters before and after a fault are shown."""

_TOKENS = re.compile(
    r"(?P<blank>[ \t\r\n\f]+|//[^\n]*)"
    r"|(?P<other>[rRbB]{0,2}(?:\"\"\"|''')|[rRbB]{1,2}[\"']|0x[0-9a-fA-F]+u?|[0-9]+u\b)"
    r"|(?P<text>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
    r"|(?P<number>[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]{1,3})?|[0-9]+[eE][-+]?[0-9]{1,3}|[0-9]+)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>\|\||&&|==|!=|<=|>=|[-+*/%!?:<>.,()\[\]{}])"
    r"|(?P<unknown>.)",
    re.DOTALL,
)
_ESCAPES = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {
    "n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\",
    '"': '"', "'": "'", "?": "?", "`": "`",
}  # fmt: skip
_OPERATORS = frozenset({"||", "&&", "==", "!=", "<=", ">=", *"-+*/%!?<>", "in"})


class MissingMember(str):
    """Why an expression has no value: a member of data that it reads is not there."""

    __slots__ = ()


class ExpressionError(ValueError):
    """What is wrong with an expression, and where; line and column count from 1."""

    def __init__(self, reason: str, text: str, at: int) -> None:
        before = text[:at]
        self.reason = reason
        self.line = before.count("\n") + 1
        self.column = at - (before.rfind("\n") + 1) + 1
        first = max(0, self.column - 1 - _SHOWN)
        shown = text.split("\n")[self.line - 1][first : first + 2 * _SHOWN]
        # A tab stays a tab, so that the caret stands below what it means.
        blank = "".join("\t" if c == "\t" else " " for c in shown[: self.column - 1 - first])
        self.caret = f"{shown}\n{blank}^"
        super().__init__(f"line {self.line}, column {self.column}: {reason}\n{self.caret}")


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `other` and `unknown` are left to the library, which may know them."""

    kind: Literal["text", "number", "name", "sign", "other", "unknown", "end"]
    text: str
    at: int


def tokens_of(text: str) -> list[Token]:
    """Return the tokens of an expression, and an `end`.

    Raises:
        ExpressionError: it is empty, too long, or nested too deep to be looked at.
    """
    if not text.strip():
        raise ExpressionError("the expression is empty", text, 0)
    if len(text) > LENGTH_MAX:
        raise ExpressionError(f"longer than {LENGTH_MAX} characters", text, LENGTH_MAX)
    found = [
        Token(match.lastgroup, match.group(), match.start())  # type: ignore[arg-type]
        for match in _TOKENS.finditer(text)
        if match.lastgroup != "blank"
    ]
    depth = operators = 0
    for token in found:
        depth += (token.text in {"(", "[", "{", "?"}) - (token.text in {")", "]", "}"})
        operators += token.text in _OPERATORS
        if depth > DEPTH_MAX:
            raise ExpressionError(f"nested more than {DEPTH_MAX} deep", text, token.at)
        if operators > OPERATORS_MAX:
            raise ExpressionError(f"more than {OPERATORS_MAX} operators", text, token.at)
    return [*found, Token("end", "", len(text.rstrip()))]


def number_of(text: str) -> Decimal | int:
    """Return a number as it stands in an expression, exactly."""
    return int(text) if text.isdigit() else Decimal(text)


def text_of(literal: str) -> str | None:
    """Return what a quoted text stands for; None for an escape that the library has to judge."""
    body = literal[1:-1]
    for match in _ESCAPES.finditer(body):
        is_known = match[2] in _ESCAPED if match[1] is None else match[1][:1] not in "dD"
        if not is_known:
            return None
    return _ESCAPES.sub(lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPED[m[2]], body)
