"""Runs a bill run to its end: a broken connection is made again, and the run goes on."""

import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg

from billing.due import Scope
from billing.money import display
from billing.postgres_reports import issued_documents
from billing.postgres_runs import PostgresRuns
from billing.run import Report, bill
from billing.settlement import RepeatedLineError
from infra.embedded.errors import StackError
from pipelines.usage import UsageReader
from tollbook.billing_wiring import open_usage
from tollbook.stack_file import Stack

_ATTEMPTS = 6


def run_scope(
    stack: Stack,
    scope: Scope,
    progress: Callable[[int, int], None],
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
                return _result(connection, stack.tenant, report)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if attempt == _ATTEMPTS - 1:
                raise StackError(
                    f"Postgres broke off: {str(error).strip()}",
                    "Run the command again: it goes on where it stopped.",
                ) from error
            time.sleep(0.2 * 2**attempt * (1 + random.random()))  # noqa: S311 - jitter
        except (TimeoutError, LookupError) as error:
            raise StackError(str(error), "See `tollbook status`.") from error
        except RepeatedLineError as error:
            raise StackError(
                f"parked, since it has lines already: {error}", "Nothing of it was billed again."
            ) from error
    raise AssertionError("unreachable")


def _result(connection: Any, tenant: str, report: Report) -> dict[str, Any]:
    run_ids = sorted({run.run_id for run in report.runs})
    documents = issued_documents(connection, tenant, run_ids)
    totals: Counter[str] = Counter()
    for document in documents:
        sign = -1 if document["document_type"] == "credit_note" else 1
        totals[document["currency"]] += sign * document["total_minor"]
    return {
        "resumed": report.resumed,
        "cuts": [run.cut_number for run in report.runs],
        "periods": report.periods,
        "documents": documents,
        "documents_before": len(documents) - len(report.documents),
        "totals": {
            currency: display(minor, currency) for currency, minor in sorted(totals.items())
        },
    }
