"""A hostile analyst of one tenant gets nothing of another, changes nothing, and breaks nothing."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from infra.analysts import READABLE, TENANT_TABLES, VIEWS
from tests.analysts import CUT_SHORT, Login, fill_tables, make_analyst, make_tenant
from tests.embedded_stack import EmbeddedStack
from tollbook.stack_file import Stack

MINE, RIVAL = "outbreak-mine", "outbreak-rival"
HIDDEN = "zk7hidden"
"""In every text of the rival's rows: wherever an answer holds it, something leaked."""
ROWS = 40

OUTSIDE = Path("/tmp/outbreak")  # noqa: S108 - where attempts try to write

CLOSED = "usage_identities"


@dataclass(frozen=True)
class World:
    stack: Stack
    analyst: Login
    owner: Any


@pytest.fixture(scope="module")
def world(stack: EmbeddedStack) -> Iterator[World]:
    known = stack.read()
    for tenant in (MINE, RIVAL):
        make_tenant(known, tenant)
    make_analyst(known, RIVAL, "tb_of_the_rival")
    owner = clickhouse_connect.get_client(dsn=known.clickhouse_url)
    fill_tables(owner, {MINE: "mine", RIVAL: HIDDEN}, ROWS)
    yield World(known, make_analyst(known, MINE, "tb_outbreak"), owner)
    owner.close()


def all_there_is(owner: Any) -> list[tuple[Any, ...]]:
    """Return how many rows of both tenants each table has, and which tables there are."""
    # Others may be at work beside, such as the daily audit.
    parts = [
        f"SELECT '{name}', toString(count()) FROM {name} WHERE tenant IN ('{MINE}', '{RIVAL}')"
        for name in TENANT_TABLES
    ]
    parts.append(
        "SELECT database, name FROM system.tables"
        " WHERE lower(database) NOT IN ('system', 'information_schema')"
    )
    query = f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY ALL"
    rows: list[tuple[Any, ...]] = owner.query(query).result_rows
    return rows


@pytest.fixture(scope="module")
def at_first(world: World) -> list[tuple[Any, ...]]:
    return all_there_is(world.owner)


@pytest.fixture(autouse=True)
def nothing_is_changed_or_broken(world: World, at_first: list[tuple[Any, ...]]) -> Iterator[None]:
    yield
    assert all_there_is(world.owner) == at_first
    assert world.analyst.ask("SELECT count() FROM usage_dead_letters") == (200, f"{ROWS}\n")


TABLE_FUNCTIONS = [
    "merge('tollbook', 'usage')", "mergeTreeIndex('tollbook', 'usage_events')",
    "mergeTreeProjection('tollbook', 'usage_events', 'p')", "loop('tollbook', 'usage_events')",
    "file('/etc/passwd', 'LineAsString')", "url('http://127.0.0.1:1/', 'CSV')",
    "remote('127.0.0.1', tollbook.usage_events)", "s3('http://127.0.0.1:1/b/k', 'CSV')",
    "cluster('default', tollbook.usage_events)", "input('x String')", "null('x String')",
    "view(SELECT * FROM usage_events)", "viewExplain('EXPLAIN', '', (SELECT 1))",
    "executable('x', 'TSV', 'x String')", "dictionary('d')", "eval('SELECT 1')", "python('x')",
    "Python(self)", "generateRandom('x UInt8')", "sqlite('x', 'y')", "fuzzQuery('SELECT 1')",
    "format(TSV, 'x String', 'a')", "mysql('127.0.0.1:1', 'd', 't', 'u', 'p')",
]  # fmt: skip

