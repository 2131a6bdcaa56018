"""Runs a bill run or a close to its end: a broken connection is made again, and it goes on."""

import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import MAXYEAR, UTC, date, datetime
from typing import Any

import psycopg

from billing.due import Scope, closable_at
from billing.facts import LATEST
from billing.money import display
from billing.period import add_months, last_day
from billing.postgres_clock import read_clock
from billing.postgres_ledger import lock_books, post_month_ends
from billing.postgres_reports import issued_documents
from billing.postgres_runs import PostgresRuns
from billing.run import Report, bill
from billing.settlement import RepeatedLineError
from billing.waiting import first_unclosed, has_come, why_nothing
from infra.embedded.errors import StackError
from pipelines.outage import TransientError
from pipelines.usage import UsageReader
from tollbook.billing_wiring import open_database, open_usage
from tollbook.stack_file import Stack

Progress = Callable[[int, int], None]

_ATTEMPTS = 6
_DRIVERS = ("psycopg", "clickhouse_connect", "cimpl", "confluent_kafka", "urllib3")


def run_scope(
    stack: Stack,
    scope: Scope,
    progress: Progress,
    usage_of: Callable[[Stack], UsageReader] = open_usage,
) -> dict[str, Any]:
    """Bill a scope; returns what was issued, JSON-ready.

    What a commit did whose answer was lost is found out by running again: what is billed is not
    due.
    """
    report = Report()
    for attempt in range(_ATTEMPTS):
        try:
            with psycopg.connect(stack.postgres_dsn, autocommit=True) as connection:
                store = PostgresRuns(connection, stack.tenant)
                bill(store, usage_of(stack), scope, datetime.now(UTC), progress, report)
                return _result(store, scope, report)
        except RepeatedLineError as error:
            raise StackError(
                f"parked, since it has lines already: {error}", "Nothing of it was billed again."
            ) from error
        except TimeoutError as error:
            raise StackError(str(error), "See `tollbook status`.") from error
        except Exception as error:
            if not _is_outage(error):
                raise
            if attempt == _ATTEMPTS - 1:
                raise StackError(
                    f"a server broke off: {str(error).strip().splitlines()[0]}",
                    "Run the command again: it goes on where it stopped.",
                ) from error
            time.sleep(0.2 * 2**attempt * (1 + random.random()))  # noqa: S311 - jitter
    raise AssertionError("unreachable")


def bill_through(stack: Stack, through: date | datetime, progress: Progress) -> dict[str, Any]:
    """Bill all that is due through a moment that has come; returns what was issued, JSON-ready."""
    scope = Scope("bill", through)
    with open_database(stack) as connection:
        store = PostgresRuns(connection, stack.tenant)
        customers = store.facts(LATEST).customers.values()
        now = read_clock(connection, stack.tenant, datetime.now(UTC)).at
        if not has_come(customers, scope, now, virtual=store.has_virtual_clock()):
            raise StackError(
                f"{through.isoformat()} is in the future, and only what is due by now is billed",
                "Give a moment that has come.",
            )
    return run_scope(stack, scope, progress)


def close_month(
    stack: Stack,
    month: date,
    progress: Progress,
    usage_of: Callable[[Stack], UsageReader] = open_usage,
    *,
    lock: bool = False,
) -> dict[str, Any]:
    """Bill, recognise and accrue a month; returns what was issued and booked, JSON-ready."""
    with open_database(stack) as connection:
        now = read_clock(connection, stack.tenant, datetime.now(UTC)).at
    _check_closable(stack, month, now)
    result = run_scope(stack, Scope("close", add_months(month, 1)), progress, usage_of)
    with open_database(stack) as connection:
        result["entries"] = post_month_ends(connection, stack.tenant, month)
        if lock:
            lock_books(connection, stack.tenant, last_day(month))
            result["locked_through"] = last_day(month).isoformat()
    return result


def _check_closable(stack: Stack, month: date, now: datetime) -> None:
    """Refuse a month that is not over by the tenant's clock, or that leaves earlier ones unbilled.

    Without a clock of its own that is the world's: what was billed of the future cannot be taken
    back.
    """
    begins = closable_at(add_months(month, 1) if month.year < MAXYEAR else month)
    if now < begins:
        raise StackError(
            f"{month:%Y-%m} is not over in every time zone",
            f"Close it from {begins:%Y-%m-%d %H:%M} UTC.",
        )
    with open_database(stack) as connection:
        store = PostgresRuns(connection, stack.tenant)
        clock = None if store.has_virtual_clock() else now
        facts, billed = store.facts(LATEST), store.billed()
        first = first_unclosed(facts, billed, month, clock, store.closed())
    if first is not None:
        raise StackError(
            f"{month:%Y-%m} cannot be closed: {first:%Y-%m} has charges due that are not billed",
            f"Close the months in order, first {first:%Y-%m}.",
        )


def _is_outage(error: Exception) -> bool:
    """Return whether a server was away: the same call may succeed later."""
    if isinstance(error, psycopg.Error):
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return isinstance(error, TransientError) or type(error).__module__.startswith(_DRIVERS)


def _result(store: PostgresRuns, scope: Scope, report: Report) -> dict[str, Any]:
    run_ids = sorted({run.run_id for run in report.runs})
    documents = issued_documents(store.connection, store.tenant, run_ids)
    nothing = None
    if report.did_nothing:
        nothing = why_nothing(store.facts(LATEST), store.billed(), scope)
    totals: Counter[str] = Counter()
    for document in documents:
        sign = -1 if document["document_type"] == "credit_note" else 1
        totals[document["currency"]] += sign * document["total_minor"]
    return {
        "resumed": report.resumed,
        "cuts": [run.cut_number for run in report.runs],
        "periods": report.periods,
        "nothing_because": nothing,
        "documents": documents,
        "documents_before": len(documents) - len(report.documents),
        "totals": {
            currency: display(minor, currency) for currency, minor in sorted(totals.items())
        },
    }
