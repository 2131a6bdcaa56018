"""Questions of usage as people write them: parameters by name, each fault naming its own."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg

from pipelines.local_windows import WindowSize
from pipelines.query import UsageQueries
from pipelines.question import UTC_ZONE, Page, UsageKey, UsageQuestion, UsageRow
from pipelines.usage import Span

WINDOWS: Mapping[str, WindowSize] = {
    "1m": "minute", "1h": "hour", "1d": "day", "1 month": "month",
}  # fmt: skip
LIMIT_MAX = 100_000

_NAMES_MAX = 1000
_YEARS = range(1900, 2200)
_SPACE_FOR_PLUS = re.compile(r" (\d\d:?\d\d)$")


class BadParameterError(ValueError):
    """A parameter that cannot be used: its name, and why."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter = parameter
        self.reason = reason


def read_question(meter: str, given: Mapping[str, Sequence[str]]) -> UsageQuestion:
    """Return the question of parameters `from`, `to`, `window`, `subject` and the like.

    Raises:
        BadParameterError: a parameter is unknown or cannot be used.
    """
    zone = read_zone("window_time_zone", _one(given, "window_time_zone") or "UTC")
    window = _one(given, "window")
    if window is not None and window not in WINDOWS:
        raise BadParameterError("window", f"not one of {', '.join(WINDOWS)}")
    cut = _one(given, "cut")
    groups = [name for text in given.get("group_by", ()) for name in text.split(",")]
    question = UsageQuestion(
        meter=meter,
        start=read_instant("from", _one(given, "from"), zone),
        end=read_instant("to", _one(given, "to"), zone),
        window=None if window is None else WINDOWS[window],
        zone=zone,
        subjects=_names(given, "subject"),
        cut=None if cut is None else read_number("cut", cut, 2**62),
        where=_filters(given),
    )
    return check_question(grouped(question, groups))


def grouped(question: UsageQuestion, groups: Sequence[str]) -> UsageQuestion:
    """Return the question by `subject`, `customer`, and dimensions."""
    return replace(
        question,
        by_subject="subject" in groups,
        by_owner="customer" in groups,
        group_by=tuple(dict.fromkeys(n for n in groups if n not in ("subject", "customer"))),
    )


def check_question(question: UsageQuestion, start: str = "from", end: str = "to") -> UsageQuestion:
    """Return the question.

    Raises:
        BadParameterError: the interval is empty.
    """
    if question.start and question.end and question.start >= question.end:
        raise BadParameterError(end, f"not after {start}")
    return question


def read_zone(parameter: str, text: str) -> ZoneInfo:
    """Return the time zone of an IANA name; raises BadParameterError where there is none."""
    try:
        return UTC_ZONE if text == "UTC" else ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadParameterError(parameter, f"not a time zone: {text[:80]}") from error


def read_instant(parameter: str, text: str | None, zone: ZoneInfo = UTC_ZONE) -> datetime | None:
    """Return an instant; a date is its midnight in the zone. A `+` may have become a space."""
    if text is None:
        return None
    try:
        if len(text) == len("2013-01-01"):
            day = date.fromisoformat(text)
            moment = datetime(day.year, day.month, day.day, tzinfo=zone)
        else:
            moment = datetime.fromisoformat(_SPACE_FOR_PLUS.sub(r"+\1", text))
        if moment.year not in _YEARS:
            raise BadParameterError(parameter, "its year is not within 1900 and 2199")
    except (ValueError, OverflowError) as error:
        if isinstance(error, BadParameterError):
            raise
        reason = f"not an instant like 2013-01-01T00:00:00Z, nor a date: {text[:80]}"
        raise BadParameterError(parameter, reason) from error
    if moment.tzinfo is None:
        raise BadParameterError(parameter, "an instant needs its offset, such as Z or +01:00")
    return moment.astimezone(UTC)


def read_number(parameter: str, text: str, most: int) -> int:
    """Return a whole number from 1 to `most`."""
    if not re.fullmatch(r"[0-9]{1,19}", text) or not 1 <= int(text) <= most:
        raise BadParameterError(parameter, f"not a whole number from 1 to {most}")
    return int(text)


def of_customers(
    connection: "psycopg.Connection[Any]",
    tenant: str,
    question: UsageQuestion,
    customers: Sequence[str],
) -> UsageQuestion:
    """Return the question for usage that customers pay for, by what is known now.

    Without customers it is that of all customers where it is asked by customer, else all usage.
    """
    if not customers and not question.by_owner:
        return question
    rows = connection.execute(
        "SELECT customer, subject, lower(during), upper(during) FROM subject_assignments"
        " WHERE tenant = %s AND withdrawn_revision IS NULL AND (%s OR customer = ANY(%s))"
        " ORDER BY customer, subject, during",
        (tenant, not customers, list(customers)),
    ).fetchall()
    return replace(question, spans=tuple(Span(*row) for row in rows))


def ask_page(
    queries: UsageQueries,
    tenant: str,
    question: UsageQuestion,
    cursor: str | None,
    limit: int,
) -> tuple[list[UsageRow], str | None]:
    """Return a page of an answer after a cursor, and the next page's cursor where there is one."""
    after = None
    if cursor is not None:
        after = _key_of(cursor)
        start = datetime.fromtimestamp(after.start_us // 1_000_000, UTC)
        if question.window is not None and (question.start is None or question.start < start):
            question = replace(question, start=start)
    rows = list(queries.ask(tenant, question, datetime.now(UTC), Page(after, limit + 1)))
    more = len(rows) > limit
    return rows[:limit], _cursor_of(rows[limit - 1].key) if more else None


def _cursor_of(key: UsageKey) -> str:
    text = json.dumps([key.start_us, key.owner, key.subject, *key.dimensions])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _key_of(cursor: str) -> UsageKey:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        start_us, owner, subject, *dimensions = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error, TypeError) as error:
        raise BadParameterError("cursor", "not the `next` of an answer") from error
    texts = (owner, subject, *dimensions)
    if type(start_us) is not int or not all(isinstance(text, str) for text in texts):
        raise BadParameterError("cursor", "not the `next` of an answer")
    if abs(start_us) > 10**16:
        raise BadParameterError("cursor", "not the `next` of an answer")
    return UsageKey(start_us, owner, subject, tuple(dimensions))


def _one(given: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = given.get(name, ())
    if len(values) > 1:
        raise BadParameterError(name, "given more than once")
    return values[0] if values else None


def _names(given: Mapping[str, Sequence[str]], name: str) -> tuple[str, ...]:
    values = tuple(given.get(name, ()))
    if len(values) > _NAMES_MAX:
        raise BadParameterError(name, f"given more than {_NAMES_MAX} times")
    return values


def _filters(given: Mapping[str, Sequence[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        (name[len("filter[") : -1], _names(given, name))
        for name in given
        if name.startswith("filter[") and name.endswith("]")
    )
