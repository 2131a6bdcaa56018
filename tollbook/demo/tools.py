"""Runs `tollbook` commands as a person would, each as a process of its own."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.embedded.plan import REPOSITORY
from tollbook.demo.failure import DemoError

WIDTH = 100


def start_tollbook(arguments: Sequence[str], *, colour: bool = False) -> "subprocess.Popen[str]":
    """Start one command; its output is captured."""
    environment = os.environ | {"COLUMNS": str(WIDTH), "PYTHONPATH": str(REPOSITORY)}
    environment |= {"FORCE_COLOR": "1"} if colour else {"NO_COLOR": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tollbook.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def run_tollbook(arguments: Sequence[str], *, colour: bool = False) -> str:
    """Run one command to its end and return what it printed.

    Raises:
        DemoError: it failed; the error repeats its last words.
    """
    process = start_tollbook(arguments, colour=colour)
    out, error = process.communicate()
    if process.returncode != 0:
        words = (error or out).strip()[-600:]
        command = " ".join(arguments[:3])
        raise DemoError(f"`tollbook {command}` ended with status {process.returncode}: {words}")
    return out


def program() -> str:
    """Return how a person calls `tollbook` from here, ready to be pasted into a shell."""
    if shutil.which("tollbook"):
        return "tollbook"
    installed = Path(sys.executable).with_name("tollbook")
    if not installed.exists():
        return shlex.join([sys.executable, "-m", "tollbook.cli"])
    if installed.is_relative_to(Path.cwd()):
        installed = installed.relative_to(Path.cwd())
    return shlex.quote(str(installed))