SELECTS = [
    # Functions that read elsewhere, and ways to name them.
    "file('/etc/passwd')", "dictGet('d', 'a', 1)", "joinGet('t', 'a', 1)", "sleep(3)",
    "getSetting('additional_table_filters')", "getServerPort('tcp_port')", "hostName()",
    f"hasColumnInTable('tollbook', '{CLOSED}', 'identity')", "sleepEachRow(3)",
    "arrayMap(file, ['/etc/passwd'])", "arrayMap(x -> file(x), ['/etc/passwd'])",
    "* APPLY(file) FROM (SELECT '/etc/passwd')", "FILE('/etc/passwd')", "`file`('/etc/passwd')",
    "throwIf(1)", "formatQuery('SELECT 1')", "currentQueryID()", "addressToSymbol(1)",
    "aiGenerate('x')", "catboostEvaluate('x', 1)", "getClientHTTPHeader('authorization')",
    # Tables that are closed, under every name.
    f"* FROM {CLOSED}", f"* FROM tollbook.{CLOSED}", f"* FROM `tollbook`.`{CLOSED}`",
    f'* FROM "tollbook"."{CLOSED}"', f"* FROM `tollbook.{CLOSED}`", f"* FROM/**/{CLOSED}",
    f"* FROM -- x\n{CLOSED}", f"(SELECT any(hex(identity)) FROM {CLOSED})",
    f"1 WHERE '{'x' * 16}' IN {CLOSED}", f"1 WHERE (1, 0, 0, 0, 0, '') IN tollbook.{CLOSED}",
    f"(SELECT count() FROM numbers(3) WHERE toString(number) IN {CLOSED})",
    f"1 WHERE EXISTS (SELECT 1 FROM {CLOSED})", f"1 UNION ALL SELECT count() FROM {CLOSED}",
    f"1 FROM usage_events AS e JOIN {CLOSED} AS i ON e.identity = i.identity",
    f"* FROM (WITH {CLOSED} AS (SELECT 1) SELECT * FROM {CLOSED}) AS a, (SELECT 1 FROM {CLOSED})",
    f"1 FROM usage_events WHERE identity GLOBAL IN (SELECT identity FROM {CLOSED})",
    "* FROM schema_migrations", "* FROM self", "* FROM password", "1 IN system.processes",
    "* FROM (EXPLAIN SELECT 1)", f"* FROM (SELECT * FROM (SELECT * FROM {CLOSED}))",
    # The engine's own tables tell of all tenants.
    *(f"* FROM system.{name}" for name in ("processes", "query_log", "parts", "users", "columns",
      "tables", "mutations", "part_log", "text_log", "replicas", "settings_changes", "grants")),
    "* FROM information_schema.tables", "* FROM INFORMATION_SCHEMA.COLUMNS",
    "total_rows FROM system.tables", "COLUMNS('^total') FROM system.tables",
    "t.total_bytes AS name FROM system.tables AS t", "data_compressed_bytes FROM system.columns",
    "max(total_rows) FROM (SELECT * FROM system.tables)",
    # So do columns that tables have beside their own.
    "max(_part_offset) FROM usage_events", "_part, count() FROM usage_windows GROUP BY ALL",
    "e._part_offset AS id FROM usage_events AS e", "COLUMNS('_block') FROM usage_events",
    # Settings, and clauses that would come before the filter or leave the answer.
    "count() FROM usage_events SETTINGS additional_table_filters = {}",
    "count() FROM (SELECT * FROM usage_events SETTINGS additional_table_filters = {})",
    "count() FROM usage_events SETTINGS readonly = 0", "1 SETTINGS max_execution_time = 0",
    "1 FROM usage_events PREWHERE id = 'x'", "1 FROM usage_events SAMPLE 1 / 2",
    f"1 INTO OUTFILE '{OUTSIDE}'", "1; SELECT 2", "1; DROP TABLE usage_events",
    "1 PARALLEL WITH SELECT 2", "1 FORMAT Template", "1 FORMAT DataFrame", "1 FORMAT CapnProto",
]  # fmt: skip

