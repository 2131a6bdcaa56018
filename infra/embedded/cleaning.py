"""Finds what a killed stack has left running, and ends it; never a process of anyone else."""

from pathlib import Path

from infra.embedded.board import read_state
from infra.embedded.process import ProcessKey, end, marked_processes

STACK_VARIABLE = "TOLLBOOK_STACK"
"""In the environment of every process of a stack, and of all that they start: its folder."""

_PATIENCE_SECONDS = 10.0


def mark_of(data_dir: Path) -> str:
    """Return the mark that processes of a stack carry in their environment."""
    return f"{STACK_VARIABLE}={data_dir}"


def leftovers(data_dir: Path) -> list[ProcessKey]:
    """Return the processes of a stack: those that carry its mark, and those on record.

    A recorded pid counts only with its start time, so a recycled one is somebody else's.
    """
    found = set(marked_processes(mark_of(data_dir)))
    state = read_state(data_dir)
    if state is not None:
        found |= {part.key for part in state.parts.values() if part.key.is_running()}
    return list(found)


def count_of(processes: int) -> str:
    """Return a number of processes in words."""
    return "1 process" if processes == 1 else f"{processes} processes"


def clean_up(data_dir: Path) -> int:
    """End what is left of a killed stack; return how many processes that were."""
    left = leftovers(data_dir)
    end(left, _PATIENCE_SECONDS)
    return len(left)
