"""The engine in this process: one data directory, opened once; a connection serves one request.

SET, USE and temporary tables stick to a connection, so a request that shares nothing gets a fresh
one, or one that is as good (`kept.py`). Every error of the engine leaves here as an EngineError.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import chdb

from infra.analysts import DATABASE, EMBEDDED_ROLE, READABLE
from infra.embedded.gateway.errors import EngineError, GatewayError

_SETTING_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_CONFIG_FILE = "gateway-config.xml"
_USERS_FILE = "gateway-users.xml"


class Engine:
    """Opens the data directory and hands out connections."""

    def __init__(self, data_dir: Path, memory_bytes_max: int) -> None:
        self._path = str(data_dir / "engine")
        config, users = data_dir / _CONFIG_FILE, data_dir / _USERS_FILE
        users.write_text(_USERS, encoding="utf-8")
        config.write_text(_config_text(data_dir, users, memory_bytes_max), encoding="utf-8")
        self._root = chdb.connect(f"{self._path}?config-file={config}")
        self.version: str = (
            self._root.query("SELECT version()", "TabSeparated").bytes().decode()[:-1]
        )

    def connect(self) -> "EngineConnection":
        """Returns a fresh connection, which its taker closes."""
        with _engine_errors():
            return EngineConnection(chdb.connect(self._path))

    def close(self) -> None:
        """Writes out what is pending and lets the data directory go."""
        self._root.close()


class EngineConnection:
    """One connection of the engine, used by one request at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def query(self, sql: bytes | str, output_format: str, params: Mapping[str, str]) -> Any:
        """Returns the whole result of a statement."""
        with _engine_errors():
            return self._connection.query(_text(sql), output_format, params=dict(params))

    def stream(self, sql: bytes, output_format: str, params: Mapping[str, str]) -> Any:
        """Returns a running query whose blocks are fetched one by one."""
        with _engine_errors():
            return self._connection.send_query(_text(sql), output_format, params=dict(params))

    def insert(self, head: bytes, input_format: str, chunks: Iterator[bytes]) -> Any:
        """Inserts what the chunks hold; stored when this returns, cancelled when it raises."""
        with _engine_errors():
            running = self._connection.send_insert(_text(head), input_format)
        try:
            for chunk in chunks:
                with _engine_errors():
                    running.append(chunk)
        except BaseException:
            running.cancel()
            raise
        with _engine_errors():
            return running.finish()

    def rows(self, sql: str) -> list[str]:
        """Returns the rows of a small result, each as JSON."""
        text: str = self.query(sql, "JSONCompactEachRow", {}).bytes().decode()
        return text.splitlines()

    def execute(self, sql: str) -> None:
        """Runs a statement of the gateway's own."""
        self.query(sql, "Null", {})

    def use(self, database: str) -> None:
        """Changes the current database."""
        self.execute(f"USE {quote_name(database)}")

    def set(self, settings: Mapping[str, str]) -> None:
        """Changes settings of the connection; an unknown one is the engine's error 115."""
        if settings:
            pairs = (f"{_checked(name)} = {quote_text(text)}" for name, text in settings.items())
            self.execute(f"SET {', '.join(pairs)}")

    def is_read_only(self, sql: bytes) -> bool:
        """True where running the statement would change nothing."""
        # The wrapper hides this method of its own connection; nothing public tells the same.
        found = self._connection._conn.classify_query(_text(sql))  # noqa: SLF001
        return str(found["query_class"].name) == "READ_ONLY"

    def close(self) -> None:
        """Ends the connection, its temporary tables and whatever still runs on it."""
        self._connection.close()


def quote_name(name: str) -> str:
    """Returns an identifier as SQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def quote_text(text: str) -> str:
    """Returns a string literal as SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fetch_all(running: Any) -> Iterator[Any]:
    """Yields the blocks of a running query, and cancels it when the taker stops early."""
    try:
        while True:
            with _engine_errors():
                block = running.fetch()
            if block is None:
                return
            yield block
    finally:
        running.close()


def _checked(name: str) -> str:
    if not _SETTING_NAME.fullmatch(name):
        raise GatewayError(115, "UNKNOWN_SETTING", f"Unknown setting {name!r}")
    return name


def _text(sql: bytes | str) -> str:
    if isinstance(sql, str):
        return sql
    try:
        return sql.decode()
    except UnicodeDecodeError as error:
        raise GatewayError(62, "SYNTAX_ERROR", f"The statement is not UTF-8: {error}") from error


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except GatewayError:
        raise
    except RuntimeError as error:
        raise EngineError(str(error)) from error


def _config_text(data_dir: Path, users: Path, memory_bytes_max: int) -> str:
    return (
        "<clickhouse>\n"
        f"  <max_server_memory_usage>{memory_bytes_max}</max_server_memory_usage>\n"
        f"  <tmp_path>{escape(str(data_dir / 'spool'))}/</tmp_path>\n"
        f"  <users_config>{escape(str(users))}</users_config>\n"
        "  <timezone>UTC</timezone>\n"
        "</clickhouse>\n"
    )


# The engine logs every connection in as `default`. All rights come with roles, so that SET ROLE
# leaves an analyst's connection nothing but reading what is readable.
_USERS = f"""<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <roles>
    <owner><grants><query>GRANT ALL ON *.*</query></grants></owner>
    <{EMBEDDED_ROLE}><grants>
      {"".join(f"<query>GRANT SELECT ON {DATABASE}.{name}</query>" for name in READABLE)}
    </grants></{EMBEDDED_ROLE}>
  </roles>
  <users>
    <default>
      <password></password>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants><query>GRANT owner, {EMBEDDED_ROLE}</query></grants>
    </default>
  </users>
</clickhouse>
"""