STATEMENTS = [
    "SET readonly = 0", "SET additional_table_filters = {}", "USE system", "SET ROLE owner",
    "SET ROLE ALL", "SYSTEM SHUTDOWN", "KILL QUERY WHERE 1", "DROP TABLE usage_events",
    "CREATE TEMPORARY TABLE x AS SELECT 1", "CREATE TABLE x (a UInt8) ENGINE = Memory",
    f"CREATE VIEW x AS SELECT * FROM {CLOSED}", "CREATE FUNCTION f AS x -> x", "CREATE USER u",
    "INSERT INTO usage_events SELECT * FROM usage_events", "TRUNCATE TABLE usage_events",
    "INSERT INTO usage_events (tenant) VALUES ('x')", "OPTIMIZE TABLE usage_events FINAL",
    f"INSERT INTO FUNCTION file('{OUTSIDE}') SELECT 1", "GRANT ALL ON *.* TO default",
    "ALTER TABLE usage_events DELETE WHERE 1", "BACKUP TABLE usage_events TO Disk('d', 'b')",
    "ATTACH TABLE x", "DETACH TABLE usage_events", "RENAME TABLE usage_events TO x",
    "EXECUTE AS default SELECT 1", "BEGIN TRANSACTION", "CHECK TABLE usage_events", "VALUES (1)",
    f"EXISTS TABLE {CLOSED}", f"EXPLAIN QUERY TREE SELECT (SELECT any(identity) FROM {CLOSED})",
    f"EXPLAIN SYNTAX SELECT * FROM {CLOSED}", f"EXPLAIN AST SELECT * FROM {CLOSED}",
    "EXPLAIN TABLE OVERRIDE mysql('h', 'd', 't', 'u', 'p') ORDER BY 1", "EXPLAIN SELECT file('x')",
    "EXPLAIN CURRENT TRANSACTION", "EXPLAIN AST DROP TABLE usage_events", "SHOW PROCESSLIST",
    "DESCRIBE file('/etc/passwd')", f"DESCRIBE (SELECT * FROM {CLOSED})", f"DESCRIBE {CLOSED}",
    "DESCRIBE usage_events SETTINGS readonly = 0", f"SHOW CREATE TABLE {CLOSED}", "SHOW USERS",
    "SHOW CREATE TABLE system.processes", "SHOW TABLES FROM system", "SHOW ACCESS", "SHOW GRANTS",
    f"SHOW COLUMNS FROM {CLOSED}", "SHOW CREATE USER default", "DESCRIBE system.processes",
    "SELECT 1\0 UNION ALL SELECT 2", "SELECT " + "(" * 400 + "1" + ")" * 400,
    "SELECT " + "NOT " * 5000 + "1", "SELECT 1" + " + 1" * 30_000, "SELECT '" + "x" * 200_000 + "'",
]  # fmt: skip


ATTEMPTS = [
    *(f"SELECT * FROM {function}" for function in TABLE_FUNCTIONS),
    *(f"SELECT {rest}" for rest in SELECTS),
    *STATEMENTS,
]
TOGETHER = 12
"""After so many attempts it is seen that nothing is changed or broken."""


@pytest.mark.parametrize("first", range(0, len(ATTEMPTS), TOGETHER))
def test_an_attempt_is_refused_and_tells_nothing(world: World, first: int) -> None:
    for statement in ATTEMPTS[first : first + TOGETHER]:
        status, answer = world.analyst.ask(statement)
        assert status >= 400, (statement, answer)
        assert HIDDEN not in answer, statement
        assert "root:" not in answer, statement
        assert not OUTSIDE.exists(), statement


@pytest.mark.parametrize("name", [*TENANT_TABLES, *VIEWS])
def test_only_the_own_rows_are_there_however_a_query_asks(world: World, name: str) -> None:
    ask = world.analyst.ask
    for source in (name, f"`tollbook`.{name}", f"(SELECT * FROM {name})", f"{name} AS t"):
        assert ask(f"SELECT DISTINCT tenant FROM {source}") == (200, f"{MINE}\n")
    _, all_rows = ask(f"SELECT * FROM {name} ORDER BY ALL")
    assert "mine" in all_rows
    assert HIDDEN not in all_rows
    for condition in (f"tenant = '{RIVAL}'", f"tenant != '{MINE}'", f"tenant LIKE '%{RIVAL}'"):
        assert ask(f"SELECT count() FROM {name} WHERE {condition}") == (200, "0\n")
    minimum = f"SELECT min(tenant), max(tenant), uniqExact(tenant) FROM {name}"
    assert ask(minimum) == (200, f"{MINE}\t{MINE}\t1\n")
    scalar = f"SELECT (SELECT max(tenant) FROM {name}), '{RIVAL}' IN (SELECT tenant FROM {name})"
    assert ask(scalar) == (200, f"{MINE}\t0\n")
    joined = f"SELECT count() FROM {name} AS a JOIN {name} AS b ON a.tenant != b.tenant"
    assert ask(joined) == (200, "0\n")
    hostile = f"SELECT uniqExact(tenant) FROM {name} WHERE 0 OR 1 OR tenant = '{RIVAL}'"
    assert ask(hostile) == (200, "1\n")


