"""Sizes, names, docstrings, and words that have no place in the tree."""

import ast
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from tests.tidy.layering import TECHNOLOGIES, TECHNOLOGY_BY_DRIVER
from tests.tidy.tree import PACKAGES, File, Finding

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
COLUMNS_MAX = 100

EMPTY_NAMES = {
    "base", "common", "helper", "helpers", "manager", "misc", "models", "service", "util", "utils",
}  # fmt: skip
"""Names that say nothing of what is in a module."""

# Written in halves, so that this file does not break its own rules.
_NOTES = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "HA" + "CK")) + r")\b")
_PRAGMA = re.compile(r"\s+# (?:noqa|type: ignore|fmt:).*$")
_PLACES = re.compile(
    "|".join(
        (
            "py" + r"pi\.org",
            "python" + r"hosted\.org",
            "repo1?" + r"\.maven",
            "maven" + r"\.org",
            "crates" + r"\.io",
            "npm" + r"js\.(?:org|com)",
            r"(?<![\w.])/" + "(?:root|work|home)/",
        )
    )
)


def check_sizes(file: File) -> list[Finding]:
    """Functions, files and lines stay readable."""
    found = []
    if len(file.lines) > FILE_LINES_MAX:
        found.append(Finding(file.path, 1, f"{len(file.lines)} lines, {FILE_LINES_MAX} at most"))
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                problem = f"{node.name} has {length} lines, {FUNCTION_LINES_MAX} at most"
                found.append(Finding(file.path, node.lineno, problem))
    for number, line in enumerate(file.lines, 1):
        # A word to a checker at the end does not count; it cannot be put elsewhere.
        if len(line) > COLUMNS_MAX and len(_PRAGMA.sub("", line)) > COLUMNS_MAX:
            found.append(Finding(file.path, number, f"{len(line)} columns, {COLUMNS_MAX} at most"))
    return found


def check_names(file: File) -> list[Finding]:
    """A module is named after what it holds, and never like a driver."""
    names = {PurePosixPath(part).stem for part in file.parts}
    found = [
        Finding(file.path, 1, f"a module named {name} says nothing of what it holds")
        for name in sorted(names & EMPTY_NAMES)
    ]
    if file.package in PACKAGES and file.stem in {*TECHNOLOGIES, *TECHNOLOGY_BY_DRIVER}:
        found.append(Finding(file.path, 1, f"{file.stem}.py is taken for the driver: add its role"))
    return found


def check_docstrings(file: File) -> list[Finding]:
    """A module opens by saying what it is for."""
    if file.package not in PACKAGES or ast.get_docstring(file.tree):
        return []
    return [Finding(file.path, 1, "the module has no docstring")]


def check_packages(names: Iterable[str]) -> list[Finding]:
    """Every folder with modules is a package, in tests too."""
    paths = [PurePosixPath(name) for name in names if name.endswith(".py")]
    packages = {path.parent for path in paths if path.name == "__init__.py"}
    folders = {path.parent for path in paths if path.parent != PurePosixPath()}
    return [
        Finding(str(folder), 1, "the folder has no __init__.py")
        for folder in sorted(folders - packages)
    ]


def check_words(file: File) -> list[Finding]:
    """No notes on unfinished work, no hosts of registries, no paths of one machine."""
    found = []
    for number, line in enumerate(file.lines, 1):
        if note := _NOTES.search(line):
            problem = f"{note[0]}: finish it, or say it in an issue"
            found.append(Finding(file.path, number, problem))
        if place := _PLACES.search(line):
            problem = f"{place[0]} is a place of one machine or registry"
            found.append(Finding(file.path, number, problem))
    return found
