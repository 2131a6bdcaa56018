"""Wires a backtest of prices to a stack: its past is read once, and rated by all processors."""

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

from billing.backtest import Past, compare
from billing.comparison import Comparison
from billing.declaration import Declarations
from billing.postgres_backtest import load_facts_at, load_past
from billing.postgres_catalog import load_meters
from billing.price_book import PriceBook
from billing.price_book_draft import Draft, draft_of
from infra.embedded.errors import StackError
from pipelines.postgres_cuts import PostgresCuts
from pipelines.usage import UsageReader
from tollbook.billing_wiring import open_database, open_usage, read_files
from tollbook.outages import outages_told
from tollbook.stack_file import Stack

Progress = Callable[[int, int], None]

_CHUNK = 10_000
"""So many subscriptions are rated at a time, by one process."""


def run_backtest(
    stack: Stack,
    file: Path,
    book: PriceBook,
    number: int,
    days: tuple[date, date],
    progress: Progress,
) -> tuple[Comparison, int]:
    """Return what customers were billed and would have been, and as of which cut.

    Raises:
        StackError: the draft could not be published, or nothing was billed yet.
    """
    past, draft = _read(stack, read_files([file]), book, number, days)
    keys = sorted(past.billed)
    chunks = [keys[at : at + _CHUNK] for at in range(0, len(keys), _CHUNK)]
    found = Comparison()
    with outages_told():
        for done, part in enumerate(_rated(stack, past, draft, chunks), 1):
            found.merge(part)
            progress(done, len(chunks))
    return found, past.cut.number


def _read(
    stack: Stack, declared: Declarations, book: PriceBook, number: int, days: tuple[date, date]
) -> tuple[Past, Draft]:
    with open_database(stack) as connection:
        cut = PostgresCuts(connection).latest(stack.tenant)
        if cut is None:
            raise StackError("nothing was billed yet", "See `tollbook bill --through DATE`.")
        facts = load_facts_at(connection, cut)
        if book.key not in facts.price_books:
            raise StackError(
                f"no price book {book.key} was known when cut {cut.number} was fixed",
                "See `tollbook price-book list`.",
            )
        draft = draft_of(declared, book, number, facts, load_meters(connection, stack.tenant))
        if draft is None:
            faults = "; ".join(str(fault) for fault in sorted(set(declared.faults)))
            raise StackError(faults, "Mend that first.")
        return load_past(connection, facts, cut, draft, days), draft


def _rated(
    stack: Stack, past: Past, draft: Draft, chunks: Sequence[Sequence[str]]
) -> Iterator[Comparison]:
    """Yield what chunks come to; many are shared out to processes that inherit what was read."""
    processes = min(len(os.sched_getaffinity(0)), len(chunks))
    if processes < 2:
        for keys in chunks:
            yield compare(past, draft, open_usage(stack), keys)
        return
    gc.freeze()  # what processes share is not looked through, and so not copied, by any of them
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("fork"), _hold, (stack, past, draft)
    ) as pool:
        yield from pool.map(_compare_held, chunks)
    gc.unfreeze()


_HELD: list[tuple[Past, Draft, UsageReader]] = []
"""What a process of the pool rates from."""


def _hold(stack: Stack, past: Past, draft: Draft) -> None:
    """Begin a process of the pool, with connections of its own."""
    _HELD.append((past, draft, open_usage(stack)))


def _compare_held(keys: Sequence[str]) -> Comparison:
    past, draft, usage = _HELD[0]
    return compare(past, draft, usage, keys)
