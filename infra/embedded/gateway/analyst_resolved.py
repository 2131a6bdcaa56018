"""Checks a query of an analyst as the engine has resolved it: EXPLAIN QUERY TREE, line by line.

Aliases, parameters and column transformers are names no longer here, but the tables and functions
they stand for. Text in a query can add lines to this output, never take one away.
"""

import re
from collections.abc import Iterable

from infra.analysts import DATABASE, READABLE
from infra.embedded.gateway.analyst_functions import TABLE_FUNCTIONS, Functions
from infra.embedded.gateway.analyst_syntax import refused

_COLUMNS_BY_SYSTEM_TABLE = {
    "tables": {"database", "name", "uuid", "engine", "comment", "primary_key", "sorting_key",
               "partition_key", "is_temporary", "create_table_query", "as_select"},
    "columns": {"database", "table", "name", "type", "position", "default_kind", "comment",
                "default_expression", "is_in_partition_key", "is_in_sorting_key",
                "is_in_primary_key"},
    "databases": {"name", "engine", "comment"},
}  # fmt: skip
"""What of the engine's own tables tells of names only; their sizes are those of all tenants."""

_WHOLE = {"system.functions", "system.settings", "system.one", "system.formats"}
_READABLE = {f"{DATABASE}.{name}" for name in READABLE} | _WHOLE
_READABLE |= {f"system.{name}" for name in _COLUMNS_BY_SYSTEM_TABLE}

_NODE = re.compile(r"\s*(TABLE|TABLE_FUNCTION|FUNCTION|COLUMN) id: (\d+)(.*)")
_TABLE_NAME = re.compile(r", table_name: ([^,\s]+)")
_FUNCTION_NAME = re.compile(r", (?:table_)?function_name: ([^,\s]+)")
_COLUMN = re.compile(r", column_name: ([^,\s]+).*, source_id: (\d+)\b")


def check_resolved(lines: Iterable[str], functions: Functions) -> None:
    """Pass where a query tree holds nothing but allowed tables, columns and functions.

    Raises:
        GatewayError: it holds something else (497).
    """
    table_by_id: dict[str, str] = {}
    columns: list[tuple[str, str]] = []
    for found in filter(None, map(_NODE.match, lines)):
        kind, node_id, rest = found.groups()
        if kind == "TABLE":
            table_by_id[node_id] = _check_table(rest)
        elif kind == "COLUMN":
            columns += [(source, name) for name, source in _COLUMN.findall(rest)]
        else:
            _check_function(rest, functions, is_table=kind == "TABLE_FUNCTION")
    for source, name in columns:
        table = table_by_id.get(source, "").removeprefix("system.")
        # What the engine adds to a table's own columns counts the rows of all tenants.
        if table and name.startswith("_"):
            raise refused(f"the column {name}")
        allowed = _COLUMNS_BY_SYSTEM_TABLE.get(table)
        if allowed is not None and name not in allowed:
            raise refused(f"the column {name} of system.{table}")


def _check_table(rest: str) -> str:
    names = _TABLE_NAME.findall(rest) or ["without a name"]
    for name in names:
        if name not in _READABLE:
            raise refused(f"the table {name}")
    return str(names[-1])


def _check_function(rest: str, functions: Functions, *, is_table: bool) -> None:
    for name in _FUNCTION_NAME.findall(rest) or ["without a name"]:
        known = name in TABLE_FUNCTIONS if is_table else functions.may_resolve(name)
        if not known:
            raise refused(f"the {'table ' if is_table else ''}function {name}")
