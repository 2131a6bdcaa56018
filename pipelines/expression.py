"""CEL expressions of meters: read, checked when a meter is saved, and what they read of an event.

Variables are `data`, the event's data, and `event`, with its id, source, type, subject and time.
Numbers are exact. What this module parses itself, the subset, runs by column in
`pipelines.expression_columns`, where a number is a decimal, in data and in the text; everything
else is CEL as its library has it, one event after the other, in `pipelines.cel_events`, where a
number is a whole number of 64 bits, and nothing ever becomes a double. See docs/meters.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

from pipelines.cel_events import compile_slow
from pipelines.expression_text import (
    DEPTH_MAX,
    ExpressionError,
    Token,
    number_of,
    text_of,
    tokens_of,
)
from pipelines.extract import Kind

Role = Literal["filter", "value", "text"]
"""What an expression is for: which events count, the number, or a text (dimensions, items)."""
EVENT_ATTRIBUTES = ("id", "source", "type", "subject")
"""What the subset reads of `event`; `event.time` is for the library."""

_FAMILY: Mapping[Kind, str] = {
    "number": "a number", "text": "a text", "truth": "true or false",
}  # fmt: skip
_FAMILY_BY_ROLE: Mapping[Role, Kind | None] = {"filter": "truth", "value": "number", "text": None}
_FAMILY_OF: Mapping[type, Kind] = {
    int: "number", Decimal: "number", str: "text", bool: "truth",
}  # fmt: skip
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, text or truth that stands in the expression."""

    value: Decimal | int | str | bool


@dataclass(frozen=True, slots=True)
class Member:
    """A member of `data` by its JSON path, or an attribute of the event by its name."""

    path: str


@dataclass(frozen=True, slots=True)
class Has:
    """Whether a member of `data` is there."""

    path: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator over one, two or three (`?`) operands; `in` has the list's after the first."""

    operator: str
    operands: tuple[Any, ...]


Node = Constant | Member | Has | Operation


@dataclass(frozen=True, slots=True)
class Expression:
    """One checked expression."""

    text: str
    tree: Node | None
    """None where only the library can evaluate it: `is_slow`."""
    kinds: tuple[tuple[str, Kind], ...] = ()
    """The JSON paths that the subset reads, and what is expected there."""

    @property
    def is_slow(self) -> bool:
        """True where it is evaluated event by event."""
        return self.tree is None


@lru_cache(maxsize=4096)
def parse(text: str, role: Role) -> Expression:
    """Return an expression that can be evaluated.

    Raises:
        ExpressionError: it is not CEL, or cannot be what it is for; with the place.
    """
    tokens = tokens_of(text)
    parser = _Parser(text, tokens)
    try:
        found = parser.whole()
    except _BeyondError:
        compile_slow(text)
        return Expression(text, None)
    wanted: Kind | None = _FAMILY_BY_ROLE[role]
    if wanted is not None and found.family not in (None, wanted):
        reason = f"a {role} is {_FAMILY[wanted]}, and this is {_FAMILY[found.family or wanted]}"
        raise ExpressionError(reason, text, 0)
    parser.hint(found, wanted or "text")
    return Expression(text, found.node, tuple(sorted(parser.kinds().items())))


class _BeyondError(Exception):
    """Not in the subset; the library has to say whether it is CEL."""


@dataclass(frozen=True, slots=True)
class _Typed:
    """A node, and the family of its values where that is known without an event."""

    node: Node
    family: Kind | None
    at: int


