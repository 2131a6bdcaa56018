"""What the documents name has to exist: commands, targets, modules, files."""

import importlib.util
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import PurePosixPath

from tests.tidy.tree import PACKAGES, File, Finding

PAGE_LINES_MAX = 60
FOLDERS_WITH_README = ("ingest", "pipelines", "billing", "infra", "infra/embedded", "tollbook")

_FENCED = r"^```[^\n]*\n(.*?)^```"
_INLINE = r"`([^`\n]+)`"
_INDENTED = r"(?<=\n\n)((?: {4}[^\n]*\n+)+)"
_CODE = re.compile(f"{_FENCED}|{_INLINE}|{_INDENTED}", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"(?<![\w/.-])tollbook((?: [a-z][a-z-]*)+)([^\n|;&#]*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_TARGET = re.compile(r"(?<![\w-])make ([a-z][a-z-]*)")
_MODULE = re.compile(r"python3? (?:-P )?-m ([\w.]+)")
_LINK = re.compile(r"\]\(([^)#\s]+)\)")
_FILE = re.compile(r"^[\w.-]+\.(?:py|md|sql|lock|toml)$")

Commands = Mapping[str, Collection[str]]
"""Options by command, as `usage query`; a group of commands is there too, as `usage`."""


def check_commands(file: File, commands: Commands) -> list[Finding]:
    """Every `tollbook ...` in code is a command and has the options it is given."""
    groups = {name.partition(" ")[0] for name in commands if " " in name}
    found = []
    for line, code in _code_of(file):
        for match in _COMMAND.finditer(code):
            words = match[1].split()
            name = " ".join(words[: 2 if words[0] in groups else 1])
            at = line + code.count("\n", 0, match.start())
            if name not in commands:
                found.append(Finding(file.path, at, f"there is no command `tollbook {name}`"))
                continue
            found += [
                Finding(file.path, at, f"`tollbook {name}` has no option {option}")
                for option in _OPTION.findall(match[2])
                if option not in commands[name]
            ]
    return found


def check_targets(file: File, targets: Collection[str]) -> list[Finding]:
    """Every `make ...` in code is a target."""
    return [
        Finding(file.path, line, f"there is no target `make {match[1]}`")
        for line, code in _code_of(file)
        for match in _TARGET.finditer(code)
        if match[1] not in targets
    ]


def check_modules(file: File) -> list[Finding]:
    """Every `python -m ...` of ours in code can be run."""
    return [
        Finding(file.path, line, f"there is no module {match[1]}")
        for line, code in _code_of(file)
        for match in _MODULE.finditer(code)
        if match[1].partition(".")[0] in PACKAGES and not _is_module(match[1])
    ]


def check_paths(file: File, names: Collection[str]) -> list[Finding]:
    """Every file or folder of ours that is named in code or linked exists."""
    found = []
    for line, code in _code_of(file):
        word = code.strip()
        if " " in word or "\n" in word or not _is_path(word):
            continue
        if not _exists(word, file, names):
            found.append(Finding(file.path, line, f"{word} does not exist"))
    for match in _LINK.finditer(file.text):
        line = file.text.count("\n", 0, match.start()) + 1
        if "://" not in match[1] and not _exists(match[1], file, names):
            found.append(Finding(file.path, line, f"the link to {match[1]} leads nowhere"))
    return found


def check_readmes(files: Iterable[File]) -> list[Finding]:
    """Each package says on a page what it owns and what it does not."""
    readmes = {file.path: file for file in files}
    found = []
    for folder in FOLDERS_WITH_README:
        readme = readmes.get(f"{folder}/README.md")
        if readme is None:
            found.append(Finding(folder, 1, "the package has no README.md"))
        elif len(readme.lines) > PAGE_LINES_MAX:
            problem = f"{len(readme.lines)} lines; a page has {PAGE_LINES_MAX}"
            found.append(Finding(readme.path, 1, problem))
    return found


def _code_of(file: File) -> list[tuple[int, str]]:
    return [
        (file.text.count("\n", 0, match.start()) + 1, match[1] or match[2] or match[3] or "")
        for match in _CODE.finditer(file.text)
    ]


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _is_path(word: str) -> bool:
    if not re.fullmatch(r"[\w./*-]+", word):
        return False
    first = PurePosixPath(word).parts[0] if word.strip("/.") else ""
    return _FILE.match(word) is not None or ("/" in word and first in {*PACKAGES, "docs", "tests"})


def _exists(word: str, file: File, names: Collection[str]) -> bool:
    pattern = word.rstrip("/")
    folder = PurePosixPath(file.path).parent
    known = _known(tuple(names))
    if "/" not in word and _FILE.match(word):
        return any(path.name == word for path in known)
    wanted = (PurePosixPath(pattern), PurePosixPath(posixpath.normpath(folder / pattern)))
    if not known.isdisjoint(wanted):
        return True
    return any(path.match(str(want)) for path in known for want in wanted)


@cache
def _known(names: tuple[str, ...]) -> frozenset[PurePosixPath]:
    """Return files and the folders that they lie in."""
    paths = [PurePosixPath(name) for name in names]
    return frozenset(paths).union(*(path.parents for path in paths))
