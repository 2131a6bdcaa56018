"""One log per part, turned over by size, and what its last lines mean to a person."""

import re
import shutil
from pathlib import Path
from typing import IO

LOG_BYTES_MAX = 10 * 1024 * 1024
_KEPT = 3
_TAIL_BYTES = 16 * 1024

_MEANINGS = (
    (
        re.compile(r"no space left on device|ENOSPC|disk quota exceeded", re.IGNORECASE),
        "the disk is full",
        "Free some space where {data_dir} lies, or choose another folder with --data-dir.",
    ),
    (
        re.compile(r"address already in use|BindException|could not bind", re.IGNORECASE),
        "its port is taken",
        "Run `tollbook up` again: it looks for a free one; or choose with --port NAME=NUMBER.",
    ),
    (
        re.compile(r"cannot allocate memory|insufficient memory|OutOfMemory", re.IGNORECASE),
        "there is not enough memory",
        "The stack needs about 2 GB: end other programs, or use a larger machine.",
    ),
)


def log_path(data_dir: Path, part: str) -> Path:
    """Return where a part's log lies."""
    return data_dir / "logs" / f"{part}.log"


def open_log(path: Path) -> IO[bytes]:
    """Open a log to append to. Appending is what lets it be cut while a process writes to it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.open("ab")


def rotate(path: Path, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Turn a log over if it is large: `x.log` to `x.log.1` and so on, three kept.

    The process keeps its open file, so the log is copied, then cut. What is written between the
    two is lost: the price of a child that needs no reader and outlives us if it has to.
    """
    if not path.exists() or path.stat().st_size <= bytes_max:
        return False
    for number in range(_KEPT - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    with path.open("r+b") as file:
        file.truncate(0)
    return True


def tail(path: Path, start: int = 0) -> str:
    """Return the end of a log, from byte `start` on at most."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(start if start <= size else 0, size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def explain(text: str, log: Path, data_dir: Path) -> tuple[str, str]:
    """Return what is wrong and what to do, as far as a log's last lines tell."""
    for pattern, problem, remedy in _MEANINGS:
        if pattern.search(text):
            return problem, remedy.format(data_dir=data_dir)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    problem = f"its last words were: {lines[-1][:300]}" if lines else "it said nothing"
    return problem, f"Its log may tell more: {log}"


def is_hopeless(text: str) -> bool:
    """Tell whether trying again cannot help."""
    return any(pattern.search(text) for pattern, _, _ in _MEANINGS)
