"""Questions of usage as people write them: parameters by name, each fault naming its own."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
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
LIMIT_MAX = 10_000

_NAMES_MAX = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR_US_MAX = 10**16
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
    """Return the question for usage that customers pay for, as known now or at its cut.

    Without customers it is that of all customers where it is asked by customer, else all usage.
    """
    if not customers and not question.by_owner:
        return question
    rows = connection.execute(
        "SELECT customer, subject, lower(during), upper(during) FROM subject_assignments a"
        " LEFT JOIN cuts c ON c.tenant = a.tenant AND c.number = %(cut)s"
        " WHERE a.tenant = %(tenant)s AND (%(all)s OR customer = ANY(%(customers)s))"
        " AND (withdrawn_revision IS NULL OR withdrawn_revision > c.facts_revision)"
        " AND (%(cut)s::bigint IS NULL OR known_revision <= c.facts_revision)"
        " ORDER BY customer, subject, during",
        {
            "tenant": tenant,
            "cut": question.cut,
            "all": not customers,
            "customers": list(customers),
        },
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
        after, end_us = _place_of(cursor)
        start = _EPOCH + timedelta(microseconds=after.start_us)
        if question.window is None:
            # Without bounds they are those of the usage, which may have grown between the pages.
            end = question.end or _EPOCH + timedelta(microseconds=end_us)
            question = replace(question, start=start, end=end)
        elif question.start is None or question.start < start:
            question = replace(question, start=start)
    rows = list(queries.ask(tenant, question, datetime.now(UTC), Page(after, limit + 1)))
    more = len(rows) > limit
    return rows[:limit], _cursor_of(rows[limit - 1]) if more else None


def _cursor_of(row: UsageRow) -> str:
    key = row.key
    text = json.dumps([key.start_us, row.end_us, key.owner, key.subject, *key.dimensions])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place_of(cursor: str) -> tuple[UsageKey, int]:
    """Return the key of the last row of the page before, and where its window ends."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        parts = json.loads(base64.urlsafe_b64decode(padded))
        start_us, end_us, *texts = parts
        owner, subject, *dimensions = texts
        "".join(texts).encode()
    except (ValueError, binascii.Error, TypeError) as error:
        raise BadParameterError("cursor", "not the `next` of an answer") from error
    is_placed = all(type(at) is int and abs(at) < _CURSOR_US_MAX for at in (start_us, end_us))
    if not is_placed or not start_us < end_us:
        raise BadParameterError("cursor", "not the `next` of an answer")
    return UsageKey(start_us, owner, subject, tuple(dimensions)), end_us


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
