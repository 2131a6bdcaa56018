"""Checks what an analyst wrote, as the engine's parser reads it, before anything is resolved.

Resolving already runs parts of a query: constant calls, scalar subqueries, the look for a file's
columns. So a query whose text names anything that is not allowed goes no further than this. Every
kind of node, function, table function and table has to be known; what is new in an engine is
refused until somebody allows it.
"""

import json
from collections.abc import Iterator
from typing import Any

from infra.analysts import DATABASE, READABLE
from infra.embedded.gateway.analyst_functions import TABLE_FUNCTIONS, Functions
from infra.embedded.gateway.errors import GatewayError

SYSTEM_TABLES = ("tables", "columns", "databases", "functions", "settings", "one", "formats")

_NODES = frozenset(
    {
        *("SelectWithUnionQuery", "SelectIntersectExceptQuery", "SelectQuery", "ExpressionList"),
        *("Function", "Identifier", "TableIdentifier", "Literal", "QueryParameter", "Subquery"),
        *("Asterisk", "QualifiedAsterisk", "ColumnsRegexpMatcher", "ColumnsListMatcher"),
        *("QualifiedColumnsRegexpMatcher", "QualifiedColumnsListMatcher"),
        *("ColumnsTransformerList", "ColumnsExceptTransformer", "ColumnsReplaceTransformer"),
        *("ColumnsReplaceTransformer::Replacement", "ColumnsApplyTransformer"),
        *("TablesInSelectQuery", "TablesInSelectQueryElement", "TableExpression", "TableJoin"),
        *("ArrayJoin", "WithElement", "OrderByElement", "InterpolateElement"),
        *("WindowListElement", "WindowDefinition", "ExplainQuery"),
    }
)
_EXPLAINS = frozenset(
    {
        *("EXPLAIN", "EXPLAIN AST", "EXPLAIN SYNTAX", "EXPLAIN QUERY TREE"),
        *("EXPLAIN PIPELINE", "EXPLAIN ESTIMATE"),
    }
)
_CLOSED_DATABASES = frozenset({"system", "information_schema", "default"})
_REFUSED_CLAUSES = {
    "prewhere": "PREWHERE; use WHERE, which is as fast here",
    "settings": "SETTINGS",
    "settings_ast": "SETTINGS",
    "out_file": "INTO OUTFILE",
    "sample_size": "SAMPLE",
    "recursive_with": "WITH RECURSIVE",
}

Node = dict[str, Any]


def refused(what: str) -> GatewayError:
    """Return the refusal of something that an analyst may not use."""
    return GatewayError(497, "ACCESS_DENIED", f"Analysts may not use {what}")


def check_syntax(tree_json: str, functions: Functions) -> str:
    """Return the query of a statement, which may be in an EXPLAIN; both as the JSON of a tree.

    Raises:
        GatewayError: it names something that is not allowed (497), or nests too deeply (306).
    """
    try:
        root: Node = json.loads(tree_json)
        query = _query_of(root)
        names = {str(node["name"]) for node in _nodes(query) if node["type"] == "WithElement"}
        for node in _nodes(query):
            _check_node(node, functions, names)
        return json.dumps(query)
    except RecursionError as error:
        message = "The query is nested too deeply"
        raise GatewayError(306, "TOO_DEEP_RECURSION", message, status=400) from error


def _query_of(root: Node) -> Node:
    query = root
    if root.get("type") == "ExplainQuery":
        if root.get("kind") not in _EXPLAINS or "query" not in root:
            raise refused(str(root.get("kind")))
        query = root["query"]
    if query.get("type") != "SelectWithUnionQuery":
        raise refused(str(query.get("type")))
    return {name: value for name, value in query.items() if name != "format_ast"}


def _nodes(root: Node) -> Iterator[Node]:
    """Yield every node of a tree; a value without a type is no node."""
    waiting: list[Any] = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "type" in value:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _check_node(node: Node, functions: Functions, names: set[str]) -> None:
    kind = node["type"]
    if kind not in _NODES:
        raise refused(str(kind))
    for clause, told in _REFUSED_CLAUSES.items():
        if clause in node:
            raise refused(told)
    if kind in ("Function", "ColumnsApplyTransformer"):
        _check_function(str(node.get("name") or node.get("func_name", "")), functions)
    elif kind == "TableExpression":
        _check_source(node, names)
    elif kind == "QueryParameter" and node.get("param_type") == "Identifier":
        raise refused("parameters in the place of names")
    elif kind == "Identifier" and _is_of_closed_database(node):
        raise refused(str(node["name"]))


def _check_function(name: str, functions: Functions) -> None:
    """Check a call; where a table function may stand is looked at with the table, or fails later.

    A transformer that applies a lambda has no name; the lambda's body is looked at by itself.
    """
    if name and name not in TABLE_FUNCTIONS and not functions.may_call(name):
        raise refused(f"the function {name}")


def _check_source(node: Node, names: set[str]) -> None:
    function = node.get("table_function")
    if function is not None and function["name"] not in TABLE_FUNCTIONS:
        raise refused(f"the table function {function['name']}")
    table = node.get("database_and_table_name")
    if table is None:
        return
    parts = table.get("name_parts") or [table["name"]]
    if not _may_read(parts) and not (len(parts) == 1 and parts[0] in names):
        raise refused(f"the table {'.'.join(parts)}")


def _may_read(parts: list[str]) -> bool:
    if len(parts) == 2 and parts[0] == "system":
        return parts[1] in SYSTEM_TABLES
    return parts[-1] in READABLE and parts[:-1] in ([], [DATABASE])


def _is_of_closed_database(node: Node) -> bool:
    """Tell of a name such as `system.parts` where a column is expected: IN takes tables there."""
    first = (node.get("name_parts") or [node.get("name", "")])[0]
    return str(first).partition(".")[0].lower() in _CLOSED_DATABASES and "." in str(node["name"])
