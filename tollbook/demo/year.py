"""The year: each month's reports are sent and its books closed, with two kills on the way."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tollbook.demo.books import Books
from tollbook.demo.faults import Killed, kill_close_midway, kill_part, wait_for_restart
from tollbook.demo.feed import Sent, send_all
from tollbook.demo.flights import MONTHS, period
from tollbook.demo.lounge import UPGRADE_DAY, UPGRADES, upgrade_command, upgrade_month
from tollbook.demo.requests import events_up_to, requests_of
from tollbook.demo.screens import (
    MonthRow,
    change_line,
    fault_line,
    healed_line,
    month_line,
)
from tollbook.demo.tools import run_tollbook
from tollbook.stack_file import read_stack

_WORKER = "worker-0"


@dataclass(slots=True)
class Year:
    """Feeds and closes months of 2013, one after the other."""

    console: Console
    tables: duckdb.DuckDBPyConnection
    data_dir: Path
    books: Books
    months: int
    sent: Sent = field(default_factory=Sent)
    fed_seconds: float = 0.0
    closed_seconds: float = 0.0
    restart_seconds: float = 0.0

    @property
    def last_feed(self) -> int:
        """After twelve closes the reports of December that are late still follow."""
        return self.months + 1 if self.months == MONTHS else self.months

    def run(self) -> None:
        """Send and close every month, showing a line for each."""
        columns = (BarColumn(30), MofNCompleteColumn(), TextColumn("reports"), TimeElapsedColumn())
        with Progress(
            TextColumn("[cyan]{task.description:<24}[/]"), *columns, console=self.console
        ) as progress:
            total = events_up_to(self.tables, self.last_feed)
            task = progress.add_task("", total=total)
            for month in range(1, self.last_feed + 1):
                progress.update(task, description=f"{period(month)}: sending reports")
                events, seconds = self._feed(month, lambda count: progress.advance(task, count))
                if month <= self.months:
                    progress.update(task, description=f"{period(month)}: closing the month")
                    month_line(self.console, self._close(month, events, seconds))
                if month == upgrade_month(self.months):
                    self._upgrade(month)
            progress.update(task, description="all sent, all closed")
        self.console.print(
            f"\n{self.sent.acknowledged:,} events acknowledged in {self.sent.requests:,} requests,"
            f" {self.sent.unknown:,} more whose answer was lost;"
            f" {self.sent.acknowledged / self.fed_seconds:,.0f} events/s"
        )

    def _feed(self, month: int, on_sent: Callable[[int], None]) -> tuple[int, float]:
        """Send a month's reports; in one month a worker is killed half-way."""
        requests = requests_of(self.tables, month)
        total = sum(len(request.events) for request in requests)
        kills = month == max(1, self.months // 4)
        gone = 0
        killed: list[Killed] = []

        def note(count: int) -> None:
            nonlocal gone
            gone += count
            on_sent(count)
            if kills and not killed and 2 * gone >= total:
                killed.append(kill_part(self.data_dir, _WORKER))
                pid = killed[0].pid
                text = f"kill -9 {_WORKER} (process {pid}), {gone:,} of {total:,} reports sent"
                fault_line(self.console, text)

        began = time.monotonic()
        send_all(read_stack(self.data_dir), requests, self.sent, note)
        seconds = time.monotonic() - began
        for one in killed:
            self._await_restart(one)
        self.fed_seconds += seconds
        return total, seconds

    def _await_restart(self, killed: Killed) -> None:
        pid = wait_for_restart(self.data_dir, killed)
        self.restart_seconds = time.monotonic() - killed.at
        healed_line(
            self.console,
            f"{killed.name} is back as process {pid} within {self.restart_seconds:.1f} s, "
            "and reads on from its last segment",
        )

    def _upgrade(self, month: int) -> None:
        """Let an airline move to a larger lounge, in a month that is billed already."""
        words = upgrade_command(month)
        run_tollbook([*words, "--data-dir", str(self.data_dir)])
        since = f"{period(month)}-{UPGRADE_DAY}"
        text = (
            f"{UPGRADES} has had a larger lounge since {since}: the next close credits and charges"
        )
        change_line(self.console, f"tollbook {' '.join(words)}", text)

    def _close(self, month: int, events: int, fed_seconds: float) -> MonthRow:
        """Close a month; one close is killed midway and run again."""
        arguments = ["close", "--period", period(month), "--data-dir", str(self.data_dir)]
        began = time.monotonic()
        if month == max(1, self.months // 2):
            killed, issued = kill_close_midway(self.books, month, arguments)
            text = f"kill -9 close --period {period(month)} (process {killed.pid}), "
            fault_line(self.console, text + f"{issued} documents issued so far")
            began = time.monotonic()
            run_tollbook(arguments)
            rest = self.books.issued_by(month) - issued
            healed_line(self.console, f"run again: it goes on where it was, {rest} more issued")
        else:
            run_tollbook(arguments)
        seconds = time.monotonic() - began
        self.closed_seconds += seconds
        lines = [line for line in self.books.lines() if line.close == month]
        documents = self.books.issued_by(month)
        return MonthRow(period(month), events, fed_seconds, seconds, lines, documents)
