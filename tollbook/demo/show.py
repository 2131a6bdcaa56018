"""The demo from curtain to curtain: the stack, the year, the books, the recount."""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.markup import escape

from infra.embedded import control
from infra.embedded.control import UpOptions
from infra.embedded.errors import StackError
from tollbook.demo import analysis, screens
from tollbook.demo.books import Books
from tollbook.demo.compare import Check
from tollbook.demo.flights import MONTHS, open_flights, period
from tollbook.demo.lounge import UPGRADES
from tollbook.demo.requests import prepare_requests
from tollbook.demo.setting import apply_declarations, open_history
from tollbook.demo.tools import program, run_tollbook
from tollbook.demo.verdict import not_yet_billed, recount
from tollbook.demo.year import Year
from tollbook.stack_commands import bring_up
from tollbook.stack_file import Stack, read_stack
from tollbook.usage_wiring import open_reader

_SHOWN_AIRLINE = "B6"
_SOURCE = """
SELECT count(*), count(*) FILTER (departed), count(DISTINCT carrier), count(DISTINCT tailnum)
FROM reports
"""


@dataclass(slots=True)
class Show:
    """One performance."""

    console: Console
    data_dir: Path
    months: int
    keep: bool
    seconds_by_phase: dict[str, float] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Play it all; `checks` and `figures` then hold what came out."""
        began = time.monotonic()
        with self._phase("source data"):
            tables = self._open_source()
        try:
            with self._phase("stack"):
                screens.heading(self.console, 1, "A metering and billing stack of real servers")
                bring_up(self.console, UpOptions(data_dir=self.data_dir, detach=self.keep))
            self._play(tables, read_stack(self.data_dir))
        except BaseException:
            self._strike()
            raise
        self.seconds_by_phase["all"] = time.monotonic() - began
        self._finish()

    def _open_source(self) -> duckdb.DuckDBPyConnection:
        tables = open_flights()
        prepare_requests(tables)
        ((flights, departed, airlines, aircraft),) = tables.execute(_SOURCE).fetchall()
        self.console.print(
            "[bold]Tollbook: a year of real flights, from event to balanced ledger[/]\n\n"
            f"New York's airports in 2013: {flights:,} scheduled flights, {departed:,} departed, "
            f"{aircraft:,} aircraft.\nThe airports' owner sends an event per flight and bills "
            f"{airlines} airlines. One event in a hundred is\nsent twice, some requests are sent "
            "again whole, one flight in two hundred is reported a month late."
        )
        return tables

    def _play(self, tables: duckdb.DuckDBPyConnection, stack: Stack) -> None:
        with self._phase("apply"):
            self._apply(tables, stack)
        books = Books(stack)
        year = Year(self.console, tables, self.data_dir, books, self.months)
        with self._phase("year"):
            title = "Twelve months" if self.months == MONTHS else f"{self.months} months"
            screens.heading(self.console, 3, f"{title}: send the reports, close the month")
            screens.months_heading(self.console)
            year.run()
            _await_counted(stack)
        with self._phase("screens"):
            self._show_books(year)
        with self._phase("recount"):
            self._show_recount(year)
        books.close()
        self._note_figures(year)

    def _apply(self, tables: duckdb.DuckDBPyConnection, stack: Stack) -> None:
        screens.heading(self.console, 2, "Meters, price books, sixteen airlines")
        ready_at = open_history(stack)
        with self.console.status("applying"):
            files, applied = apply_declarations(tables, self.data_dir)
        shown = " ".join(file.name for file in files)
        screens.command_line(self.console, f"tollbook apply {shown}")
        self.console.print(screens.applied_table(applied))
        with self.console.status("opening the tenant for events of 2013"):
            time.sleep(max(0.0, ready_at - time.monotonic()))

    def _show_books(self, year: Year) -> None:
        books, console = year.books, self.console
        screens.heading(console, 4, "What the airlines were billed")
        names = dict(year.tables.execute("SELECT carrier, name FROM airlines").fetchall())
        lines, invoices = books.lines(), books.invoices()
        console.print(screens.airlines_table(lines, invoices, names))
        screens.heading(console, 5, "One invoice, line by line")
        corrected = [line.number for line in lines if line.kind == "correction"]
        own = [invoice.number for invoice in invoices if invoice.airline == _SHOWN_AIRLINE]
        shown = [number for number in own if number in corrected] or own
        self._show_command("invoice", "show", shown[len(shown) // 2], "--trace")
        changed = [line.number for line in lines if line.kind == "proration_credit"]
        if changed:
            console.print()
            self._show_command("subscription", "history", f"{UPGRADES}-lounge")
        screens.heading(console, 6, "The ledger: debits equal credits")
        self._show_command("ledger", "trial-balance")
        screens.heading(console, 7, f"An analyst asks ClickHouse: {analysis.QUESTION}")
        console.print(screens.query(analysis.SQL))
        console.print()
        console.print(screens.answer_table(*books.ask(analysis.SQL)))

    def _show_command(self, *words: str) -> None:
        screens.command_line(self.console, f"tollbook {' '.join(words)}")
        arguments = [*words, "--data-dir", str(self.data_dir)]
        out = run_tollbook(arguments, colour=self.console.is_terminal)
        self.console.file.write(out)

    def _show_recount(self, year: Year) -> None:
        screens.heading(self.console, 8, "The recount: DuckDB, the source files, its own rating")
        with self.console.status("recounting"):
            self.checks = list(recount(year))
        self.console.print(screens.recount_table(self.checks))
        pending = not_yet_billed(year)
        if pending:
            worth, close = screens.dollars(pending), f"tollbook close --period {period(13)}"
            self.console.print(
                f"\n[dim]Reports worth {worth} came after the last close: stored and counted, "
                f"they will be billed as\ncorrections by `{close}`.[/]"
            )

    def _note_figures(self, year: Year) -> None:
        self.figures = {
            "events_acknowledged": year.sent.acknowledged,
            "events_without_answer": year.sent.unknown,
            "requests": year.sent.requests,
            "events_per_second": round(year.sent.acknowledged / year.fed_seconds),
            "feed_seconds": round(year.fed_seconds, 1),
            "close_seconds": round(year.closed_seconds, 1),
            "worker_restart_seconds": round(year.restart_seconds, 1),
            "rows_compared": sum(check.compared for check in self.checks),
            "differences": sum(len(check.differences) for check in self.checks),
        }

    def _finish(self) -> None:
        console, compared = self.console, self.figures["rows_compared"]
        differences = self.figures["differences"]
        console.print()
        if differences:
            console.print(f"[bold red]{differences:,} of {compared:,} rows differ.[/]")
        else:
            console.print(f"[bold green]All {compared:,} rows are equal.[/]")
        console.print(f"[dim]{self.seconds_by_phase['all']:.0f} s: {self._phases()}.[/]")
        if self.keep:
            self._show_next()
        else:
            self._strike()

    def _phases(self) -> str:
        named = {name: s for name, s in self.seconds_by_phase.items() if name != "all"}
        return ", ".join(f"{name} {seconds:.0f}" for name, seconds in named.items())

    def _show_next(self) -> None:
        self.console.print("\nThe stack is left running. Try next:\n")
        for command, what in (
            ("status", "every part, its process and its memory"),
            (
                f"close --period {period(self.months + 1)}",
                "the next month, and corrections for what came late",
            ),
            ("invoice list --customer HA", "what Hawaiian Airlines was billed"),
            ("usage unassigned", "usage that nobody pays for"),
            ("ledger trial-balance", "the books"),
            ("down", "end it; the data stays"),
        ):
            end = f"--data-dir {shlex.quote(str(self.data_dir))}"
            line = f"[bold]{escape(f'{program()} {command} {end}')}[/]"
            self.console.print(f"  {line}  [dim]# {what}[/]", soft_wrap=True)

    def _strike(self) -> None:
        """Take the stack down, if it came up."""
        with suppress(StackError):
            control.stop(self.data_dir, lambda _: None)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds_by_phase[name] = time.monotonic() - began


def _await_counted(stack: Stack) -> None:
    """Return when everything sent so far is in the tables."""
    reader = open_reader(
        kafka_bootstrap=stack.kafka_bootstrap,
        postgres_dsn=stack.postgres_dsn,
        clickhouse_url=stack.clickhouse_url,
    )
    reader.fix_cut(stack.tenant, datetime.now(UTC))
