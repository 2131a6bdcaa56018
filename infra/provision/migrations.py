"""The numbered SQL files, and the rule that one which was applied never changes."""

import hashlib
import importlib.resources
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable

_INCLUDED = re.compile(
    r"^-- include (?P<path>\S+) with (?P<name>\w+) = (?P<text>.+)\n", re.MULTILINE
)
"""Where a statement takes a text that it has in common with others, but for one word."""


class MigrationError(Exception):
    """The database and the files tell different histories."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self) -> list[str]:
        """Return the statements; each ends with a semicolon at the end of a line."""
        parts = (self.text.rstrip() + "\n").split(";\n")
        return [part.strip() for part in parts if _has_code(part)]


def read_migrations(database: str) -> list[Migration]:
    """Return the migrations in `sql/<database>`, in their order, with what they include."""
    folder = importlib.resources.files("sql") / database
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    found = [Migration(entry.name, _text(folder, entry.name)) for entry in files]
    return sorted(found, key=lambda migration: migration.name)


def pending(migrations: Iterable[Migration], applied: Mapping[str, str]) -> list[Migration]:
    """Return the migrations to apply, given the checksum of each one applied, by name.

    Raises:
        MigrationError: an applied file has changed, or one is to be slipped in before the last.
    """
    last = max(applied, default="")
    todo = []
    for migration in migrations:
        checksum = applied.get(migration.name)
        if checksum is None:
            if migration.name < last:
                raise MigrationError(
                    f"{migration.name} has a number below {last}, which is applied: number it anew"
                )
            todo.append(migration)
        elif checksum != migration.checksum:
            raise MigrationError(
                f"{migration.name} has changed since it was applied: undo the change and put it "
                "into a new file, or start anew with another data folder"
            )
    return todo


def _text(folder: Traversable, path: str) -> str:
    def included(found: re.Match[str]) -> str:
        return _text(folder, found["path"]).replace(found["name"], found["text"])

    return _INCLUDED.sub(included, folder.joinpath(path).read_text(encoding="utf-8"))


def _has_code(text: str) -> bool:
    lines = (line.strip() for line in text.splitlines())
    return any(line and not line.startswith("--") for line in lines)
