"""CEL beyond the subset: evaluated by its library, one event after the other.

What an expression reads of `data` is bound, and nothing else. A number has to be whole, of 64
bits; so no double ever comes up: a literal with a point and double() are refused when the meter
is saved, and an event whose number is not whole is rejected when it is read.
"""

import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

import msgspec

from pipelines.expression_text import ExpressionError, MissingMember, Token, tokens_of

FUNCTIONS = frozenset(
    {
        "size", "contains", "startsWith", "endsWith", "matches", "int", "string", "timestamp",
        "duration", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek",
        "getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds", "has",
        "all", "exists", "exists_one", "map", "filter",
    }
)  # fmt: skip
"""What may be called: all deterministic, none with doubles."""
_LOOPS = frozenset({"all", "exists", "exists_one", "map", "filter"})
LOOPS_MAX = 2
"""Loops within loops cost the product of their lists."""
_WORDS = frozenset({"data", "event", "true", "false", "in", "has"})
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (Syntax error: )?(.*)")
_INPUT = re.compile(r"(?:mismatched|extraneous|no viable alternative at) input '(.*?)'(?: |$)")
_PATTERN = re.compile(r"\s*([rR]?(?:\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'))\s*\)")
"""A constant pattern, as it stands behind `matches(`."""
_NO_FUNCTION = re.compile(r"Undefined variable or function: '(\w+)'")
_WHOLE_MIN, _WHOLE_MAX = -(1 << 63), (1 << 63) - 1
_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_REASON_LENGTH_MAX = 200

Path = tuple[str, ...]


class _NotWholeError(ValueError):
    """A number that this evaluation must not see."""


@dataclass(frozen=True, slots=True)
class SlowExpression:
    """An expression compiled by the library, and the members of `data` that it reads."""

    program: Any
    reads: tuple[Path, ...]

    def values(
        self, texts: Sequence[bytes], events: Iterable[dict[str, Any]]
    ) -> tuple[list[Any], dict[int, str]]:
        """Return the value per event, and why there is none; those are None."""
        values: list[Any] = []
        reasons: dict[int, str] = {}
        for row, (text, event) in enumerate(zip(texts, events, strict=True)):
            try:
                values.append(self._value(text, event))
            except _NotWholeError as error:
                reasons[row] = str(error)
                values.append(None)
            except (KeyboardInterrupt, SystemExit, MemoryError):
                raise
            except BaseException as error:  # noqa: BLE001 - a panic of the library is no Exception
                reasons[row] = _why(error)
                values.append(None)
        return values, reasons

    def _value(self, text: bytes, event: dict[str, Any]) -> Any:
        data = _DECODER.decode(text) if text else {}
        if not isinstance(data, dict):
            raise _NotWholeError("the event's data is not an object")
        bound: dict[str, Any] = {}
        for path in self.reads:
            _bind(bound, data, path)
        value = self.program.execute({"data": bound, "event": event})
        if isinstance(value, bool | str):
            return value
        if isinstance(value, int):
            return value
        raise _NotWholeError(f"it gives {_kind_of(value)}, not a number, a text or true or false")


@lru_cache(maxsize=1024)
def compile_slow(text: str) -> SlowExpression:
    """Return an expression that the library can evaluate.

    Raises:
        ExpressionError: it is not CEL, or uses what is not there; with the place.
    """
    tokens = tokens_of(text)
    try:
        program = _library().compile(text)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise _syntax_error(text, str(error)) from error
    _check(text, tokens, frozenset(program.variables()))
    _check_patterns(text, tokens)
    return SlowExpression(program, _reads(tokens))


@cache
def _library() -> Any:
    # Importing it takes most of a second, and few deployments and no simple meter need it.
    return importlib.import_module("cel")


def _check(text: str, tokens: list[Token], variables: frozenset[str]) -> None:
    loops = 0
    bound: set[str] = set()
    for place, token in enumerate(tokens):
        after, before = _text_at(tokens, place + 1), _text_at(tokens, place - 1)
        if token.kind == "number" and not token.text.isdigit():
            reason = f"{token.text} would be a double here, which is not exact: " + _WHOLE_ONLY
            raise ExpressionError(reason, text, token.at)
        if token.kind != "name":
            continue
        if token.text == "null":
            reason = "a member that is null counts as missing: ask has(data.member)"
            raise ExpressionError(reason, text, token.at)
        if after == "(" and token.text in _LOOPS and before == ".":
            loops += 1
            bound.add(_text_at(tokens, place + 2))
            if loops > LOOPS_MAX:
                raise ExpressionError(f"more than {LOOPS_MAX} loops", text, token.at)
        elif after == "(" and token.text not in FUNCTIONS:
            raise ExpressionError(_no_function(token.text), text, token.at)
    for place, token in enumerate(tokens):
        is_start = token.kind == "name" and _text_at(tokens, place - 1) != "."
        if is_start and token.text in variables - bound - _WORDS:
            reason = f"there is no variable {token.text}: there are data and event"
            raise ExpressionError(reason, text, token.at)


