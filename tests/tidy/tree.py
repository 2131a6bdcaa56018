"""The files of the tree, as the rules read them, and what a rule reports."""

import ast
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("ingest", "pipelines", "billing")
PACKAGES = (*STAGES, "compiled", "infra", "tollbook", "sql")


@dataclass(frozen=True)
class File:
    """A file by its path from the root, with `/` between the names, and its text."""

    path: str
    text: str

    @property
    def parts(self) -> tuple[str, ...]:
        return PurePosixPath(self.path).parts

    @property
    def package(self) -> str:
        """The first folder; empty for files at the root."""
        return self.parts[0] if len(self.parts) > 1 else ""

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)


@dataclass(frozen=True, order=True)
class Finding:
    """Where a rule is broken, and how."""

    path: str
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.problem}"


def file_names() -> list[str]:
    """Return all files that are in git or could be added to it."""
    listed = subprocess.run(
        ["/usr/bin/env", "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def read_files(*endings: str) -> list[File]:
    """Return the text files with one of the endings; all, if none is given."""
    names = [name for name in file_names() if not endings or name.endswith(endings)]
    return [file for file in map(_read, names) if file is not None]


@cache
def _read(name: str) -> File | None:
    """Return a file, read and parsed once for all rules; None where it is not text."""
    try:
        return File(name, (ROOT / name).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return None