@dataclass(slots=True)
class _Parser:
    """Recursive descent over the grammar of CEL, as far as the subset goes."""

    text: str
    tokens: list[Token]
    place: int = 0
    depth: int = 0
    hints: dict[str, set[Kind]] = field(default_factory=dict)

    def kinds(self) -> dict[str, Kind]:
        """Return what is expected at each path: one kind, or whatever is there."""
        return {p: min(kinds) if len(kinds) == 1 else "raw" for p, kinds in self.hints.items()}

    def whole(self) -> _Typed:
        found = self._choice()
        if self._peek().kind != "end":
            raise _BeyondError
        return found

    def _choice(self) -> _Typed:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise ExpressionError(f"nested more than {DEPTH_MAX} deep", self.text, self._peek().at)
        found = self._choice_within()
        self.depth -= 1
        return found

    def _choice_within(self) -> _Typed:
        condition = self._any_of()
        if not self._takes("?"):
            return condition
        yes = self._any_of()
        self._must_take(":")
        no = self._choice()
        self._expect(condition, "truth", "?")
        family = yes.family if yes.family == no.family else None
        return _Typed(Operation("?", (condition.node, yes.node, no.node)), family, condition.at)

    def _any_of(self) -> _Typed:
        return self._chain("||", self._all_of)

    def _all_of(self) -> _Typed:
        return self._chain("&&", self._relation)

    def _chain(self, operator: str, operand: Any) -> _Typed:
        left: _Typed = operand()
        while self._takes(operator):
            right: _Typed = operand()
            for side in (left, right):
                self._expect(side, "truth", operator)
            left = _Typed(Operation(operator, (left.node, right.node)), "truth", left.at)
        return left

    def _relation(self) -> _Typed:
        left = self._sum()
        while self._peek().text in (*_COMPARISONS, "in"):
            operator = self._take().text
            if operator == "in":
                left = self._one_of(left)
                continue
            right = self._sum()
            if operator not in ("==", "!="):
                self._expect_same(left, right, operator)
            self.hint(left, right.family)
            self.hint(right, left.family)
            left = _Typed(Operation(operator, (left.node, right.node)), "truth", left.at)
        return left

    def _one_of(self, left: _Typed) -> _Typed:
        self._must_take("[")
        options = []
        while not self._takes("]"):
            option = self._primary_or_negative()
            if not isinstance(option.node, Constant):
                raise _BeyondError
            options.append(option)
            if not self._takes(","):
                self._must_take("]")
                break
        families = {option.family for option in options}
        if len(families) == 1:
            self.hint(left, options[0].family)
        nodes = tuple(option.node for option in options)
        return _Typed(Operation("in", (left.node, *nodes)), "truth", left.at)

    def _sum(self) -> _Typed:
        left = self._product()
        while self._peek().text in ("+", "-"):
            operator = self._take().text
            right = self._product()
            if operator == "-":
                for side in (left, right):
                    self._expect(side, "number", operator)
            else:
                self._expect_same(left, right, operator)
                for side in (left, right):
                    if side.family == "truth":
                        self._fail(side, "+ takes numbers or texts, not true or false")
            self.hint(left, right.family)
            self.hint(right, left.family)
            family = left.family or right.family if operator == "+" else "number"
            left = _Typed(Operation(operator, (left.node, right.node)), family, left.at)
        return left

    def _product(self) -> _Typed:
        left = self._primary_or_negative()
        while self._peek().text in ("*", "/", "%"):
            if self._take().text != "*":
                raise _BeyondError  # CEL divides whole numbers
            right = self._primary_or_negative()
            for side in (left, right):
                self._expect(side, "number", "*")
            left = _Typed(Operation("*", (left.node, right.node)), "number", left.at)
        return left

    def _primary_or_negative(self) -> _Typed:
        at = self._peek().at
        if self._takes("!"):
            operand = self._primary_or_negative()
            self._expect(operand, "truth", "!")
            return _Typed(Operation("!", (operand.node,)), "truth", at)
        if self._takes("-"):
            operand = self._primary_or_negative()
            self._expect(operand, "number", "-")
            if isinstance(operand.node, Constant):
                value = operand.node.value
                assert not isinstance(value, str)  # noqa: S101 - a number, see above
                return _Typed(Constant(-value), "number", at)
            return _Typed(Operation("neg", (operand.node,)), "number", at)
        return self._primary()

    def _primary(self) -> _Typed:
        token = self._take()
        if token.text == "(":
            inner = self._choice()
            self._must_take(")")
            return inner
        constant = _constant(token)
        if constant is not None:
            return _Typed(constant, _FAMILY_OF[type(constant.value)], token.at)
        if token.text == "has" and self._takes("("):
            self._must_take("data")
            path = self._path()
            self._must_take(")")
            for asked in parents_of(path):
                self.hints.setdefault(asked, set()).add("raw")
            return _Typed(Has(path), "truth", token.at)
        if token.text == "data":
            path = self._path()
            self.hints.setdefault(path, set())
            return _Typed(Member(path), None, token.at)
        if token.text == "event" and self._takes("."):
            name = self._take().text
            if name in EVENT_ATTRIBUTES and self._peek().text not in (".", "(", "["):
                return _Typed(Member(name), "text", token.at)
        raise _BeyondError

    def _path(self) -> str:
        path = "$"
        while self._takes("."):
            name = self._take()
            if name.kind != "name":
                raise _BeyondError
            path += f".{name.text}"
        if path == "$" or self._peek().text in ("[", "("):
            raise _BeyondError
        return path

    def _peek(self) -> Token:
        return self.tokens[self.place]

    def _take(self) -> Token:
        token = self.tokens[self.place]
        if token.kind in ("end", "other"):
            raise _BeyondError
        self.place += 1
        return token

    def _takes(self, text: str) -> bool:
        token = self._peek()
        if token.text != text or token.kind not in ("sign", "name"):
            return False
        self.place += 1
        return True

    def _must_take(self, text: str) -> None:
        if not self._takes(text):
            raise _BeyondError

    def _expect(self, given: _Typed, family: Kind, operator: str) -> None:
        if given.family not in (None, family):
            found = _FAMILY[given.family or family]
            self._fail(given, f"{operator} takes {_FAMILY[family]}, and this is {found}")
        self.hint(given, family)

    def _expect_same(self, left: _Typed, right: _Typed, operator: str) -> None:
        if left.family and right.family and left.family != right.family:
            found = f"{_FAMILY[left.family]} and {_FAMILY[right.family]}"
            self._fail(right, f"{operator} takes two of a kind, and these are {found}")

    def hint(self, given: _Typed, family: Kind | None) -> None:
        """Expect at a path what it is compared or combined with."""
        if isinstance(given.node, Member) and given.node.path[0] == "$" and family is not None:
            self.hints[given.node.path].add(family)

    def _fail(self, at: _Typed, reason: str) -> None:
        raise ExpressionError(reason, self.text, at.at)


def _constant(token: Token) -> Constant | None:
    if token.kind == "number":
        return Constant(number_of(token.text))
    if token.kind == "text":
        quoted = text_of(token.text)
        if quoted is None:
            raise _BeyondError
        return Constant(quoted)
    return Constant(token.text == "true") if token.text in ("true", "false") else None


def parents_of(path: str) -> list[str]:
    """Return the paths on the way to a member, itself the last: `$.a.b` has `$.a` above it."""
    names = path.split(".")
    return [".".join(names[:count]) for count in range(2, len(names) + 1)]
