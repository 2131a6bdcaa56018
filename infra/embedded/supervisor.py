"""Starts the parts, keeps them running, and ends exactly what it started.

A part that dies is named and started again, after a pause that doubles with each failure in a row.
One that hangs is killed first.
A part that cannot be started at all ends the stack with what its log says.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from infra.embedded import logs
from infra.embedded.alarms import AlarmLog
from infra.embedded.board import Board
from infra.embedded.cleaning import STACK_VARIABLE, mark_of
from infra.embedded.config import WORKER, StackConfig, read_scale
from infra.embedded.errors import StackError
from infra.embedded.part import Part
from infra.embedded.process import end, key_of, kill_all, marked_processes, send
from infra.embedded.watch import Watch

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_SECONDS = 0.05
_START_SECONDS_MAX = 120.0
_TRIES_AT_START = 3
_PAUSE_SECONDS_MIN = 0.2
_PAUSE_SECONDS_MAX = 10.0
_SETTLED_SECONDS = 10.0
_ROTATE_SECONDS = 5.0
_ALARM_SECONDS = 0.5


def pause_seconds(failures: int) -> float:
    """Return how long to wait after the n-th failure in a row."""
    return float(min(_PAUSE_SECONDS_MAX, _PAUSE_SECONDS_MIN * 2 ** (failures - 1)))


class Supervisor:
    """Runs one stack until told to stop."""

    def __init__(
        self,
        config: StackConfig,
        parts: Sequence[Part],
        board: Board,
        workers_of: Callable[[int], Sequence[Part]] = lambda _: (),
    ) -> None:
        self._config = config
        self._parts: list[Part] = []
        self._board = board
        self._workers_of = workers_of
        self._ready: dict[str, asyncio.Event] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._alarms: dict[str, AlarmLog] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stop = asyncio.Event()
        self._scale = asyncio.Event()
        self._changed = asyncio.Event()
        for part in parts:
            self._add(part)

    def _add(self, part: Part) -> None:
        self._parts.append(part)
        self._ready[part.name] = asyncio.Event()
        self._alarms[part.name] = AlarmLog(self._log(part))
        self._board.add(part.name, part.address)
        if part.home:
            Path(part.home).mkdir(mode=0o700, parents=True, exist_ok=True)

    async def run(self) -> int:
        """Bring the stack up, keep it up, take it down; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self._scale.set)
        for part in self._parts:
            self._keepers[part.name] = asyncio.create_task(self._keep(part))
        chores = (self._announce, self._turn_logs, self._watch_alarms, self._follow_scale)
        others = {asyncio.create_task(work()) for work in chores}
        stopping = asyncio.create_task(self._stop.wait())
        failure: BaseException | None = None
        while failure is None and not stopping.done():
            self._changed.clear()
            changed = asyncio.create_task(self._changed.wait())
            watched = {*self._keepers.values(), *others}
            done, _ = await asyncio.wait(
                {*watched, stopping, changed}, return_when=asyncio.FIRST_COMPLETED
            )
            changed.cancel()
            ended = [task for task in done & watched if not task.cancelled()]
            failure = next((task.exception() for task in ended if task.exception()), None)
            others -= done
            self._keepers = {n: task for n, task in self._keepers.items() if task not in done}
        left = [*self._keepers.values(), *others, stopping]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return await self._take_down(failure)

    async def _follow_scale(self) -> None:
        """Change the number of workers each time that is asked for."""
        while True:
            await self._scale.wait()
            self._scale.clear()
            workers = read_scale(self._config.data_dir)
            if workers is not None and self._board.state.phase == "ready":
                await self._run_workers(self._workers_of(workers))
                self._board.state.workers = workers
                self._board.tell(f"{workers} workers share the partitions")

    async def _run_workers(self, parts: Sequence[Part]) -> None:
        """Run these workers instead of those that run: each has another share of the partitions.

        While both read a partition, they write the same rows.
        """
        before = [part for part in self._parts if part.name.startswith(WORKER)]
        tasks = [self._keepers.pop(part.name) for part in before if part.name in self._keepers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self._end_part(part) for part in before))
        for part in before:
            await self._end_stragglers(part)
            self._parts.remove(part)
            self._board.drop(part.name)
        for part in parts:
            self._add(part)
            self._keepers[part.name] = asyncio.create_task(self._keep(part))
        self._changed.set()

    async def _watch_alarms(self) -> None:
        while True:
            await asyncio.sleep(_ALARM_SECONDS)
            for name, log in list(self._alarms.items()):
                if name in self._board.state.parts and log.read():
                    self._board.raise_alarms(name, log.alarms, log.note)

    async def _announce(self) -> None:
        """Declare the stack ready when every part is."""
        try:
            async with asyncio.timeout(_START_SECONDS_MAX):
                await asyncio.gather(*(event.wait() for event in self._ready.values()))
        except TimeoutError:
            late = [name for name, event in self._ready.items() if not event.is_set()]
            raise StackError(
                f"not ready after {_START_SECONDS_MAX:.0f} s: {', '.join(late)}",
                f"Their logs may tell why: {self._config.data_dir / 'logs'}",
            ) from None
        self._board.tell(f"all ready after {self._elapsed():.1f} s")
        self._board.enter("ready")

    async def _keep(self, part: Part) -> None:
        """Start a part when its time has come, and again whenever it dies."""
        for name in part.after:
            await self._ready[name].wait()
        await self._prepare(part)
        failures = 0
        while True:
            log_start = _size(self._log(part))
            process = await self._spawn(part)
            started = time.monotonic()
            came_up = await self._wait_ready(part, process, log_start)
            code = await self._wait_end(part, process)
            if part.runs_once and code == 0:
                self._board.change(part.name, "done")
                self._ready[part.name].set()
                return
            lasted = time.monotonic() - started
            failures = 1 if came_up and lasted > _SETTLED_SECONDS else failures + 1
            self._record_death(part, code, lasted)
            text = logs.tail(self._log(part), log_start)
            if not self._ready[part.name].is_set():
                self._give_up_if_hopeless(part, failures, text)
            pause = pause_seconds(failures)
            self._tell_death(part, text, pause)
            await self._end_stragglers(part)
            await asyncio.sleep(pause)
            self._board.state.parts[part.name].restarts += 1

    async def _prepare(self, part: Part) -> None:
        if part.prepare is not None:
            self._board.change(part.name, "preparing")

            async def run(
                command: Sequence[str],
                environment: Mapping[str, str],
                until: Callable[[], Awaitable[bool]] | None = None,
            ) -> None:
                await self._run_once(part, command, environment, until)

            try:
                await part.prepare(run)
            except StackError:
                self._board.change(part.name, "failed")
                raise

    async def _run_once(
        self,
        part: Part,
        command: Sequence[str],
        environment: Mapping[str, str],
        until: Callable[[], Awaitable[bool]] | None,
    ) -> None:
        log_start = _size(self._log(part))
        process = await self._launch(part, command, environment)
        self._processes[part.name] = process
        if until is not None:
            while process.returncode is None and not await until():  # noqa: ASYNC110 - asks a server
                await asyncio.sleep(_POLL_SECONDS)
            send(key_of(process.pid), part.stop_signal)
        # A JVM that was asked to end says so by 128 + 15.
        if await process.wait() not in {0, 128 + part.stop_signal if until else 0}:
            raise self._error(part, logs.tail(self._log(part), log_start))

    async def _spawn(self, part: Part) -> asyncio.subprocess.Process:
        self._alarms[part.name].skip()
        process = await self._launch(part, part.command, part.environment)
        self._processes[part.name] = process
        self._board.state.parts[part.name].alarms = []
        self._board.change(part.name, "starting", key_of(process.pid))
        return process

    async def _launch(
        self, part: Part, command: Sequence[str], environment: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        user = "nobody" if part.refuses_root else "-"
        launcher = (sys.executable, "-I", "-S", str(_LAUNCHER))
        terms = (str(os.getpid()), str(int(part.stop_signal)), user)
        own = {
            STACK_VARIABLE: str(self._config.data_dir),
            "TOLLBOOK_PART": part.name,
            "TOLLBOOK_PART_HOME": part.home,
        }
        with self._open_log(part) as log:
            return await asyncio.create_subprocess_exec(
                *launcher,
                *terms,
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                cwd=part.home or self._config.data_dir,
                env={**os.environ, "TZ": "UTC", **environment, **own},
                start_new_session=True,
            )

    async def _wait_ready(
        self, part: Part, process: asyncio.subprocess.Process, log_start: int
    ) -> bool:
        """Wait until a part answers or ends; tell whether it answered."""
        if part.runs_once:
            return False
        while process.returncode is None:
            if part.probe is not None:
                answers = await part.probe.is_ready()
            else:
                answers = part.ready_text in logs.tail(self._log(part), log_start)
            if answers and process.returncode is None:
                self._board.change(part.name, "ready")
                if self._ready[part.name].is_set():
                    seconds = self._board.state.parts[part.name].start_seconds
                    self._board.tell(f"{part.name} is ready again {seconds:.1f} s after its start")
                self._ready[part.name].set()
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return False

    async def _wait_end(self, part: Part, process: asyncio.subprocess.Process) -> int:
        """Wait until a part ends; end one that hangs."""
        ending = asyncio.create_task(process.wait())
        watch = Watch(part, self._config.silent_seconds_max)
        try:
            while not ending.done():
                await asyncio.wait({ending}, timeout=watch.pause_seconds)
                if ending.done() or part.runs_once:
                    continue
                await watch.listen()
                if watch.is_over:
                    self._board.tell(
                        f"{part.name} has not answered for {watch.silent_seconds:.0f} s: killed"
                    )
                    kill_all(key_of(process.pid))
                    break
            return await ending
        finally:
            ending.cancel()

    def _record_death(self, part: Part, code: int, lasted: float) -> None:
        state = self._board.state.parts[part.name]
        state.last_end = f"{_ending(code)} after {lasted:.1f} s"
        self._board.change(part.name, "down")

    def _tell_death(self, part: Part, text: str, pause: float) -> None:
        why = ""
        if logs.is_hopeless(text):
            problem, remedy = logs.explain(text, self._log(part), self._config.data_dir)
            why = f": {problem}. {remedy}"
        ending = self._board.state.parts[part.name].last_end
        self._board.tell(f"{part.name} {ending}; next start in {pause:.1f} s{why}")

    def _give_up_if_hopeless(self, part: Part, failures: int, text: str) -> None:
        if failures >= _TRIES_AT_START or part.runs_once or logs.is_hopeless(text):
            self._board.change(part.name, "failed")
            raise self._error(part, text)

    def _error(self, part: Part, text: str) -> StackError:
        problem, remedy = logs.explain(text, self._log(part), self._config.data_dir)
        return StackError(f"{part.name} does not start: {problem}", remedy)

    async def _take_down(self, failure: BaseException | None) -> int:
        """End the parts, those that others lean on last; return the exit status."""
        self._board.enter("stopping")
        if failure is None:
            self._board.tell("stopping")
        for level in reversed(_levels(self._parts)):
            await asyncio.gather(*(self._end_part(part) for part in level))
        left = marked_processes(mark_of(self._config.data_dir))
        if left:
            await asyncio.to_thread(end, left, 2)
        if failure is None:
            self._board.enter("stopped")
            self._board.tell("stopped")
            return 0
        if isinstance(failure, StackError):
            self._board.state.problem = failure.problem
            self._board.state.remedy = failure.remedy
        else:
            self._board.state.problem = f"the supervisor failed: {failure!r}"
            self._board.state.remedy = "Its log tells where: logs/supervisor.log"
        self._board.enter("failed")
        self._board.tell(f"{self._board.state.problem}. {self._board.state.remedy}")
        if not isinstance(failure, StackError):
            raise failure
        return 1

    async def _end_part(self, part: Part) -> None:
        process = self._processes.get(part.name)
        if process is None or process.returncode is not None:
            return
        key = key_of(process.pid)
        send(key, part.stop_signal)
        send(key, signal.SIGCONT)  # one that is paused would not hear the first
        try:
            async with asyncio.timeout(part.stop_seconds):
                await process.wait()
        except TimeoutError:
            self._board.tell(f"{part.name} did not stop in {part.stop_seconds:.0f} s: killed")
            send(key, signal.SIGKILL, group=True)
            await process.wait()
        # A JVM that was asked to end says so by 128 + 15.
        if process.returncode not in {0, 128 + part.stop_signal} and not part.runs_once:
            self._board.state.parts[part.name].last_end = _ending(process.returncode)
        if self._board.state.parts[part.name].state != "failed":
            self._board.change(part.name, "stopped")

    async def _end_stragglers(self, part: Part) -> None:
        """End what a dead part has left behind, before its successor starts."""
        mine = set(marked_processes(f"TOLLBOOK_PART={part.name}"))
        left = [key for key in marked_processes(mark_of(self._config.data_dir)) if key in mine]
        if left:
            await asyncio.to_thread(end, left, 1)

    async def _turn_logs(self) -> None:
        while True:
            await asyncio.sleep(_ROTATE_SECONDS)
            for name in ("supervisor", *(part.name for part in self._parts)):
                with contextlib.suppress(OSError):
                    logs.rotate(logs.log_path(self._config.data_dir, name))

    def _log(self, part: Part) -> Path:
        return logs.log_path(self._config.data_dir, part.name)

    def _open_log(self, part: Part) -> IO[bytes]:
        return logs.open_log(self._log(part))

    def _elapsed(self) -> float:
        return time.time() - self._board.state.started_at


def _levels(parts: Sequence[Part]) -> list[list[Part]]:
    """Return the parts in the order of their starts, those that start together side by side."""
    levels: list[list[Part]] = []
    placed: set[str] = set()
    left = list(parts)
    while left:
        level = [part for part in left if placed.issuperset(part.after)]
        if not level:
            raise ValueError("parts wait for each other")
        levels.append(level)
        placed |= {part.name for part in level}
        left = [part for part in left if part not in level]
    return levels


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
