"""A full embedded stack for tests, brought up and down by the ordinary command."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from infra.embedded.board import PartState, read_state
from tests.forks import REPOSITORY, assert_imported, forking
from tollbook import cli
from tollbook.stack_file import Stack, read_stack

HTTP = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
"""One for all tests: to make one takes longer than most answers. What it asks comes and goes."""


def run_tollbook(
    *arguments: str, environment: Mapping[str, str] | None = None, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run the command `tollbook` to its end, in a process of its own."""
    own = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})}
    with tempfile.TemporaryDirectory() as folder:
        told = [str(Path(folder, name)) for name in ("stdout", "stderr")]
        process = forking().Process(target=_run, args=(arguments, own, told))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["tollbook", *arguments], seconds)
        stdout, stderr = (Path(path).read_text() for path in told)
    return subprocess.CompletedProcess(arguments, process.exitcode, stdout, stderr)


def _run(arguments: tuple[str, ...], environment: dict[str, str], told: list[str]) -> None:
    """Become the command."""
    for number, path in enumerate(told, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    assert_imported()
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["tollbook", *arguments]
    cli.main()


@dataclass(frozen=True)
class EmbeddedStack:
    """A stack by its data directory; pids and the like are read anew each time."""

    data_dir: Path
    options: tuple[str, ...] = field(default=())
    environment: Mapping[str, str] = field(default_factory=dict)

    def up(self) -> str:
        """Bring it up, and return what the command printed."""
        words = ("up", "--detach", "--data-dir", str(self.data_dir), *self.options)
        done = run_tollbook(*words, environment=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr + self.log("supervisor")
        return done.stdout

    def down(self) -> str:
        """Take it down, and return what the command printed."""
        done = run_tollbook("down", "--data-dir", str(self.data_dir))
        assert done.returncode == 0, done.stdout + done.stderr + self.log("supervisor")
        return done.stdout

    def read(self) -> Stack:
        """Return where it answers."""
        return read_stack(self.data_dir)

    def part(self, name: str) -> PartState:
        """Return what is known of a part."""
        state = read_state(self.data_dir)
        assert state is not None
        return state.parts[name]

    def events(self) -> list[str]:
        """Return what the supervisor has told lately."""
        state = read_state(self.data_dir)
        assert state is not None
        return [text for _, _, text in state.events]

    def log(self, part: str) -> str:
        """Return a part's log."""
        path = self.data_dir / "logs" / f"{part}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_until_all_ready(self, seconds: float = 60) -> None:
        """Wait until every part is ready again, after some were hurt."""

        def all_ready() -> bool:
            state = read_state(self.data_dir)
            assert state is not None
            return all(part.state in {"ready", "done"} for part in state.parts.values())

        wait_until(all_ready, seconds)


def wait_until(
    is_so: Callable[[], bool], seconds: float, told: Callable[[], object] = lambda: ""
) -> None:
    """Wait until something is so; fail with what is `told` if that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {seconds} s {told()}"
        time.sleep(0.02)
