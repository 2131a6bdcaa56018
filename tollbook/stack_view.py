"""How `up` and `status` look: a line per part, redrawn on a terminal, printed once elsewhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from infra.embedded.board import PartState, StackState
from infra.embedded.jars import Jar

_COLOURS = {"ready": "green", "done": "green", "down": "red", "failed": "red", "stopped": "dim"}


@contextmanager
def download_progress(
    console: Console, jars: Sequence[Jar]
) -> Iterator[Callable[[str, int], None]]:
    """Show a bar while jars are fetched; yields what to call with each one."""
    total = sum(jar.size for jar in jars)
    if not console.is_terminal:
        console.print(f"fetching Kafka: {len(jars)} jars, {total / 1e6:.0f} MB, once")
        yield lambda _name, _size: None
        return
    columns = (TextColumn("fetching Kafka, once"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda _name, size: progress.advance(task, size)


class StartView:
    """Shows a stack while it starts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: set[str] = set()
        self._spinners: dict[str, Spinner] = {}
        self._live = Live(console=console, refresh_per_second=12) if console.is_terminal else None

    def __enter__(self) -> Self:
        """Take the terminal."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()

    def show(self, state: StackState) -> None:
        """Draw the state, or print what is new in it."""
        if self._live is not None:
            self._live.update(self._drawn(state))
            return
        for part in state.parts.values():
            if part.state in {"ready", "done"} and part.name not in self._printed:
                self._printed.add(part.name)
                self._console.print(_line(part))

    def _drawn(self, state: StackState) -> Group:
        rows: list[Spinner | Text] = []
        for part in state.parts.values():
            if part.state in {"preparing", "starting"}:
                spinner = self._spinners.setdefault(part.name, Spinner("dots"))
                spinner.update(text=Text(f"{part.name:<12} {part.state}"))
                rows.append(spinner)
            else:
                rows.append(_line(part))
        return Group(*rows)


def _line(part: PartState) -> Text:
    if part.state in {"ready", "done"}:
        seconds = f"{part.start_seconds:5.1f} s" if part.start_seconds else " " * 7
        text = f"{part.name:<12} {part.state:<6} {seconds}  {part.address}"
        return Text.assemble(("✓ ", "green"), text.rstrip())
    return Text.assemble("  ", f"{part.name:<12} ", (part.state, _COLOURS.get(part.state, "dim")))


def status_table(state: StackState) -> Table:
    """Return one row per part."""
    waiting = [part.name for part in state.parts.values() if part.state not in {"ready", "done"}]
    phase = f"waits for {', '.join(waiting)}" if waiting and state.is_up else state.phase
    title = f"{state.data_dir}: {phase}, up for {_duration(time.time() - state.started_at)}"
    table = Table(title=Text(title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("part", "state", "address"):
        table.add_column(name, no_wrap=True)
    for name in ("pid", "memory", "for"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("restarts")
    now = time.time()
    for part in state.parts.values():
        table.add_row(
            part.name,
            Text(part.state, _COLOURS.get(part.state, "yellow")),
            part.address,
            str(part.pid or ""),
            _memory(part),
            _duration(now - part.since),
            f"{part.restarts}: {part.last_end}" if part.last_end else "",
        )
    return table


def alarm_lines(state: StackState) -> list[Text]:
    """Return what a person has to mend, each alarm once with the parts that raise it."""
    raised: dict[str, list[str]] = {}
    for part in state.parts.values():
        for alarm in part.alarms:
            raised.setdefault(alarm, []).append(part.name)
    return [
        Text(f"ALARM ({', '.join(names)}): {alarm}", "bold red") for alarm, names in raised.items()
    ]


def note_lines(state: StackState) -> list[Text]:
    """Return what parts say of how things stand."""
    return [Text(f"{part.name}: {part.note}", "dim") for part in state.parts.values() if part.note]


def _memory(part: PartState) -> str:
    """Return the memory of a part and all that it has started."""
    if not part.key.is_running():
        return ""
    try:
        leader = psutil.Process(part.pid)
        family = [leader, *leader.children(recursive=True)]
        total = sum(process.memory_full_info().pss for process in family)
    except psutil.Error:
        return "?"
    return f"{total / 2**20:.0f} MB"


def _duration(seconds: float) -> str:
    whole = int(max(0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
