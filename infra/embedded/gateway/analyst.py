"""Runs nothing for an analyst that could show another tenant's rows, or change anything.

Four walls, each of which holds alone against most attempts: a role of the engine that may read the
named tables and nothing else; a filter on every table with a tenant's rows; a check of what is
written; a check of what the engine made of it. Then `readonly`, so that no query loosens a setting.
"""

import re
from dataclasses import dataclass

from infra.analysts import (
    BOUNDS,
    DATABASE,
    EMBEDDED_ROLE,
    READABLE,
    TENANT_TABLES,
    tenant_condition,
)
from infra.embedded.gateway.analyst_functions import COMBINATOR_LIST, ENGINE_LIST, Functions
from infra.embedded.gateway.analyst_resolved import check_resolved
from infra.embedded.gateway.analyst_syntax import check_syntax, refused
from infra.embedded.gateway.chdb_engine import (
    Engine,
    EngineConnection,
    quote_name,
    quote_text,
)
from infra.embedded.gateway.errors import EngineError, GatewayError
from infra.embedded.gateway.options import Options
from infra.embedded.gateway.statement import Statement

STATEMENT_BYTES_MAX = 128 * 1024

# A condition of the query must never be computed for a row that the filter removes, or an error
# could tell what is in it. So conditions are neither moved below the filter nor joined with it, and
# what a condition was found to be for some rows is not kept for other queries.
FILTER_FIRST = {
    "optimize_move_to_prewhere": "0",
    "optimize_move_to_prewhere_if_final": "0",
    "query_plan_merge_filters": "0",
    "use_query_condition_cache": "0",
    "use_query_cache": "0",
}

_PYTHON = re.compile(r"\bpython\s*\(", re.IGNORECASE)
_NAME = rf"(?:`?{DATABASE}`?\s*\.\s*)?[`\"]?(?P<name>\w+)[`\"]?"
_END = r"\s*(?:\bFORMAT\s+\w+\s*)?;?\s*"
_DESCRIPTIONS = tuple(
    re.compile(text + _END, re.IGNORECASE | re.ASCII)
    for text in (
        rf"\s*DESC(?:RIBE)?\s+(?:TABLE\s+)?{_NAME}",
        rf"\s*SHOW\s+CREATE\s+(?:TABLE\s+|VIEW\s+)?{_NAME}",
        rf"\s*SHOW\s+(?:FULL\s+)?COLUMNS\s+FROM\s+{_NAME}",
        rf"\s*SHOW\s+TABLES(?:\s+FROM\s+`?{DATABASE}`?)?(?:\s+LIKE\s+'[\w%]*')?",
        r"\s*SHOW\s+DATABASES",
    )
)


@dataclass(slots=True)
class Analysts:
    """Makes connections safe for analysts, and says what may run on them."""

    functions: Functions
    seconds_max: int
    """How long one query may take."""

    def prepare(self, connection: EngineConnection, tenant: str, options: Options) -> None:
        """Limits a fresh connection to a tenant's rows, for good.

        Raises:
            GatewayError: The request asks for another database, or for settings of its own.
        """
        if options.database not in ("", "default", DATABASE):
            raise refused(f"the database {options.database}")
        for name in options.settings:
            message = f"Cannot modify '{name}' setting in readonly mode"
            raise GatewayError(164, "READONLY", message)
        connection.use(DATABASE)
        connection.set(BOUNDS | {"max_execution_time": str(self.seconds_max)} | FILTER_FIRST)
        connection.set({"additional_table_filters": _filters(tenant)})
        connection.execute(f"SET ROLE {quote_name(EMBEDDED_ROLE)}")
        connection.set({"readonly": "1"})

    def check(self, connection: EngineConnection, statement: Statement, options: Options) -> None:
        """Passes where a statement may run on a prepared connection.

        Raises:
            GatewayError: It may not; nothing of it has been run where its text already says so.
        """
        text = _text_of(statement)
        if statement.kind in ("DESCRIBE", "DESC", "SHOW"):
            _check_description(text)
            return
        if statement.kind not in ("SELECT", "WITH", "FROM", "EXPLAIN"):
            message = "Analysts only read: SELECT, WITH, EXPLAIN, DESCRIBE and SHOW"
            raise GatewayError(164, "READONLY", message)
        query_json = check_syntax(_convert(connection, "parseQueryToJSON", text), self.functions)
        query = _convert(connection, "formatQueryFromJSON", query_json)
        tree = connection.query(f"EXPLAIN QUERY TREE {query}", "TSVRaw", options.bound)
        check_resolved(tree.bytes().decode().splitlines(), self.functions)


def open_analysts(engine: Engine, seconds_max: int) -> Analysts:
    """Returns what an engine of this version needs."""
    connection = engine.connect()
    try:
        functions = Functions(connection.rows(ENGINE_LIST), connection.rows(COMBINATOR_LIST))
        return Analysts(functions, seconds_max)
    finally:
        connection.close()


def _convert(connection: EngineConnection, function: str, text: str) -> str:
    """Returns what one of the engine's functions makes of a statement."""
    try:
        found = connection.query(f"SELECT {function}({quote_text(text)})", "TSVRaw", {})
    except EngineError as error:
        # What is behind tells of this function, and repeats the statement.
        error.text = error.text.partition(f": In scope SELECT {function}(")[0]
        raise
    return str(found.bytes().decode())


def _text_of(statement: Statement) -> str:
    """Returns a statement's text, where it is one that can be read without doubt."""
    if len(statement.head) > STATEMENT_BYTES_MAX:
        message = f"The statement is larger than {STATEMENT_BYTES_MAX} bytes"
        raise GatewayError(229, "QUERY_IS_TOO_LARGE", message)
    try:
        text = statement.head.decode()
    except UnicodeDecodeError as error:
        raise GatewayError(62, "SYNTAX_ERROR", f"The statement is not UTF-8: {error}") from error
    if "\0" in text:
        raise GatewayError(62, "SYNTAX_ERROR", "The statement holds a NUL")
    # On this word the engine's wrapper looks for objects of this process before it parses.
    if _PYTHON.search(text):
        raise refused("the table function python")
    return text


def _check_description(text: str) -> None:
    for pattern in _DESCRIPTIONS:
        found: re.Match[str] | None = pattern.fullmatch(text)
        if found is not None:
            name = found.groupdict().get("name")
            if name is not None and name not in READABLE:
                raise refused(f"the table {name}")
            return
    raise refused("this; DESCRIBE and SHOW take one of their tables, or TABLES or DATABASES")


def _filters(tenant: str) -> str:
    """Returns the conditions on all tables as the text of a Map."""
    rows = tenant_condition(tenant)
    names = ", ".join(map(quote_text, READABLE))
    conditions = {f"{DATABASE}.{name}": rows for name in TENANT_TABLES} | {
        "system.tables": f"database = '{DATABASE}' AND name IN ({names})",
        "system.columns": f"database = '{DATABASE}' AND table IN ({names})",
        "system.databases": f"name = '{DATABASE}'",
    }
    pairs = (f"{quote_text(name)}: {quote_text(text)}" for name, text in conditions.items())
    return "{" + ", ".join(pairs) + "}"
