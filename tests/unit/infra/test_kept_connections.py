"""Connections of the engine serve again only where nothing of the request before is on them."""

from typing import Any

import pytest

from infra.embedded.gateway.kept import KeptConnections
from infra.embedded.gateway.options import Options
from infra.embedded.gateway.statement import read_statement


class FakeConnection:
    def __init__(self) -> None:
        self.is_open = True
        self.database = ""
        self.settings: dict[str, str] = {}

    def use(self, database: str) -> None:
        self.database = database

    def set(self, settings: dict[str, str]) -> None:
        self.settings |= settings

    def close(self) -> None:
        assert self.is_open
        self.is_open = False


class FakeEngine:
    def __init__(self) -> None:
        self.made: list[FakeConnection] = []

    def connect(self) -> FakeConnection:
        self.made.append(FakeConnection())
        return self.made[-1]


def kept(most: int = 3) -> tuple[KeptConnections, FakeEngine]:
    engine: Any = FakeEngine()
    return KeptConnections(engine, most), engine


def options(database: str = "d", *, is_get: bool = False, **settings: str) -> Options:
    asked: dict[str, Any] = dict.fromkeys(Options.__dataclass_fields__, "")
    return Options(**asked | {"bound": {}, "settings": settings, "is_get": is_get,
        "database": database})  # fmt: skip


def serve(connections: KeptConnections, asked: Options, sql: str = "SELECT 1") -> Any:
    with connections.lend(asked, read_statement(sql.encode())) as connection:
        return connection


def test_a_connection_serves_again_who_asks_alike() -> None:
    connections, engine = kept()
    first = serve(connections, options(a="1"))
    assert (first.database, first.settings) == ("d", {"a": "1"})
    assert serve(connections, options(a="1")) is first
    others = [options(a="2"), options(), options("e", a="1"), options(a="1", is_get=True)]
    for asked in others:
        assert serve(connections, asked) is not first
    assert len(engine.made) == 1 + len(others)


def test_one_that_serves_is_lent_to_nobody_else() -> None:
    connections, _ = kept()
    statement = read_statement(b"SELECT 1")
    with (
        connections.lend(options(), statement) as one,
        connections.lend(options(), statement) as other,
    ):
        assert one is not other


@pytest.mark.parametrize("sql", ["SET a = 1", "USE e", "CREATE TEMPORARY TABLE t (a UInt8)"])
def test_one_that_was_changed_is_closed(sql: str) -> None:
    connections, _ = kept()
    assert not serve(connections, options(), sql).is_open


def test_one_whose_statement_failed_is_closed() -> None:
    connections, engine = kept()
    with pytest.raises(ValueError, match="bad"), connections.lend(
        options(), read_statement(b"SELECT 1")
    ):  # fmt: skip
        raise ValueError("bad")
    assert [each.is_open for each in engine.made] == [False]


def test_values_of_an_insert_close_the_connection_that_holds_them() -> None:
    connections, _ = kept()
    asked = options()
    asked.bound["a"] = "1"
    assert serve(connections, asked, "SELECT {a:UInt8}").is_open
    assert not serve(connections, asked, "INSERT INTO t FORMAT TSV\n1").is_open


def test_no_more_rest_than_may_and_none_at_the_end() -> None:
    connections, engine = kept(most=2)
    for number in range(4):
        serve(connections, options(a=str(number)))
    assert [each.is_open for each in engine.made] == [False, False, True, True]
    connections.close_all()
    assert not any(each.is_open for each in engine.made)
