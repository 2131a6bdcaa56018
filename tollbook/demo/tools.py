"""Runs `tollbook` commands as a person would, each as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence

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
