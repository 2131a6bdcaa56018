"""Who may import what: edges alone know technologies, and imports point up the stream."""

import ast
from collections.abc import Iterator

from tests.tidy.tree import STAGES, File, Finding

TECHNOLOGY_BY_DRIVER = {
    "bytewax": "bytewax",
    "clickhouse_connect": "clickhouse",
    "confluent_kafka": "kafka",
    "httptools": "httptools",
    "psycopg": "postgres",
    "redis": "redis",
    "stripe": "stripe",
    "uvloop": "uvloop",
}
"""Which `<technology>_<role>` modules may import a driver."""

TECHNOLOGIES = {*TECHNOLOGY_BY_DRIVER.values(), "linux"}
FOREIGN_DRIVERS = {"chdb", "duckdb", "fastapi", "httpx", "requests", "starlette", "uvicorn"}
"""Drivers that no stage needs."""

IMPURE_MODULES = {
    "os", "pathlib", "random", "secrets", "shutil", "signal", "socket", "ssl", "subprocess",
    "tempfile", "threading", "time", "urllib.request",
}  # fmt: skip
IMPURE_CALLS = {"datetime.now", "datetime.utcnow", "date.today", "uuid.uuid1", "uuid.uuid4"}
IMPURE_BUILTINS = {"open", "input", "print"}

CONTRACTS: dict[str, set[str]] = {
    "compiled": set(),
    "ingest": {"compiled.memory"},
    "pipelines": {
        *("compiled.memory", "ingest.event", "ingest.topic", "ingest.without_pandas"),
    },
    "billing": {"pipelines.usage", "pipelines.meter"},
    "sql": set(),
    "infra": {"ingest.topic"},
}
"""What a package may import of other packages of ours; those not named here wire everything."""

_OURS = {*CONTRACTS, "tollbook", "tests"}


def check_edges(file: File) -> list[Finding]:
    """In a stage, only `<technology>_<role>.py` imports that technology's driver."""
    if file.package not in STAGES or file.stem == "__main__":
        return []
    technology = technology_of(file)
    found = []
    for line, module in imported_modules(file):
        driver = module.partition(".")[0]
        owner = TECHNOLOGY_BY_DRIVER.get(driver)
        if driver in FOREIGN_DRIVERS or (owner is not None and owner != technology):
            found.append(Finding(file.path, line, f"only {owner or 'no'} edges import {driver}"))
    return found


def check_purity(file: File) -> list[Finding]:
    """In a stage, a module that is no edge reads no clock, file, socket or environment."""
    if file.package not in STAGES or file.stem == "__main__" or technology_of(file):
        return []
    found = [
        Finding(file.path, line, f"a pure module does not import {module}")
        for line, module in imported_modules(file)
        if _is_within(module, IMPURE_MODULES)
    ]
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last_two = ".".join(name.split(".")[-2:])
            if last_two in IMPURE_CALLS or name in IMPURE_BUILTINS:
                found.append(Finding(file.path, node.lineno, f"a pure module does not call {name}"))
    return found


def check_directions(file: File) -> list[Finding]:
    """Imports point up the stream, and only at contracts."""
    allowed = CONTRACTS.get(file.package)
    if allowed is None:
        return []
    return [
        Finding(file.path, line, f"{file.package} does not import {module}")
        for line, module in imported_modules(file)
        if _is_foreign(module, file.package) and not _is_within(module, allowed)
    ]


def technology_of(file: File) -> str:
    """Return the technology that an edge is named after; empty for other modules."""
    technology, _, role = file.stem.partition("_")
    return technology if technology in TECHNOLOGIES and role else ""


def imported_modules(file: File) -> Iterator[tuple[int, str]]:
    """Yield line and full name of what a file imports; `from a import b` is `a.b`."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, f"{file.package}.(relative)"
            module = node.module or ""
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def _is_foreign(module: str, package: str) -> bool:
    top = module.partition(".")[0]
    return top in _OURS and top != package


def _is_within(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)