@pytest.mark.parametrize("name", [*TENANT_TABLES, *VIEWS])
def test_no_condition_is_computed_for_a_row_of_another_tenant(world: World, name: str) -> None:
    """It would fail for such a row, and an error, or none, would tell what the row holds."""
    described = world.owner.query(f"DESCRIBE TABLE {name}").result_rows
    for column in [str(row[0]) for row in described]:
        text = f"ifNull(toString(`{column}`), '')"
        for trap in (
            f"intDiv(10, position({text}, '{HIDDEN}') = 0) = 10",
            f"tenant != '' AND intDiv(10, position({text}, '{HIDDEN}') = 0) = 10",
            f"ignore(intDiv(1, position({text}, '{HIDDEN}') = 0)) = 0",
        ):
            query = f"SELECT uniqExact(tenant) FROM {name} WHERE {trap}"
            assert world.analyst.ask(query) == (200, "1\n"), query
    trap = f"intDiv(10, tenant = '{MINE}')"
    for query in (
        f"SELECT uniqExact(tenant) FROM (SELECT *, {trap} AS t FROM {name}) WHERE t",
        f"SELECT uniqExact(tenant) FROM (SELECT tenant FROM {name} GROUP BY tenant, {trap})",
    ):
        assert world.analyst.ask(query) == (200, "1\n"), query


def test_no_sum_overflows_by_a_row_of_another_tenant(world: World) -> None:
    """The engine computes sums of decimals for whole columns, whatever comes before them."""
    for column, name in (("sum", "usage_windows"), ("value", "usage_daily")):
        for condition in ("{} >= 0", "tenant != '' AND {} >= 0", "NOT ignore({})"):
            trap = condition.format(f"{column} * toDecimal128(100000000, 0)")
            query = f"SELECT uniqExact(tenant) FROM {name} WHERE {trap}"
            assert world.analyst.ask(query) == (200, "1\n"), query


def test_an_error_quotes_own_values_only(world: World) -> None:
    status, answer = world.analyst.ask("SELECT sum(toUInt64(id)) FROM usage_events WHERE id != ''")
    assert status == 400
    assert "mine" in answer
    assert HIDDEN not in answer


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT * FROM numbers(100000000000)", "396"),
        ("SELECT groupArray(number) FROM numbers(100000000000)", "241"),
        ("SELECT * FROM generateSeries(1, 1000000000000)", "396"),
        ("SELECT length(range(10000000000))", "69"),
        ("SELECT repeat('x', 10000000000)", "131"),
        ("SELECT arrayMap(x -> repeat('a', 1000000), range(10000))", "241"),
    ],
)
def test_what_would_take_the_machine_ends_at_a_bound(world: World, query: str, code: str) -> None:
    status, answer = world.analyst.ask(query)
    assert status >= 400
    assert f"Code: {code}." in answer
    assert (status == CUT_SHORT) == (code == "396")


def test_endless_queries_end_in_time_and_leave_the_owner_room(world: World) -> None:
    answers: list[tuple[int, str]] = []
    endless = "SELECT count() FROM generateSeries(1, 9000000000000000) WHERE cityHash64({}) = 0"

    def ask() -> None:
        answers.append(world.analyst.ask(endless.format("generate_series")))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    for _ in range(20):
        assert world.owner.command("SELECT 1") == 1
    for thread in asking:
        thread.join()
    assert [status for status, _ in answers] == [408] * 2


