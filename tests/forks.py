"""Processes forked from one that has the imports of Tollbook behind it: they begin at once.

A process of its own is what many tests are about, or what keeps a command from leaving traces; the
second or two of imports that each would begin with are not.
"""

import os
import sys
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest import mock

REPOSITORY = Path(__file__).parents[1]
_IMPORTED = [
    "tests.e2e.billing_world",
    *(f"tollbook.{path.stem}" for path in sorted((REPOSITORY / "tollbook").glob("[a-z]*.py"))),
]
"""What commands import only when they are run, too."""


def forking() -> ForkServerContext:
    """Return what starts such processes; the one that they are forked from runs from here on."""
    context = get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    # What it imports it finds by its environment alone: it is not told the path of this process.
    with mock.patch.dict(os.environ, PYTHONPATH=str(REPOSITORY)):
        forkserver.ensure_running()
    return context


def assert_imported() -> None:
    """Called in such a process: see that the imports were there before it began."""
    lacks = [name for name in _IMPORTED if name not in sys.modules]
    assert not lacks, f"not imported before the fork: {lacks}"
