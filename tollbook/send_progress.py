"""The progress line of `tollbook send`: bytes done, events, rate, and retries as they happen."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

_REPEAT_SECONDS = 30.0


class SendProgress:
    """Shows how far a file is, on a terminal or as one line at the end."""

    def __init__(self, size: int, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[events]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet,
        )
        self._task = self._bar.add_task("sending", total=size, events="")
        self._began = time.monotonic()
        self._first: int | None = None
        self._warned_at = float("-inf")
        self._warned_of = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, offset: int, accepted: int, refused: int) -> None:
        """Show how far the file is acknowledged."""
        if self._first is None:
            self._first = accepted + refused
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = (accepted + refused - self._first) / seconds
        events = f"{accepted:,} in, {refused:,} refused, {rate:,.0f}/s"
        self._bar.update(self._task, completed=offset, events=events)

    def warn(self, reason: str) -> None:
        """Say that requests are sent again, and why: when that changes, else now and then."""
        now = time.monotonic()
        if reason != self._warned_of or now - self._warned_at >= _REPEAT_SECONDS:
            self._warned_at, self._warned_of = now, reason
            self._console.print(f"sending again: {reason}", style="yellow", markup=False)