def test_what_comes_beside_the_statement_changes_nothing(world: World) -> None:
    count = "SELECT uniqExact(tenant) FROM usage_windows"

    def ask(statement: str | bytes = count, **params: str) -> tuple[int, str]:
        status, answer = world.analyst.ask(statement, params=params)
        return status, answer[:10]

    assert ask(additional_table_filters="{}") == (500, "Code: 164.")
    assert ask(readonly="0") == (500, "Code: 164.")
    assert ask(max_execution_time="0") == (500, "Code: 164.")
    assert ask(database="system")[0] == 403
    assert ask(role="owner")[0] == 501
    assert ask("SELECT * FROM {t:Identifier}", param_t=CLOSED)[0] == 403
    assert ask("SELECT count() FROM usage_events WHERE {c:Identifier}", param_c="1")[0] == 403
    text = f"x' OR 1 = 1 OR tenant = '{RIVAL}"
    assert ask("SELECT {t:String} FROM usage_progress LIMIT 0", param_t=text) == (200, "")
    assert ask(session_id="shared", query_id="one") == (200, "1\n")
    assert ask(session_id="shared", query_id="one", session_check="1") == (200, "1\n")
    assert world.analyst.ask(b"", method="GET", params={"query": count}) == (200, "1\n")


def test_no_table_comes_with_a_query(world: World) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    params = {"query": "SELECT * FROM t", "t_structure": "a UInt8 DEFAULT file('/etc/passwd')"}
    status, answer = world.analyst.ask(form, headers=headers, params=params)
    assert (status, answer[:10]) == (500, "Code: 164.")


def test_a_session_of_the_owner_is_not_lent_to_an_analyst(world: World) -> None:
    owner = Login(world.analyst.host, world.analyst.port, "owner", _password(world.stack))
    session = {"session_id": "of the owner"}
    secret = f"CREATE TEMPORARY TABLE kept AS SELECT '{HIDDEN}' AS word"
    assert owner.ask(secret, params=session)[0] == 200
    status, answer = world.analyst.ask("SELECT * FROM kept", params=session)
    assert status == 403
    assert HIDDEN not in answer


@pytest.mark.parametrize(
    ("user", "key"),
    [
        (None, "tb_wrong"), (None, ""), (None, "tb_of_the_rival"), ("owner", None),
        (f"analyst_{RIVAL}_000000000000", None), ("default", ""), ("", None), ("analyst", None),
    ],
)  # fmt: skip
def test_no_login_but_the_right_one_gets_in(
    world: World, user: str | None, key: str | None
) -> None:
    right = world.analyst
    other = Login(
        right.host,
        right.port,
        right.user if user is None else user,
        right.key if key is None else key,
    )
    status, answer = other.ask("SELECT 1")
    assert (status, "Code: 516." in answer) == (403, True)


def test_windows_of_any_size_are_of_the_own_rows(world: World) -> None:
    query = "SELECT uniqExact(tenant), any(tenant), sum(value) FROM usage_by_window(seconds = 900)"
    assert world.analyst.ask(query) == (200, f"1\t{MINE}\t{sum(range(ROWS))}\n")
    refused = "SELECT * FROM usage_by_window(seconds = (SELECT count() FROM usage_identities))"
    assert world.analyst.ask(refused)[0] == 403


def test_ordinary_reading_works(world: World) -> None:
    client = world.analyst.connect()
    rows = client.query(
        "WITH per AS (SELECT subject, sum(value) AS used, count(DISTINCT meter) AS meters"
        " FROM usage_daily GROUP BY subject)"
        " SELECT sum(used), quantileExact(0.5)(used), max(meters), sumIf(used, used > 1e9)"
        " FROM per WHERE used >= {least:Decimal(38, 12)}",
        parameters={"least": 0},
    ).result_rows
    assert rows[0][0] == sum(range(ROWS))
    assert rows[0][3] == Decimal(0)
    frame = client.query_df("SELECT * FROM events ORDER BY time LIMIT 3")
    assert list(frame["tenant"]) == [MINE] * 3
    names = {row[0] for row in client.query("SHOW TABLES").result_rows}
    assert names == set(READABLE)
    described = client.query("DESCRIBE TABLE usage_hourly").result_rows
    assert described[0][0] == "tenant"
    assert "tenant = " in client.command("EXPLAIN SELECT count() FROM usage_windows")
    client.close()


def _password(stack: Stack) -> str:
    return stack.clickhouse_url.partition("://owner:")[2].partition("@")[0]