def _check_patterns(text: str, tokens: list[Token]) -> None:
    """Refuse a constant that is no pattern: no event could ever be matched by it."""
    for place, token in enumerate(tokens):
        if token.text != "matches" or _text_at(tokens, place + 1) != "(":
            continue
        pattern = _PATTERN.match(text, tokens[place + 1].at + 1)
        if pattern is None:
            continue
        try:
            _library().compile(f'"".matches({pattern[1]})').execute({})
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:
            last = str(error).rpartition("\n")[2].partition(". Check ")[0].rstrip(".")
            reason = f"not a regular expression: {last.removeprefix('error: ')}"
            raise ExpressionError(reason, text, pattern.start(1)) from error


_WHOLE_ONLY = (
    "an expression of this kind takes whole numbers only (comparisons, + - *, && || !, in,"
    " has() and ?: take decimals)"
)


def _no_function(name: str) -> str:
    if name == "double":
        return f"a double is not exact: {_WHOLE_ONLY}"
    return f"there is no function {name}: there are {', '.join(sorted(FUNCTIONS))}"


def _text_at(tokens: list[Token], place: int) -> str:
    return tokens[place].text if 0 <= place < len(tokens) else ""


def _syntax_error(text: str, message: str) -> ExpressionError:
    """Return the library's first complaint in words for a person."""
    complaints = list(_PLACE.finditer(message))
    if not complaints:
        return ExpressionError(f"not CEL: {message[:_REASON_LENGTH_MAX]}", text, 0)
    found = next((one for one in complaints if one[3]), complaints[0])
    line, column, complaint = int(found[1]), int(found[2]), found[4]
    lines = text.split("\n")
    at = sum(len(one) + 1 for one in lines[: line - 1]) + column - 1
    unexpected = _INPUT.search(complaint)
    if unexpected is not None and unexpected[1] == "<EOF>":
        return ExpressionError("it ends where something is missing", text, len(text.rstrip()))
    if unexpected is not None:
        return ExpressionError(f"{unexpected[1]} is not expected here", text, at)
    if complaint.startswith("token recognition error"):
        rest = complaint.partition("at: '")[2].removesuffix("'")
        quoted = rest[:1] in {'"', "'"}
        reason = "a text begins here and does not end" if quoted else f"{rest} is no part of CEL"
        return ExpressionError(reason, text, at)
    return ExpressionError(complaint[:_REASON_LENGTH_MAX], text, at)


def _reads(tokens: list[Token]) -> tuple[Path, ...]:
    """Return the members of `data` that are named; the empty path is all of it."""
    paths = set()
    for place, token in enumerate(tokens):
        if token.text != "data" or token.kind != "name" or _text_at(tokens, place - 1) == ".":
            continue
        path: list[str] = []
        at = place + 1
        while (
            _text_at(tokens, at) == "."
            and tokens[at + 1].kind == "name"
            and _text_at(tokens, at + 2) != "("
        ):
            path.append(tokens[at + 1].text)
            at += 2
        paths.add(tuple(path))
    return tuple(sorted(paths))


def _bind(bound: dict[str, Any], data: dict[str, Any], path: Path) -> None:
    """Copy what stands at a path, with what is above it."""
    if not path:
        bound.update(_whole(data, ()))
        return
    for depth, name in enumerate(path):
        value = data.get(name)
        if value is None:
            return
        if depth == len(path) - 1 or not isinstance(value, dict):
            bound[name] = _whole(value, path[: depth + 1])
            return
        below = bound.setdefault(name, {})
        if not isinstance(below, dict):
            return
        bound, data = below, value


def _whole(value: Any, path: Path) -> Any:
    """Return a JSON value with members that are null left out; refuses what is not whole."""
    if isinstance(value, dict):
        return {n: _whole(v, (*path, n)) for n, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_whole(one, path) for one in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, Decimal):
        if abs(value) > _WHOLE_MAX or value != int(value):
            raise _not_whole(value, path)
        value = int(value)
    if not _WHOLE_MIN <= value <= _WHOLE_MAX:
        raise _not_whole(value, path)
    return value


def _not_whole(value: Decimal | int, path: Path) -> _NotWholeError:
    where = ".".join(("data", *path))
    return _NotWholeError(
        f"{where} has {str(value)[:40]}, and this expression takes whole numbers of 64 bits only"
    )


def _why(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return MissingMember(f"the member {error.args[0]} is missing")
    if isinstance(error, msgspec.MsgspecError | RecursionError):
        return "the event's data cannot be read"
    unfit = _NO_FUNCTION.match(str(error))
    if unfit is not None:  # it is one of FUNCTIONS: that was checked when the meter was saved
        return f"{unfit[1]} does not take what it is asked of"
    text = str(error).partition(" CEL does not coerce")[0].partition("\n")[0]
    return text[:_REASON_LENGTH_MAX]


def _kind_of(value: Any) -> str:
    for kind, words in ((float, "a double"), (datetime, "a time"), (list, "a list")):
        if isinstance(value, kind):
            return words
    return "an object" if isinstance(value, dict) else "nothing of use"
